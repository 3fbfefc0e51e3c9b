"""Codes that are there already, with their labels: checked, and split into what probes learn from and are tested on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvmbench.data import Schema, Split, SplitName
from lvmbench.errors import DataError, UsageError, nearest
from lvmbench.randomness import stream
from lvmbench.tabular import Columns, Data, Kinds, read_labels, table_of

Codes: TypeAlias = "NDArray[Any] | Tensor | pd.DataFrame"
Column: TypeAlias = (
    "str | Sequence[Any] | NDArray[Any] | Tensor | pd.Series[Any] | None"  # of a table, by name
)

NAMES: tuple[SplitName, ...] = ("train", "val", "test")
SHARES = (0.6, 0.8)  # where training rows end, and validation rows
ONE_APART = (
    " The one row between them may be a line of names: above codes it is read as a row where all of the names are "
    "numbers (name them z0, z1, ...), and the first line of labels is always read as names."
)
WORDS: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training", "0"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "1"), "val"),
    **dict.fromkeys(("test", "testing", "2"), "test"),
}


@dataclass(frozen=True)
class Given:
    """Codes float32 [N, D], labels [N, A], each row's split where it is given, its identity where it is known."""

    codes: Tensor
    columns: Columns
    parts: Tensor | None = None  # places in NAMES, int64 [N]
    groups: Tensor | None = None  # int64 [N]

    @property
    def schema(self) -> Schema:
        """Return the attributes; of pictures nothing is known."""
        return Schema((1, 1, 1), "gaussian", self.columns.attributes, identities=self.groups is not None)

    @cached_property
    def fingerprint(self) -> str:
        """Name the labels, and all that decides the splits."""
        return _digest([repr(self.columns.attributes), self.columns.values, self.parts, self.groups])

    @cached_property
    def source(self) -> str:
        """Name the codes."""
        return _digest([self.codes])

    @cached_property
    def told(self) -> str:
        """Say in words how the rows are split."""
        if self.parts is None:
            whole = ", identities whole" if self.groups is not None else ""
            return f"60 / 20 / 20 % train, val, test, drawn anew by each seed{whole}"
        counts = " / ".join(f"{int((self.parts == i).sum()):,}" for i in range(3))
        shared = f"; identities in both train and test: {self.shared:,}" if self.shared else ""
        return f"{counts} train, val, test, as given{shared}"

    @cached_property
    def shared(self) -> int:
        """Count the identities of test rows that training rows have too."""
        if self.parts is None or self.groups is None:
            return 0
        train, test = (set(self.groups[self.parts == i].tolist()) for i in (0, 2))
        return len(train & test)

    def split(self, seed: int) -> dict[SplitName, Split]:
        """Return the splits: those that were given, else drawn by the seed, each identity in one of them alone.

        Raises:
            DataError: if one of them has no row.
        """
        parts = self._drawn(seed) if self.parts is None else self.parts
        found: dict[SplitName, Split] = {}
        for place, name in enumerate(NAMES):
            rows = (parts == place).nonzero().flatten()
            if not len(rows):
                raise DataError(f"no row is in the {name} split, of {len(parts):,} rows.")
            groups = None if self.groups is None else self.groups[rows]
            nothing = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(rows), 1, 1, 1)
            found[name] = Split(nothing, self.columns.values[rows], rows, groups)
        return found

    def _drawn(self, seed: int) -> Tensor:
        """Return the split of each row, by shuffling identities and cutting where the shares of rows end: [N]."""
        n = len(self.codes)
        of = torch.arange(n) if self.groups is None else self.groups.unique(return_inverse=True)[1]
        size = of.bincount()
        order = torch.randperm(len(size), generator=torch.Generator().manual_seed(stream(seed, "split")))
        parts = torch.empty_like(order)
        parts[order] = torch.bucketize(size[order].cumsum(0), torch.tensor(SHARES, dtype=torch.float64) * n)
        return parts[of]


def _digest(parts: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        blob = part.contiguous().numpy().tobytes() if isinstance(part, Tensor) else str(part).encode()
        digest.update(f"{len(blob)} {getattr(part, 'shape', '')}".encode() + blob)
    return digest.hexdigest()[:32]


def given(
    codes: Codes,
    labels: Data,
    *,
    splits: Column = None,
    groups: Column = None,
    kinds: Kinds | None = None,
    where: tuple[str, str] = ("codes", "labels"),
) -> Given:
    """Return codes and labels that fit together; ``where`` names the two in errors.

    Raises:
        DataError: if the codes are no finite numbers [N, D], or the numbers of rows differ.
        UsageError: if a column is named that does not exist.
    """
    z, table = _numbers(codes, where[0]), table_of(labels, where[1])
    if len(z) != len(table):
        hint = ONE_APART if abs(len(z) - len(table)) == 1 else ""
        raise DataError(
            f"{len(z):,} rows of codes in {where[0]}, {len(table):,} rows of labels in {where[1]}.{hint}"
        )
    part, group = (_taken(table, column, where[1]) for column in (splits, groups))
    named = [column for column in (splits, groups) if isinstance(column, str)]
    columns = read_labels(table.drop(columns=named), kinds, where[1])
    return Given(
        z,
        columns,
        None if part is None else _parts(part, where[1]),
        None if group is None else _identities(group),
    )


def _numbers(codes: Codes, where: str) -> Tensor:
    raw = codes.detach().cpu().numpy() if isinstance(codes, Tensor) else np.asarray(codes)
    if raw.ndim != 2 or raw.dtype.kind not in "biuf" or not raw.size:
        raise DataError(f"{where}: numbers [N, D] are needed, these are {raw.dtype} {list(raw.shape)}.")
    with np.errstate(over="ignore"):
        z = torch.from_numpy(raw.astype(np.float32))
    broken = (~z.isfinite().all(dim=1)).nonzero().flatten().tolist()
    if broken:
        some = ", ".join(str(row + 1) for row in broken[:5])
        more = f" and {len(broken) - 5:,} more" if len(broken) > 5 else ""
        raise DataError(f"{where}: the codes are not finite in row {some}{more} (counted from 1).")
    return z


def _taken(table: pd.DataFrame, column: Column, where: str) -> pd.Series[Any] | None:
    """Return a column of the table by its name, or what was given in its place."""
    if isinstance(column, str):
        if column not in table:
            known = list(table.columns)
            raise UsageError(
                f"{where}: no column '{column}'.{nearest(column, known)} There are: {', '.join(known)}."
            )
        return table[column]
    if column is None:
        return None
    values = column.detach().cpu().numpy() if isinstance(column, Tensor) else np.asarray(column)
    if values.shape != (len(table),):
        raise DataError(
            f"one value a row is needed, [{len(table)}]; splits or groups have {list(values.shape)}."
        )
    return pd.Series(values)


def _parts(column: pd.Series[Any], where: str) -> Tensor:
    found = [WORDS.get(_word(value)) for value in column]
    for row, (part, value) in enumerate(zip(found, column, strict=True), start=1):
        if part is None:
            raise DataError(f"{where}, row {row}: split '{value}' is none of train, val, test (or 0, 1, 2).")
    return torch.tensor([NAMES.index(part) for part in found if part])


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip().casefold()


def _identities(column: pd.Series[Any]) -> Tensor:
    """Return a number for each identity; a row without one is an identity of its own."""
    texts = column.astype(object).map(lambda v: None if pd.isna(v) or not str(v).strip() else _word(v))
    places, known = pd.factorize(texts)
    alone = places < 0
    places[alone] = len(known) + np.arange(alone.sum())
    return torch.from_numpy(places.astype(np.int64))
