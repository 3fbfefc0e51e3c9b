"""The contact sheet: what the faces look like, and what each attribute does to one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lvmbench_faces.draws import between
from lvmbench_faces.factors import BY_NAME, EYE_COLORS, FACIAL_HAIR, GLASSES, HAIR_COLORS, Table
from lvmbench_faces.renderer import render

if TYPE_CHECKING:
    from lvmbench_faces.dataset import Faces

TILE, GAP, COLUMNS, CAPTION, HEADING = 160, 10, 8, 24, 46
PAPER, INK, QUIET = "#fbfaf8", "#26221f", "#7a736c"
Values = dict[str, float]

PLAIN: Values = {  # the face on which attributes are shown one at a time
    "male": 0, "age": 27, "skin_tone": 0.28, "hair_color": 1, "hair_shade": 0, "bald": 0, "hair_length": 0.25,
    "hairline": 0.1, "bangs": 0, "wavy": 0, "eye_color": 1, "eye_narrow": 0.1, "glasses": 0, "brow_weight": 0.15,
    "brow_arch": 0.2, "nose_size": 0.15, "lip_size": 0.25, "smile": 0.1, "mouth_open": 0, "facial_hair": 0,
    "lipstick": 0, "chubby": 0.15, "face_length": 0, "azimuth": 0, "roll": 0, "pos_x": 0, "pos_y": 0, "scale": 1,
    "light_azimuth": -0.4, "light_intensity": 1, "background_hue": 0.55, "background_light": 0.3,
    "clothes_hue": 0.6, "clothes_light": 0,
}  # fmt: skip
MAN: Values = {"male": 1}
SWITCHES: tuple[tuple[str, Values], ...] = (
    ("(none of these)", {}),
    ("Male", MAN),
    ("not Young: 70 years", {"age": 70}),
    ("Chubby", {"chubby": 0.9}),
    ("Pale_Skin", {"skin_tone": 0.01}),
    ("skin_tone 5-6", {"skin_tone": 0.5}),
    ("skin_tone 9-10", {"skin_tone": 0.92}),
    ("Bald", {"bald": 1}),
    ("Black_Hair", {"hair_color": HAIR_COLORS.index("black")}),
    ("Blond_Hair", {"hair_color": HAIR_COLORS.index("blond")}),
    ("hair_color red", {"hair_color": HAIR_COLORS.index("red")}),
    ("Gray_Hair", {"hair_color": HAIR_COLORS.index("gray")}),
    ("Bangs", {"bangs": 1}),
    ("Wavy_Hair", {"wavy": 1}),
    ("Receding_Hairline", {"hairline": 0.9}),
    ("hair_length 0.8", {"hair_length": 0.8}),
    ("eye_color brown", {"eye_color": EYE_COLORS.index("brown")}),
    ("eye_color green", {"eye_color": EYE_COLORS.index("green")}),
    ("eye_color gray", {"eye_color": EYE_COLORS.index("gray")}),
    ("Narrow_Eyes", {"eye_narrow": 0.9}),
    ("Bushy_Eyebrows", {"brow_weight": 0.9}),
    ("Eyeglasses", {"glasses": GLASSES.index("clear")}),
    ("Eyeglasses (sun)", {"glasses": GLASSES.index("sun")}),
    ("Big_Nose", {"nose_size": 0.9}),
    ("Wearing_Lipstick", {"lipstick": 1}),
    ("Smiling", {"smile": 0.8}),
    ("Mouth_Slightly_Open", {"mouth_open": 0.8}),
    ("Smiling, open", {"smile": 0.9, "mouth_open": 0.8}),
    ("Male, stubble", {**MAN, "facial_hair": FACIAL_HAIR.index("stubble")}),
    ("Male, Mustache", {**MAN, "facial_hair": FACIAL_HAIR.index("moustache")}),
    ("Male, Goatee", {**MAN, "facial_hair": FACIAL_HAIR.index("goatee")}),
    ("Male, beard", {**MAN, "facial_hair": FACIAL_HAIR.index("beard")}),
)
TURNED = ("age", "skin_tone", "smile", "azimuth", "light_azimuth")
LONG_HAIR: Values = {"hair_length": 0.75, "lipstick": 1, "brow_arch": 0.8}


@dataclass(frozen=True)
class Section:
    """A heading with tiles under it."""

    title: str
    captions: Sequence[str]
    images: Tensor


def contact_sheet(faces: Faces) -> Image.Image:
    """Return a sheet of faces of a data set, of single attributes switched, and of factors turned."""
    sections = list(_sections(faces))
    width = GAP + COLUMNS * (TILE + GAP)
    sheet = Image.new("RGB", (width, GAP + sum(_height(section) for section in sections)), PAPER)
    y = GAP
    for section in sections:
        _draw_section(sheet, section, y)
        y += _height(section)
    return sheet


def _sections(faces: Faces) -> Iterator[Section]:
    sample = faces.factors(np.arange(3 * COLUMNS))
    first = {name: values[:COLUMNS] for name, values in sample.items()}
    yield Section(f"Faces, mode {faces.mode}", _people(sample), _draw(faces, sample))
    side = f"{faces.size} by {faces.size}"
    yield Section(f"The first row as a model sees it, {side} pixels", _people(first), faces.render(first))
    captions, values = zip(*SWITCHES, strict=True)
    yield Section("One face, one attribute at a time", captions, _draw(faces, _table(values)))
    for name in TURNED:
        stops = between(np.linspace(0, 1, COLUMNS), BY_NAME[name].low, BY_NAME[name].high)
        turned = _table([{**LONG_HAIR, name: float(stop)} for stop in stops])
        unit = f", {BY_NAME[name].unit}" if BY_NAME[name].unit else ""
        yield Section(f"{name}{unit}", [f"{stop:.3g}" for stop in stops], _draw(faces, turned))


def _table(changes: Sequence[Values]) -> Table:
    return {name: np.array([{**PLAIN, **change}[name] for change in changes], dtype=float) for name in PLAIN}


def _people(table: Table) -> list[str]:
    sex = np.where(table["male"] == 1, "man", "woman")
    hair = [
        "bald" if b else HAIR_COLORS[int(c)] for b, c in zip(table["bald"], table["hair_color"], strict=True)
    ]
    return [f"{s}, {age:.0f}, {h}" for s, age, h in zip(sex, table["age"], hair, strict=True)]


def _draw(faces: Faces, table: Table) -> Tensor:
    return render(table, TILE, eye_scale=faces.eye_scale, background_std=faces.background_std)


def _height(section: Section) -> int:
    return HEADING + -(-len(section.captions) // COLUMNS) * (TILE + CAPTION + GAP)


def _draw_section(sheet: Image.Image, section: Section, y: int) -> None:
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, y + 12), section.title, INK, ImageFont.load_default(20))
    for i, (caption, image) in enumerate(zip(section.captions, section.images, strict=True)):
        row, column = divmod(i, COLUMNS)
        left, top = GAP + column * (TILE + GAP), y + HEADING + row * (TILE + CAPTION + GAP)
        tile = Image.fromarray(image.permute(1, 2, 0).numpy())
        sheet.paste(tile.resize((TILE, TILE), Image.Resampling.NEAREST), (left, top))
        middle = (left + TILE // 2, top + TILE + 5)
        pen.text(middle, caption, QUIET, ImageFont.load_default(14), anchor="ma")
