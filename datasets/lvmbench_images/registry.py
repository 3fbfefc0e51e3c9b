"""What all sets of faces name alike, in one sense: Male is Male everywhere, and a label says who decided it.

Where a set has a column of these, it takes the attribute from here; the classes are in one order, and 1 is "has it".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lvmbench import Attribute

IMPRESSION = "an impression of appearance"  # of annotators or of a program, never of the person
OLD = 45  # years: from here on a face is not Young
HAIR_COLORS = ("black", "brown", "blond", "gray")

MEN = frozenset({"male", "males", "m", "man", "men"})
WOMEN = frozenset({"female", "females", "f", "woman", "women"})
OF_GENDER = frozenset({"gender", "sex"})  # columns whose words tell; their numbers may mean either
OF_MEN = frozenset({"male", "man", "is_male", "is_man", "ismale", "isman"})
OF_WOMEN = frozenset({"female", "woman", "is_female", "is_woman", "isfemale", "iswoman"})


def male(source: str) -> Attribute:
    """Return whether a face looks like a man's."""
    return Attribute("Male", "binary", source=source, note=IMPRESSION)


def young(source: str, rule: str = f"younger than {OLD}") -> Attribute:
    """Return whether a face looks young, with the rule that decides it."""
    return Attribute("Young", "binary", source=source, note=rule)


def age(source: str, bins: tuple[str, ...] = ()) -> Attribute:
    """Return the age that a face looks: years, or bins in their order."""
    return Attribute("age", "ordinal", bins, unit="" if bins else "years", source=source, note=IMPRESSION)


def race(source: str, classes: tuple[str, ...]) -> Attribute:
    """Return the race that was put down for a face: each set has its own classes, which do not compare."""
    return Attribute("race", "categorical", classes, source=source, note=IMPRESSION)


def hair_color(source: str, note: str) -> Attribute:
    """Return the colour of the hair, with the note that says where it is missing."""
    return Attribute("hair_color", "categorical", HAIR_COLORS, source=source, note=note)


def unify(attributes: Sequence[Attribute], values: Tensor) -> tuple[tuple[Attribute, ...], Tensor]:
    """Return the columns of a table with its column of gender, if there is one, as ``Male``: float32 [N, A].

    It is known by its name and its words (gender, sex: male and female, m and f, man and woman), or by a name that
    says what yes means (is_male, female). Numbers under ``gender`` stay as they are: which is which is not known. So
    does any other such column of a table that has one named Male.
    """
    senses = {place: sense for place, a in enumerate(attributes) if (sense := _sense(a)) is not None}
    named = [place for place, attribute in enumerate(attributes) if attribute.name == "Male"]
    chosen = [place for place in named or senses if place in senses][:1]
    unified, turned = list(attributes), values.clone()
    for place in chosen:
        note = f"{IMPRESSION}, from the column '{attributes[place].name}'"
        unified[place] = replace(attributes[place], name="Male", kind="binary", classes=(), note=note)
        turned[:, place] = _turned(values[:, place], senses[place])
    return tuple(unified), turned


def _sense(attribute: Attribute) -> tuple[float, ...] | None:
    """Return what each value of a column says of Male, None where it says nothing of it for certain."""
    name = re.sub(r"[^a-z]+", "_", attribute.name.casefold()).strip("_")
    words = [word.casefold() for word in attribute.classes]
    if name not in OF_GENDER | OF_MEN | OF_WOMEN or not _is_by_the_rules(attribute):
        return None
    if words:
        known = all(word in MEN | WOMEN for word in words) and not MEN.isdisjoint(words)
        return tuple(float(word in MEN) for word in words) if known and not WOMEN.isdisjoint(words) else None
    return None if name in OF_GENDER else (0.0, 1.0) if name in OF_MEN else (1.0, 0.0)


def _is_by_the_rules(attribute: Attribute) -> bool:
    """Return whether a column is of the kind that it has unless its user asks for another."""
    several = attribute.kind == "categorical" and len(attribute.classes) > 2  # Male and male are two words
    return attribute.kind == "binary" or several


def _turned(values: Tensor, sense: tuple[float, ...]) -> Tensor:
    """Return what each label says of Male, NaN where it is missing: [N]."""
    missing = values.isnan()
    male = torch.tensor(sense, dtype=values.dtype)[values.nan_to_num().long()]
    return male.masked_fill(missing, float("nan"))
