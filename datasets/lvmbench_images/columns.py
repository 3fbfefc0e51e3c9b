"""What the columns of a person's own table are for: the picture's name, its split, who is on it, and attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lvmbench import Attribute, DataError, Finding, UsageError, read_labels, texts
from lvmbench_images.match import Index
from lvmbench_images.registry import unify
from lvmbench_images.table import PARTS, UNDECIDED, Labels

SPLITS = ("split", "partition", "subset")  # columns that say it, if all their words are known
IDENTITIES = (
    "identity", "identity_id", "person", "person_id", "subject", "subject_id", "individual", "celebrity",
    "celeb_id",
)  # fmt: skip
WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
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
    """Return what the rows name: by the asked column, else by the one that names the most pictures.

    Raises:
        UsageError: if the asked column does not exist, or two columns name as many pictures, but others.
        DataError: if no column names any.
    """
    if asked is not None:
        return _named(table, checked(table, asked, where, "file"), index)
    counts = {name: len(_pictures(table[name], index)) for name in table.columns}
    most = max(counts.values(), default=0)
    if not most:
        raise DataError(
            f"{where}: no column names a picture. There are: {', '.join(table.columns)}. Say which one is to, "
            "as file=column, and give the folder or zip that holds its pictures."
        )
    best = [_named(table, name, index) for name, count in counts.items() if count == most]
    if any(list(column.pictures) != list(best[0].pictures) for column in best):
        names = " and ".join(f"'{column.file}'" for column in best)
        raise UsageError(
            f"{where}: {names} name {most:,} pictures each, and not the same. Choose: file={best[0].file}."
        )
    return best[0]


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
    if asked is not None:
        return checked(table, asked, where, "split")
    return _first(
        table, SPLITS, lambda column: all(part(w, column) is not None for w in texts(table[column]))
    )


def identity_column(table: pd.DataFrame, where: str, asked: str | None) -> str | None:
    """Return the column that says who is on a picture, None where there is none."""
    return checked(table, asked, where, "identity") if asked is not None else _first(table, IDENTITIES)


def _first(
    table: pd.DataFrame, names: Sequence[str], fits: Callable[[str], bool] = lambda _: True
) -> str | None:
    there = [c for name in names for c in table.columns if c.casefold().replace(" ", "_") == name and fits(c)]
    return there[0] if there else None


def part(word: str, column: str = "partition") -> int | None:
    """Return the place in ``PARTS`` of a word, undecided for none, None for one that is not known.

    0, 1 and 2 are words of a column that is named partition, or that was asked for.
    """
    folded = word.casefold()
    if not folded:
        return UNDECIDED
    coded = CODES.get(folded) if column.casefold() == "partition" else None
    known = coded or next((name for name, words in WORDS.items() if folded in words), None)
    return None if known is None else PARTS.index(known)


def parts(table: pd.DataFrame, column: str, lines: Sequence[str]) -> tuple[NDArray[np.int8], list[Finding]]:
    """Return the split of each row, and the rows that say none: [M].

    Raises:
        DataError: for a word that is not known; names the row.
    """
    words = texts(table[column])
    each = {word: part(word) for word in set(words)}
    for word, line in zip(words, lines, strict=True):
        if each[word] is None:
            known = ", ".join(name for names in WORDS.values() for name in names)
            raise DataError(f"{line}, column '{column}': '{word}' is no split. Known: {known}; 0, 1, 2.")
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
