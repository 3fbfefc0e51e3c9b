"""Columns of a table as attributes: by rules that are stated, each of which an option overrides.

- A cell is missing where it is empty, or says NA, N/A, NaN or null; "none" is a word.
- Two different values are a binary attribute. The greater is the second class, "has it": 1 of 0 and 1 or of
  -1 and 1, true, yes, and the later in the alphabet of two other words.
- Words are classes in alphabetical order.
- Whole numbers of at most 20 different values are classes in their order, without an order for the metrics:
  a digit is no quantity. Other numbers are quantities.
- Left out, by name and reason: a column without values, with one value only, with another word in every row,
  that counts the rows, of dates, of lists, of more than 100 different words, or of numbers with a stray word.

An ordered column of pandas is ordinal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvmbench.data import Attribute
from lvmbench.errors import DataError, UsageError, nearest

MISSING = frozenset({"", "na", "n/a", "nan", "null", "<na>"})
PAIRS = (("0", "1"), ("-1", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("f", "t"))
MAX_INTEGERS = 20
MAX_CLASSES = 100

Kind = Literal["binary", "categorical", "ordinal", "number"]
Word = Literal[Kind, "skip"]
Kinds: TypeAlias = "Mapping[str, Word | Sequence[str]]"  # a sequence names classes in their order
Data: TypeAlias = "pd.DataFrame | Mapping[str, Any] | NDArray[Any] | Tensor"


@dataclass(frozen=True)
class Columns:
    """Attributes, their labels float32 [N, A] with NaN where missing, and why other columns were left out."""

    attributes: tuple[Attribute, ...]
    values: Tensor
    left_out: Mapping[str, str]


class _LeftOut(Exception):
    """Why a column is no attribute."""


def table_of(data: Data, where: str = "labels") -> pd.DataFrame:
    """Return a table of columns with different names: from a DataFrame, arrays by name, or one array [N, A].

    Raises:
        DataError: if it is none of these, or two columns have one name.
    """
    if isinstance(data, Tensor):
        data = data.detach().cpu().numpy()
    if isinstance(data, Mapping):
        data = {k: v.detach().cpu().numpy() if isinstance(v, Tensor) else v for k, v in data.items()}
    elif not isinstance(data, pd.DataFrame):
        data = np.asarray(data)
        names = ["label"] if data.ndim == 1 else [f"label {i}" for i in range(data.shape[-1])]
        data = dict(zip(names, data.reshape(len(data), -1).T, strict=True)) if data.ndim in (1, 2) else data
    try:
        table = pd.DataFrame(data)
    except ValueError as error:
        raise DataError(f"{where}: not a table: {error}.") from None
    table = table.rename(columns=str).reset_index(drop=True)
    if twice := table.columns[table.columns.duplicated()].tolist():
        raise DataError(f"{where}: two columns are named '{twice[0]}'.")
    return table


def read_labels(data: Data, kinds: Kinds | None = None, where: str = "labels") -> Columns:
    """Return the attributes that the columns of a table are, with their labels: float32 [N, A].

    Raises:
        UsageError: if ``kinds`` names no column or no kind.
        DataError: if a value is not what its column is said to be, or nothing is left; names row and column.
    """
    table, kinds = table_of(data, where), dict(kinds or {})
    _check(kinds, list(table.columns))
    attributes: list[Attribute] = []
    columns: list[NDArray[np.float32]] = []
    left_out: dict[str, str] = {}
    for name in (name for name in table.columns if kinds.get(name) != "skip"):
        try:
            column = _column(table[name], name, where)
            attribute, values = _attribute(column, kinds.get(name))
        except _LeftOut as reason:
            left_out[name] = str(reason)
        else:
            attributes.append(attribute)
            columns.append(values)
    if not attributes:
        told = "; ".join(f"'{name}': {reason}" for name, reason in left_out.items()) or "there are none"
        raise DataError(f"{where}: no column can be an attribute: {told}.")
    return Columns(tuple(attributes), torch.from_numpy(np.stack(columns, axis=1)), left_out)


def texts(column: pd.Series[Any]) -> list[str]:
    """Return the cells of a column as they would be written, "" where missing or neither number nor word: [N]."""
    try:
        places, values = pd.factorize(column)
    except TypeError:
        return [""] * len(column)
    words = [f"{v:.0f}" if isinstance(v, float) and v.is_integer() else str(v).strip() for v in values]
    words = ["" if word.casefold() in MISSING else word for word in words]
    return [words[place] if place >= 0 else "" for place in places]


def _check(kinds: Kinds, columns: Sequence[str]) -> None:
    for name, kind in kinds.items():
        if name not in columns:
            raise UsageError(f"No column '{name}'.{nearest(name, columns)} There are: {', '.join(columns)}.")
        if isinstance(kind, str) and kind not in get_args(Word):
            known = get_args(Word)
            raise UsageError(
                f"Column '{name}': no kind '{kind}'.{nearest(kind, known)} Known: {', '.join(known)}, or the "
                "classes in their order."
            )


@dataclass(frozen=True)
class _Column:
    """What a column holds: each row's place among the different values, -1 where missing, and these by name.

    ``numbers`` are the values where all are numbers. Numbers are in their order, words in the alphabet's, the
    categories of pandas in theirs.
    """

    name: str
    where: str
    places: NDArray[np.int64]
    names: tuple[str, ...]
    numbers: NDArray[np.float64] | None = None
    ordered: bool = False

    @property
    def is_whole(self) -> bool:
        return self.numbers is not None and bool((self.numbers == self.numbers.round()).all())

    @property
    def is_pair(self) -> bool:
        return self.names in PAIRS

    def row(self, value: int) -> int:
        """Return the first row of a value, counted from 1."""
        return int((self.places == value).argmax()) + 1

    def wrong(self, value: int, told: str) -> DataError:
        """Return the error that a value is not what it should be."""
        return DataError(
            f"{self.where}, row {self.row(value)}, column '{self.name}': '{self.names[value]}' {told}"
        )


def _column(series: pd.Series[Any], name: str, where: str) -> _Column:
    if isinstance(series.dtype, pd.CategoricalDtype) and series.cat.ordered:
        used = series.cat.remove_unused_categories()
        places = np.asarray(used.cat.codes, dtype=np.int64)
        names = tuple(map(str, used.cat.categories))
        return _Column(name, where, places, names, _all_numbers(names), ordered=True)
    if series.dtype.kind in "mM":
        raise _LeftOut("dates; give numbers or words")
    if series.dtype.kind in "biuf":
        places, values = pd.factorize(series.astype("float64"))
        return _numeric(name, where, places, np.asarray(values, dtype=np.float64))
    try:
        places, found = pd.factorize(series.astype(object))
    except TypeError:
        raise _LeftOut("neither numbers nor words") from None
    return _worded(name, where, places, [str(value).strip() for value in found])


def _worded(name: str, where: str, places: NDArray[np.int64], found: list[str]) -> _Column:
    """Return a column of texts: numbers where all that is there can be read so."""
    folded = [word.casefold() for word in found]
    present = {word for word in folded if word not in MISSING}
    pair = any(present <= set(pair) for pair in PAIRS)
    distinct = {word: None for word in (folded if pair else found) if word.casefold() not in MISSING}
    numbers = _all_numbers(list(distinct))
    if numbers is not None:
        each = dict(zip(distinct, range(len(distinct)), strict=True))
        return _numeric(name, where, _placed(places, folded if pair else found, each), numbers)
    ordered = sorted(distinct, key=lambda word: (word.casefold(), word))
    each = {word: place for place, word in enumerate(ordered)}
    return _Column(name, where, _placed(places, folded if pair else found, each), tuple(ordered))


def _read_numbers(words: Sequence[str]) -> NDArray[np.float64]:
    """Return words as numbers, NaN where they are none."""
    return pd.to_numeric(pd.Series(words, dtype=object), errors="coerce").to_numpy(np.float64)


def _all_numbers(words: Sequence[str]) -> NDArray[np.float64] | None:
    """Return words as numbers, None where any is none."""
    numbers = _read_numbers(words)
    return None if np.isnan(numbers).any() else numbers


def _placed(places: NDArray[np.int64], found: Sequence[str], each: Mapping[str, int]) -> NDArray[np.int64]:
    """Return each row's place among values that have been put in order; -1 where it has none."""
    moved = np.array([each.get(word, -1) for word in found] + [-1], dtype=np.int64)
    return moved[places]


