"""A sheet of pictures of any data set, each over its labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw
from PIL.Image import registered_extensions
from PIL.ImageFont import FreeTypeFont, truetype
from torch import Tensor

from lvmbench.data import Attribute, Schema, Split
from lvmbench.errors import UsageError
from lvmbench.inspection import exact
from lvmbench.records import temporary_beside

COLUMNS, ROWS = 6, 4
TILE, GAP, HEADING, LINE, MOST = 170, 12, 44, 16, 8  # pixels; lines of a caption at most
PAPER, INK, QUIET = "#fbfaf8", "#26221f", "#5f5953"


def contact_sheet(title: str, schema: Schema, split: Split) -> Image.Image:
    """Return the first pictures of a split on a sheet, what is said of them below each."""
    shown = split.head(COLUMNS * ROWS)
    small = _font(12)
    captions = [_wrapped(caption_of(schema, labels), small) for labels in shown.labels]
    rows = [range(start, min(start + COLUMNS, len(shown))) for start in range(0, len(shown), COLUMNS)]
    heights = [TILE + GAP + LINE * (1 + max(len(captions[i]) for i in row)) for row in rows]
    sheet = Image.new("RGB", (GAP + COLUMNS * (TILE + GAP), HEADING + sum(heights) + GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    large = _font(17)
    pen.text((GAP, 12), _fitted(" ".join(title.split()), large, sheet.width - 2 * GAP), INK, large)
    top = HEADING
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = GAP + column * (TILE + GAP)
            tile = _tile(shown.images[i])
            sheet.paste(tile, (left + (TILE - tile.width) // 2, top + (TILE - tile.height) // 2))
            for line, text in enumerate(captions[i]):
                pen.text((left, top + TILE + 4 + line * LINE), text, QUIET, small)
        top += height
    return sheet


def check_sheet(path: Path) -> None:
    """Refuse a file that no contact sheet can be written to, before one is drawn.

    Raises:
        UsageError: if its folder does not exist, or its ending is that of no picture.
    """
    known = [suffix for suffix, kind in registered_extensions().items() if kind in Image.SAVE]
    if path.suffix.lower() not in known:
        raise UsageError(
            f"{path}: '{path.suffix}' is the ending of no picture that can be written. Name it .png or .jpg."
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent} for the contact sheet. Make it first.")


def write_sheet(title: str, schema: Schema, split: Split, path: Path) -> None:
    """Write a contact sheet to a file.

    Raises:
        UsageError: if the file cannot be written.
    """
    check_sheet(path)
    half = temporary_beside(path)
    try:
        contact_sheet(title, schema, split).save(half, registered_extensions()[path.suffix.lower()])
        half.replace(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the contact sheet cannot be written ({error}).") from error
    finally:
        half.unlink(missing_ok=True)


def caption_of(schema: Schema, labels: Tensor) -> list[str]:
    """Return what the labels of one picture say, a text each: [A]. Of yes and no what is so; nothing of the missing."""
    told = zip(schema.attributes, labels.tolist(), strict=True)
    known = [(attribute, label) for attribute, label in told if not math.isnan(label)]
    said = [" ".join(text.split()) for attribute, label in known if (text := _said(attribute, label))]
    return said or ["nothing is so" if known else "no labels"]


def _said(attribute: Attribute, label: float) -> str:
    if attribute.is_number:
        return f"{attribute.name} {exact(label)} {attribute.unit}".rstrip()
    if attribute.kind == "binary" and not attribute.classes:
        return attribute.name if label else ""
    return f"{attribute.name}: {attribute.classes[int(label)]}"


def _font(size: int) -> FreeTypeFont:
    """Return a font that has letters of many scripts."""
    return truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _wrapped(texts: Sequence[str], font: FreeTypeFont) -> list[str]:
    """Return texts one after another in lines that fit a tile, as many as there is room for."""
    lines = list(_lines([f"{text}," for text in texts[:-1]] + list(texts[-1:]), font))
    return lines if len(lines) <= MOST else [*lines[: MOST - 1], f"{lines[MOST - 1].rstrip(',')} …"]


def _lines(words: Sequence[str], font: FreeTypeFont) -> Iterator[str]:
    line = ""
    for word in words:
        joined = f"{line} {word}".strip()
        if line and font.getlength(joined) > TILE:
            yield line
            joined = word
        line = _fitted(joined, font, TILE)
    if line:
        yield line


def _fitted(text: str, font: FreeTypeFont, width: int) -> str:
    """Return a text, cut where it is wider than so many pixels."""
    if font.getlength(text) <= width:
        return text
    fits = next(n for n in range(len(text), -1, -1) if font.getlength(f"{text[:n]}…") <= width)
    return f"{text[:fits]}…"


def _tile(pixels: Tensor) -> Image.Image:
    """Return a picture as large as a tile: uint8 [C, H, W]."""
    array = pixels.numpy()
    picture = Image.fromarray(array.transpose(1, 2, 0) if len(array) == 3 else array[0])
    scale = TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return picture.resize(size, how).convert("RGB")
