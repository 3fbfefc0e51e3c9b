"""A map of z: its two main axes, with pictures at their places and coloured by attribute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lvmbench import Evaluation, NotApplicable, Section
from lvmbench_metrics.codes import class_labels, finite_codes
from lvmbench_metrics.pages.common import best_held, names, need, percent, real
from lvmbench_metrics.pages.figures import (
    BLUE,
    FAINT,
    GAP,
    MUTED,
    SMALL,
    figure,
    painted,
    panels,
    tiles,
    titled,
)
from lvmbench_metrics.posterior import space_of

if TYPE_CHECKING:
    from PIL.Image import Image

TITLE = "A map of z"
CELLS = (14, 10)
POINTS = 2_000
EDGE = 0.005  # share of points at each side that are not on the map


def section(ev: Evaluation) -> Section:
    """Show the plane in which codes vary most, as pictures and coloured by the values that z holds best."""
    need(ev, "codes")
    space = ev.shared(space_of)
    if len(space.spread) < 2:
        raise NotApplicable("z has a single dimension that varies: there is no plane to show")
    # eigenvalues rise, so that the last two axes are the main ones
    at = ((finite_codes(ev, "test", "z") - space.mean) @ space.axes)[:, [-1, -2]]
    share = float(space.spread[-2:].square().sum() / space.spread.square().sum())
    text = (
        f"The plane in which codes vary most; it holds {percent(share)} of their variance, so that "
        "what looks mixed here may be apart in other directions. Pictures stand where their codes lie: neighbours "
        "should be alike."
    )
    images = {"atlas.png": _atlas(ev, at)}
    text += "\n\n![pictures at their places on the map](atlas.png)"
    if "labels" in ev.capabilities:
        text += (
            "\n\nThe same plane, a point for each picture, blue where it bears a value that z holds well. A value that "
            "is named well by clusters stands together.\n\n![the map coloured by attribute](map.png)"
        )
        images["map.png"] = _coloured(ev, at)
    return Section(TITLE, text, images)


def _frame(at: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners of the part of the plane that is shown: [2] each."""
    return at.quantile(EDGE, dim=0), at.quantile(1 - EDGE, dim=0)


def _atlas(ev: Evaluation, at: Tensor) -> Image:
    low, high = _frame(at)
    cells = torch.tensor(CELLS, device=at.device)
    place = (at - low) / (high - low).clamp(min=1e-12) * cells
    cell = place.floor().long()
    inside = ((cell >= 0) & (cell < cells)).all(1)
    off = (place - cell - 0.5).square().sum(1)
    chosen: dict[tuple[int, int], int] = {}
    for i in off.argsort().tolist():
        if inside[i]:
            chosen.setdefault((int(cell[i, 0]), int(cell[i, 1])), i)
    pictures = tiles(real(ev, torch.tensor(list(chosen.values()))), max(1, round(56 / ev.schema.shape[2])))
    h, w = pictures.shape[1:3]
    fig = figure(CELLS[0] * (w + GAP) + GAP, CELLS[1] * (h + GAP) + GAP)
    axes = fig.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, fig.bbox.width)
    axes.set_ylim(0, fig.bbox.height)
    axes.axis("off")
    for (x, y), tile in zip(chosen, pictures, strict=True):
        left, low_edge = GAP + x * (w + GAP), GAP + y * (h + GAP)
        axes.imshow(tile, extent=(left, left + w, low_edge, low_edge + h), interpolation="nearest")
    axes.set_xlim(0, fig.bbox.width)
    axes.set_ylim(0, fig.bbox.height)
    return painted(fig)


def _coloured(ev: Evaluation, at: Tensor) -> Image:
    values = best_held(ev)
    labels, some = class_labels(ev, "test")[:POINTS], at[:POINTS].cpu().numpy()
    low, high = (corner.tolist() for corner in _frame(at))
    fig, charts = panels(len(values))
    for axes, (attribute, c), label in zip(charts, values, names(values), strict=True):
        own = labels[:, ev.schema.index(attribute.name)]
        bears, lacks = ((own == c).cpu().numpy(), ((own >= 0) & (own != c)).cpu().numpy())
        axes.scatter(some[lacks, 0], some[lacks, 1], s=4, color=FAINT, linewidths=0)
        axes.scatter(some[bears, 0], some[bears, 1], s=5, color=BLUE, linewidths=0, alpha=0.8)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.set_xticks([])
        axes.set_yticks([])
        titled(axes, label, f"{int(bears.sum())} of {int(bears.sum() + lacks.sum())}")
    charts[0].set_ylabel("second axis", fontsize=SMALL, color=MUTED)
    charts[0].set_xlabel("first axis", fontsize=SMALL, color=MUTED)
    fig.tight_layout(pad=0.8, h_pad=1.2, w_pad=1.0)
    return painted(fig)