def _numeric(name: str, where: str, places: NDArray[np.int64], numbers: NDArray[np.float64]) -> _Column:
    """Return a column of numbers in their order: two ways of writing one are one."""
    values, inverse = np.unique(numbers + 0.0, return_inverse=True)  # -0 is 0
    names = tuple(f"{value:.12g}" for value in values)
    column = _Column(name, where, np.append(inverse, -1)[places], names, values)
    with np.errstate(over="ignore"):
        infinite = ~np.isfinite(values.astype(np.float32))
    if infinite.any():
        raise column.wrong(int(infinite.argmax()), "is not a finite number.")
    return column


def _attribute(column: _Column, asked: Word | Sequence[str] | None) -> tuple[Attribute, NDArray[np.float32]]:
    """Return a column as an attribute, of the kind that was asked for or that the rules give it."""
    if len(column.names) < 2:
        raise _LeftOut(f"one value only, '{column.names[0]}'" if column.names else "no value")
    if asked is not None and not isinstance(asked, str):
        return _in_order(column, tuple(map(str, asked)))
    kind = cast(Kind, asked) if asked else _kind(column)
    _refuse(column, kind)
    if kind == "number":
        assert column.numbers is not None
        return Attribute(column.name, "ordinal"), _values(column.places, column.numbers)
    classes = () if kind == "binary" and column.is_pair else column.names
    return Attribute(column.name, kind, classes), _values(column.places, np.arange(len(column.names)))


