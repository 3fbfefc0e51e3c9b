"""The colours, and how the factors choose among them: everything [B, 3, 1, 1] in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lvmbench_faces.draws import Floats

SKIN = (  # ten swatches from light to dark, in the order of the Monk scale, evenly spaced to the eye
    "#fdebe1", "#f7d7c1", "#efc4a2", "#e4b088", "#d39a70", "#bd8259", "#a06947", "#815137", "#623b29", "#46291e",
)  # fmt: skip
HAIR = ("#211b1c", "#6b4226", "#e3bd6a", "#b5481e", "#b9babf")  # as HAIR_COLORS
IRIS = ("#6a3512", "#2f86dd", "#3f9f4a", "#8f979e")  # as EYE_COLORS
BACKGROUND = "#aab4b8"
CLOTHES = "#5f6b7c"

WHITE, BLACK, INK = "#ffffff", "#000000", "#1d1719"


def rgb(color: str) -> tuple[float, float, float]:
    """Return the three channels of ``#rrggbb`` in [0, 1]."""
    r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b


def column(values: Floats, device: torch.device) -> Tensor:
    """Return channels [B, 3] as what a canvas paints with: [B, 3, 1, 1]."""
    return torch.as_tensor(values, dtype=torch.float32, device=device)[:, :, None, None]


def flat(color: str, like: Tensor) -> Tensor:
    """Return one colour for all pictures, on the device of ``like``: [1, 3, 1, 1]."""
    return torch.tensor(rgb(color), device=like.device)[None, :, None, None]


def of_class(colors: Sequence[str], classes: Floats) -> Floats:
    """Return the colour of each class: [B] -> [B, 3]."""
    return np.array([rgb(color) for color in colors])[classes.astype(np.int64)]


def ramp(colors: Sequence[str], t: Floats) -> Floats:
    """Return the colour at a place in [0, 1] along a row of colours: [B] -> [B, 3]."""
    table = np.array([rgb(color) for color in colors])
    places = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(t, places, channel) for channel in table.T], axis=1)


def tinted(base: str, hue: Floats, light: Floats, chroma: float, spread: float) -> Floats:
    """Return a colour moved round the wheel of hues and up or down in lightness: [B] -> [B, 3]."""
    turns = 2 * math.pi * (hue[:, None] - np.array([0, 1 / 3, 2 / 3]))
    moved = np.array(rgb(base)) + chroma * np.cos(turns) + spread * light[:, None]
    return np.asarray(np.clip(moved, 0, 1))


def mixed(a: Floats, b: Floats | Sequence[float], share: Floats | float) -> Floats:
    """Return a moved towards b by a share of the way: [B, 3] -> [B, 3]."""
    share = share[:, None] if isinstance(share, np.ndarray) else share
    return a + share * (np.asarray(b) - a)


def colors(table: Mapping[str, Floats], background_std: float) -> dict[str, Floats]:
    """Return every colour of the faces: name -> [B, 3]."""
    skin = ramp(SKIN, table["skin_tone"])
    hair = of_class(HAIR, table["hair_color"]) * (1 + 0.12 * table["hair_shade"][:, None])
    old = (table["age"] - 18) / 62
    female = 1 - table["male"]
    natural = mixed(skin * np.array([0.93, 0.70, 0.68]), skin * np.array([0.90, 0.52, 0.52]), 0.6 * female)
    dark = mixed(skin, rgb("#7e1022"), 0.55)
    lips = mixed(natural, mixed(dark, rgb("#c2183c"), 0.75), table["lipstick"])
    iris = of_class(IRIS, table["eye_color"])
    return {
        "skin": skin,
        "shadow": skin * np.array([0.74, 0.62, 0.58]),
        "fold": skin * np.array([0.62, 0.48, 0.44]),
        "glow": mixed(skin, (1.0, 0.96, 0.90), 0.45),
        "blush": mixed(skin, (0.92, 0.35, 0.32), 0.5),
        "hair": np.clip(hair, 0, 1),
        "strand": np.clip(mixed(hair * 1.35, (1.0, 0.95, 0.85), 0.10), 0, 1),
        "depth": hair * 0.66,
        "brow": mixed(
            mixed(hair * 0.72, skin * 0.45, 0.25), rgb("#c9c9cc"), 0.75 * np.clip(2 * old - 1, 0, 1)
        ),
        "beard": mixed(hair * 0.92, skin * 0.6, 0.08),
        "temple": mixed(hair, rgb("#cfcfd2"), 0.8),
        "stubble": mixed(skin * 0.55, rgb("#4a5058"), 0.45),
        "lips": lips,
        "lips_dark": lips * np.array([0.72, 0.60, 0.62]),
        "lips_light": mixed(lips, (1.0, 0.9, 0.88), 0.28),
        "iris": iris,
        "iris_rim": iris * 0.5,
        "iris_glow": mixed(iris, (1.0, 1.0, 0.9), 0.3),
        "background": tinted(
            BACKGROUND,
            table["background_hue"],
            table["background_light"],
            background_std,
            background_std,
        ),
        "clothes": tinted(CLOTHES, table["clothes_hue"], table["clothes_light"], 0.10, 0.09),
    }
