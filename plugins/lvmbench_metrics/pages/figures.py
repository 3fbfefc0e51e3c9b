"""How the page draws: sheets of small pictures, charts in one style, colours that all can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

DPI = 100
INK, MUTED, FAINT = "#1f2933", "#5f6b7a", "#d5dae0"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"  # Okabe & Ito 2008
TILE = 64  # pixels that a small picture is shown at, at least
GAP, BAR = 4, 5  # pixels between pictures, and of the bar under one
LEFT, TOP, MARGIN = 218, 34, 12
TEXT, SMALL = 9.5, 8.5
LABEL, NOTE = 23, 31  # letters that fit beside pictures

Canvas = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """Pictures side by side [n, C, H, W], pixels in [0, 1], under a label; a mark is a bar under one: yes, no, none."""

    label: str
    pictures: Tensor
    note: str = ""
    marks: Sequence[bool | None] = ()


def sheet(rows: Sequence[Row], *, heads: Sequence[str] = (), left: int = LEFT, every: int = 0) -> Image:
    """Return rows of pictures with their labels; ``every`` so many pictures there is a wider gap."""
    canvas, lefts, height = _laid(rows, every)
    top = TOP if heads else MARGIN
    wide, high = left + canvas.shape[1] + MARGIN, top + canvas.shape[0] + MARGIN
    fig = figure(wide, high)
    axes = fig.add_axes((left / wide, MARGIN / high, canvas.shape[1] / wide, canvas.shape[0] / high))
    axes.imshow(canvas, interpolation="nearest")
    axes.axis("off")
    for i, row in enumerate(rows):
        middle = 1 - (top + i * height + (height - GAP) / 2) / high
        shift = 8 / high if row.note else 0
        fig.text(
            MARGIN / wide,
            middle + shift,
            _fitting(row.label, LABEL),
            va="center",
            fontsize=TEXT,
            color=INK,
            fontweight="bold",
            parse_math=False,
        )
        note = _fitting(row.note, NOTE)
        fig.text(
            MARGIN / wide, middle - 9 / high, note, va="center", fontsize=SMALL, color=MUTED, parse_math=False
        )
    for x, head in zip(lefts, heads, strict=False):
        place = (left + x + height / 2 - GAP) / wide
        fig.text(place, 1 - TOP / 2 / high, head, ha="center", va="center", fontsize=SMALL, color=MUTED)
    return painted(fig)


def _fitting(text: str, most: int) -> str:
    """Return a text that fits beside pictures, cut where it is too long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _laid(rows: Sequence[Row], every: int) -> tuple[Canvas, list[int], int]:
    """Return the pictures of all rows on one canvas, where each column begins, and the height of a row."""
    h, w = rows[0].pictures.shape[2:]
    scale = max(1, round(TILE / w))
    columns = max(len(row.pictures) for row in rows)
    bar = BAR if any(row.marks for row in rows) else 0
    lefts = [i * (scale * w + GAP) + (i // every * 4 * GAP if every else 0) for i in range(columns)]
    height = scale * h + bar + GAP
    canvas = np.full((len(rows) * height, lefts[-1] + scale * w, 3), 255, dtype=np.uint8)
    for i, row in enumerate(rows):
        for x, tile in zip(lefts, tiles(row.pictures, scale), strict=False):
            canvas[i * height : i * height + scale * h, x : x + scale * w] = tile
        for x, mark in zip(lefts, row.marks, strict=False):
            if mark is not None:
                place = slice(i * height + scale * h + 1, i * height + scale * h + bar)
                canvas[place, x : x + scale * w] = _rgb(BLUE if mark else ORANGE)
    return canvas, lefts, height


def tiles(pictures: Tensor, scale: int = 1) -> Canvas:
    """Return pictures in colour, each pixel so many pixels wide: [n, C, H, W] in [0, 1] -> [n, H', W', 3]."""
    levels = (pictures.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
    colour = np.repeat(levels, 3, axis=1) if levels.shape[1] == 1 else levels[:, :3]
    large: Canvas = colour.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    return large


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def figure(wide: float, high: float) -> Figure:
    """Return an empty figure of so many pixels, which belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(fig)
    return fig


def panels(count: int, columns: int = 4, size: tuple[int, int] = (225, 215)) -> tuple[Figure, list[Axes]]:
    """Return a figure of small charts in one style."""
    columns = min(columns, count)
    rows = -(-count // columns)
    fig = figure(columns * size[0], rows * size[1])
    grid = fig.subplots(rows, columns, squeeze=False)
    every: list[Axes] = list(grid.flat)
    for axes in every[count:]:
        axes.axis("off")
    for axes in every[:count]:
        styled(axes)
    return fig, every[:count]


def styled(axes: Axes) -> None:
    """Take from a chart what says nothing."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(labelsize=SMALL - 1, colors=MUTED, length=2)


def titled(axes: Axes, title: str, note: str = "") -> None:
    """Head a chart with its title, and what is to be known of it below that in a lighter line."""
    pad = 16 if note else 6
    axes.set_title(title, fontsize=TEXT, color=INK, fontweight="bold", loc="left", pad=pad, parse_math=False)
    if note:
        axes.text(
            0,
            1.03,
            note,
            transform=axes.transAxes,
            fontsize=SMALL - 0.5,
            color=MUTED,
            va="bottom",
            parse_math=False,
        )


def painted(fig: Figure) -> Image:
    """Return a figure as a picture."""
    from PIL import Image

    fig.canvas.draw()
    return Image.fromarray(np.asarray(fig.canvas.buffer_rgba())[:, :, :3].copy())  # type: ignore[attr-defined]