def _values(places: NDArray[np.int64], values: NDArray[Any]) -> NDArray[np.float32]:
    return np.append(values.astype(np.float32), np.float32(np.nan))[places]


def _kind(column: _Column) -> Kind:
    """Return the kind of a column by the rules.

    Raises:
        _LeftOut: if it is no attribute.
    """
    distinct, present = len(column.names), int((column.places >= 0).sum())
    if distinct == 2:
        return "binary"
    if column.ordered:
        return "ordinal"
    if column.numbers is None:
        _refuse_words(column, distinct, present)
        return "categorical"
    if column.is_whole and distinct <= MAX_INTEGERS:
        return "categorical"
    if column.is_whole and distinct == present == column.numbers[-1] - column.numbers[0] + 1:
        raise _LeftOut("it counts the rows")
    return "number"


def _refuse_words(column: _Column, distinct: int, present: int) -> None:
    stray = np.isnan(_read_numbers(column.names))
    if distinct > MAX_INTEGERS and stray.sum() < distinct / 2:
        first = _first(column, stray)
        told = f"'{column.names[first]}' in row {column.row(first)}"
        raise _LeftOut(f"numbers, but for {told}; as words: kind categorical")
    if distinct == present:
        raise _LeftOut("another word in every row")
    if distinct > MAX_CLASSES:
        raise _LeftOut(f"{distinct:,} different words are too many classes")


def _first(column: _Column, values: NDArray[np.bool_]) -> int:
    """Return which of some values comes first in the rows."""
    return int(column.places[np.append(values, False)[column.places].argmax()])


def _refuse(column: _Column, kind: Kind) -> None:
    """Raise where a column cannot be of a kind."""
    here, distinct = f"{column.where}, column '{column.name}'", len(column.names)
    if kind == "number" and column.numbers is None:
        raise column.wrong(_first(column, np.isnan(_read_numbers(column.names))), "is not a number.")
    if kind == "binary" and distinct != 2:
        raise DataError(f"{here}: {distinct} different values, where binary needs two.")
    if kind in ("categorical", "ordinal") and distinct > MAX_CLASSES:
        raise DataError(f"{here}: {distinct:,} different values are too many classes: {MAX_CLASSES} at most.")
    if kind == "ordinal" and column.numbers is None and not column.ordered:
        example = ",".join(column.names[:3])
        raise UsageError(
            f"{here}: the order of words is not known. Give the classes in it, as in {column.name}={example}."
        )


def _in_order(column: _Column, classes: tuple[str, ...]) -> tuple[Attribute, NDArray[np.float32]]:
    """Return a column as an ordinal attribute of these classes."""
    known = {name: place for place, name in enumerate(classes)}
    for value, name in enumerate(column.names):
        if name not in known:
            raise column.wrong(value, f"is none of its classes, {', '.join(classes)}.")
    places = np.array([known[name] for name in column.names])
    return Attribute(column.name, "ordinal", classes), _values(column.places, places)
