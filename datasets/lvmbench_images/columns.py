"""What the columns of a person's own table are for: the picture's name, its split, who is on it, and attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lvmbench import Attribute, DataError, Finding, UsageError, read_labels, texts
from lvmbench_images.match import Index
from lvmbench_images.registry import unify
from lvmbench_images.table import PARTS, UNDECIDED, Labels
from lvmbench_images.walk import SUFFIXES

FILES = re.compile(r"(file|image|img|picture|pic|photo|path)s?(_?(id|name|path|file|number))?")
SPLITS = ("split", "partition", "subset")
IDENTITIES = ("identity", "identity_id", "person_id", "subject_id", "individual_id", "celebrity", "celeb_id")
PERHAPS = ("person", "subject", "individual")  # of more than so many values people, else what a picture shows
MANY = 20
WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")  # 007 is a name
UNNAMED = re.compile(r"|unnamed:.*|index|level_\d+")  # what pandas calls an index
CLAIMS, DOUBTFUL = 2, 5  # ranks of what is called a file, and of what may only count or repeat
CODES = {"0": "train", "1": "val", "2": "test"}  # as CelebA writes it


@dataclass(frozen=True)
class Roles:
    """The columns of a table that are no attributes; each may be asked for by name."""

    file: str | None = None
    split: str | None = None
    identity: str | None = None


@dataclass(frozen=True)
class Named:
    """The rows of a table with what they name: the one picture of each row, or "" and why there is none, [M]."""

    file: str
    cells: Sequence[str]
    pictures: Sequence[str]
    several: Sequence[str]


def named_pictures(table: pd.DataFrame, index: Index, where: str, asked: str | None) -> Named:
    """Return what the rows name: by the asked column, else by the likeliest one, and of these the most telling.

    Cells with the suffix of a picture are likelier than a column that is called file, image or the like, this than
    other words, and these than numbers. Numbers that count or repeat, and those without a name, are taken for pictures
    only when they are asked for, or are called so and no other column could be meant.

    Raises:
        UsageError: if the asked column does not exist, two columns name as many pictures, but others, or only such
            numbers name any.
        DataError: if no column names any.
    """
    if asked is not None:
        return _named(table, checked(table, asked, where, "file"), index)
    counts = {name: len(_pictures(table[name], index)) for name in table.columns}
    ranks = {name: _rank(name, texts(table[name])) for name, count in counts.items() if count}
    if not ranks:
        raise DataError(
            f"{where}: no column names a picture. There are: {', '.join(table.columns)}. Say which one is to, "
            "as file=column, and give the folder or zip that holds its pictures."
        )
    first = min(ranks.values())
    likeliest = {name: counts[name] for name, rank in ranks.items() if rank == first}
    may_count = first == CLAIMS and all(_may_count(texts(table[name])) for name in likeliest)
    if first == DOUBTFUL or (may_count and len(ranks) > 1):
        name = max(likeliest, key=lambda name: likeliest[name])
        raise UsageError(
            f"{where}: no column names pictures for certain: '{name}' may only count or measure. If its numbers are "
            f"the names of pictures, say so: file='{name}'."
        )
    most = max(likeliest.values())
    best = [_named(table, name, index) for name, count in likeliest.items() if count == most]
    if any(list(column.pictures) != list(best[0].pictures) for column in best):
        names = " and ".join(f"'{column.file}'" for column in best)
        raise UsageError(
            f"{where}: {names} name {most:,} pictures each, and not the same. Choose: file={best[0].file}."
        )
    return best[0]


def _rank(name: str, cells: Sequence[str]) -> int:
    """Return how likely a column is to name pictures: 0 the likeliest."""
    present = [cell for cell in cells if cell]
    is_called = bool(FILES.fullmatch(_folded(name)))
    if 2 * sum(cell.lower().endswith(SUFFIXES) for cell in present) > len(present):
        return 0 if is_called else 1
    if is_called:
        return CLAIMS
    if not all(NUMBER.fullmatch(cell) for cell in present):
        return 3
    return DOUBTFUL if UNNAMED.fullmatch(_folded(name)) or _may_count(cells) else 4


def _may_count(cells: Sequence[str]) -> bool:
    """Return whether cells are numbers that count the rows, or repeat."""
    present = [cell for cell in cells if cell]
    if not all(NUMBER.fullmatch(cell) for cell in present):
        return False
    values = {int(cell) for cell in present}
    return max(values) - min(values) + 1 == len(values) or len(values) < len(present)


def _pictures(column: pd.Series[Any], index: Index) -> set[str]:
    """Return the pictures that a column names."""
    try:
        values = pd.Series(column.unique())
    except TypeError:  # lists
        return set()
    fit = (index.find(cell) for cell in texts(values))
    return {found[0] for found in fit if len(found) == 1}


def _named(table: pd.DataFrame, column: str, index: Index) -> Named:
    cells = texts(table[column])
    fit = [index.find(cell) for cell in cells]
    pictures = [found[0] if len(found) == 1 else "" for found in fit]
    several = [", ".join(map(repr, found[:3])) if len(found) > 1 else "" for found in fit]
    return Named(column, cells, pictures, several)


def checked(table: pd.DataFrame, column: str, where: str, option: str) -> str:
    """Return a column that was asked for.

    Raises:
        UsageError: if it does not exist.
    """
    if column not in table.columns:
        raise UsageError(
            f"{where}: {option}={column}: no such column. There are: {', '.join(table.columns)}."
        )
    return column


def split_column(table: pd.DataFrame, where: str, asked: str | None) -> str | None:
    """Return the column that says the split, None where there is none."""
    return checked(table, asked, where, "split") if asked is not None else _first(table, SPLITS)


def identity_column(table: pd.DataFrame, where: str, asked: str | None) -> tuple[str | None, list[Finding]]:
    """Return the column that says who is on a picture, None where there is none, and one that may say it."""
    if asked is not None:
        return checked(table, asked, where, "identity"), []
    sure, perhaps = _first(table, IDENTITIES), _first(table, PERHAPS)
    if sure is not None or perhaps is None or len(set(texts(table[perhaps])) - {""}) > MANY:
        return sure or perhaps, []
    told = (
        f"an attribute, as it has at most {MANY} values; if it says who is on a picture: identity='{perhaps}'"
    )
    return None, [Finding("column that may name people", f"{where}: '{perhaps}'", "noted", told)]


def _first(table: pd.DataFrame, names: Sequence[str]) -> str | None:
    return next((c for name in names for c in table.columns if _folded(c) == name), None)


def _folded(column: str) -> str:
    return re.sub(r"[\s-]+", "_", column.strip().casefold())


def part(word: str, *, coded: bool = False) -> int | None:
    """Return the place in ``PARTS`` of a word, undecided for none, None for one that is not known.

    0, 1 and 2 are words where ``coded`` says so.
    """
    folded = word.casefold()
    if not folded:
        return UNDECIDED
    code = CODES.get(_code(folded)) if coded else None
    known = code or next((name for name, words in WORDS.items() if folded in words), None)
    return None if known is None else PARTS.index(known)


def _code(word: str) -> str:
    return word.removesuffix(".0")  # pandas writes 1.0 where a cell of the column is empty


def parts(
    table: pd.DataFrame, column: str, lines: Sequence[str], *, asked: bool
) -> tuple[NDArray[np.int8], list[Finding]]:
    """Return the split of each row, and the rows that say none: [M].

    0, 1 and 2 are splits in a column that was asked for or is named partition, or where there are all three of them.

    Raises:
        DataError: for a word that is not known; names the row.
    """
    words = texts(table[column])
    coded = asked or _folded(column) == "partition" or set(map(_code, words)) - {""} == set(CODES)
    each = {word: part(word, coded=coded) for word in set(words)}
    for word, line in zip(words, lines, strict=True):
        if each[word] is None:
            known = ", ".join(name for names in WORDS.values() for name in names)
            told = f"{line}, column '{column}': '{word}' is no split. Known: {known}; 0, 1, 2."
            ways = (
                f" If it says no split: kinds={{'{column}': 'categorical'}}; if 0, 1, 2 do: split='{column}'."
            )
            raise DataError(told if asked else told + ways)
    found = np.array([each[word] for word in words], dtype=np.int8)
    told = f"column '{column}' is empty: drawn"
    return found, [
        Finding("row without a split", lines[i], "changed", told) for i in np.flatnonzero(found < 0).tolist()
    ]


def attributes_of(
    table: pd.DataFrame, where: str, source: str, kinds: Mapping[str, Any]
) -> tuple[tuple[Attribute, ...], Labels, list[Finding]]:
    """Return the columns as attributes, with gender as Male, their labels [M, A], and the columns left out.

    Raises:
        UsageError: if ``kinds`` names no column or no kind.
        DataError: if a value is not what its column is said to be, or nothing is left; names row and column.
    """
    columns = read_labels(table, kinds, where)
    attributes, labels = unify(columns.attributes, columns.values)
    left = [
        Finding("column left out", f"{where}: '{c}'", "left out", why) for c, why in columns.left_out.items()
    ]
    return tuple(replace(attribute, source=source) for attribute in attributes), labels.numpy(), left
