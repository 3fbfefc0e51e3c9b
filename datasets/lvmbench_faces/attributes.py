"""What people would name in a face: each attribute is derived from the factors by a rule of one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvmbench import Attribute
from lvmbench_faces.draws import Floats
from lvmbench_faces.factors import EYE_COLORS, FACIAL_HAIR, GLASSES, HAIR_COLORS, OLD, SMILE, TRAIT, Table

Mask = NDArray[np.bool_]
Seen = Callable[[Table], Mask]
SKIN_CLASSES = ("swatch 1-2", "swatch 3-4", "swatch 5-6", "swatch 7-8", "swatch 9-10")
PALE = 0.03758  # 4.29 % of the celeba distribution of skin_tone lie below, as in CelebA
OPEN = 0.3  # the middle of the gap of mouth_open


@dataclass(frozen=True)
class Rule:
    """How an attribute follows from the factors: ``label`` [N]; where ``seen`` is false it is missing."""

    attribute: Attribute
    factor: str
    text: str
    label: Callable[[Table], Floats | Mask]
    seen: Seen | None = None

    def labels(self, table: Table) -> Floats:
        """Return the labels of some faces, NaN where the picture cannot show it: [N]."""
        values = np.asarray(self.label(table), dtype=np.float64)
        return values if self.seen is None else np.where(self.seen(table), values, np.nan)


def _has_hair(table: Table) -> Mask:
    return np.asarray(table["bald"] == 0)


def _shows_hairline(table: Table) -> Mask:
    return np.asarray((table["bald"] == 0) & (table["bangs"] == 0))


def _shows_eyes(table: Table) -> Mask:
    return np.asarray(table["glasses"] != GLASSES.index("sun"))


NOTES: dict[Seen, str] = {
    _has_hair: "missing on a bald head",
    _shows_hairline: "missing on a bald head and under bangs",
    _shows_eyes: "missing behind sunglasses",
}


def _binary(
    name: str,
    factor: str,
    text: str,
    label: Callable[[Table], Mask],
    seen: Seen | None = None,
) -> Rule:
    return Rule(Attribute(name, "binary", note=NOTES[seen] if seen else ""), factor, text, label, seen)


def _is(name: str, factor: str, classes: tuple[str, ...], value: str) -> Rule:
    number = classes.index(value)
    seen = _has_hair if factor == "hair_color" else None
    return _binary(name, factor, f"{factor} is {value}", lambda t: t[factor] == number, seen)


def _flag(name: str, factor: str, seen: Seen | None = None) -> Rule:
    return _binary(name, factor, f"{factor} is yes", lambda t: t[factor] == 1, seen)


def _above(name: str, factor: str, threshold: float, seen: Seen | None = None) -> Rule:
    return _binary(name, factor, f"{factor} > {threshold:g}", lambda t: t[factor] > threshold, seen)


def _class(name: str, classes: tuple[str, ...], seen: Seen) -> Rule:
    attribute = Attribute(name, "categorical", classes, note=NOTES[seen])
    return Rule(attribute, name, f"{name} itself", lambda t: t[name], seen)


RULES: tuple[Rule, ...] = (
    _flag("Male", "male"),
    _binary("Young", "age", f"age < {OLD:g}", lambda t: t["age"] < OLD),
    _is("Black_Hair", "hair_color", HAIR_COLORS, "black"),
    _is("Blond_Hair", "hair_color", HAIR_COLORS, "blond"),
    _is("Brown_Hair", "hair_color", HAIR_COLORS, "brown"),
    _is("Gray_Hair", "hair_color", HAIR_COLORS, "gray"),
    _flag("Bald", "bald"),
    _flag("Bangs", "bangs", _has_hair),
    _flag("Wavy_Hair", "wavy", _has_hair),
    _above("Receding_Hairline", "hairline", TRAIT.threshold, _shows_hairline),
    _binary("Eyeglasses", "glasses", "glasses is not none", lambda t: t["glasses"] > 0),
    _above("Smiling", "smile", SMILE.threshold),
    _above("Mouth_Slightly_Open", "mouth_open", OPEN),
    _is("No_Beard", "facial_hair", FACIAL_HAIR, "none"),
    _is("Mustache", "facial_hair", FACIAL_HAIR, "moustache"),
    _is("Goatee", "facial_hair", FACIAL_HAIR, "goatee"),
    _binary("Pale_Skin", "skin_tone", f"skin_tone < {PALE:g}", lambda t: t["skin_tone"] < PALE),
    _flag("Wearing_Lipstick", "lipstick"),
    _above("Bushy_Eyebrows", "brow_weight", TRAIT.threshold),
    _above("Big_Nose", "nose_size", TRAIT.threshold),
    _above("Chubby", "chubby", TRAIT.threshold),
    _above("Narrow_Eyes", "eye_narrow", TRAIT.threshold, _shows_eyes),
    _class("hair_color", HAIR_COLORS, _has_hair),
    _class("eye_color", EYE_COLORS, _shows_eyes),
    Rule(
        Attribute("skin_tone", "ordinal", SKIN_CLASSES, note="tone of the skin, not ethnicity"),
        "skin_tone",
        "skin_tone in five equal bins",
        lambda t: np.minimum(np.floor(t["skin_tone"] * 5), 4),
    ),
    Rule(Attribute("age", "ordinal", unit="years"), "age", "age itself", lambda t: t["age"]),
)
ATTRIBUTES = tuple(rule.attribute for rule in RULES)


def labels(table: Table) -> NDArray[np.float32]:
    """Return what is said of some faces, NaN where a picture cannot show it: name -> [N] to [N, A]."""
    return np.stack([rule.labels(table) for rule in RULES], axis=1).astype(np.float32)
