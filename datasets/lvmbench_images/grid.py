"""A data set of every combination of some factors, in one file: what dSprites and 3D Shapes share."""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvmbench import Attribute, DataError, Finding, Made, Schema, Split, kept
from lvmbench_images.order import lasting_order

Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]
Values = NDArray[np.float64]
SplitName = Literal["train", "val", "test"]

VERSION = 1  # of what is made of the files
HELD_OUT = 10  # one row in so many is a validation row, and one a test row
MEMORY = 512_000_000  # bytes of pictures that are held while the file is read once
MAX_ROWS = 1_000_000


@dataclass(frozen=True)
class Factor:
    """A column of the file: its name, the attribute that it is, if any, and whether it varies at all.

    Class 0 of the attribute has the value ``first``, and each further one ``step`` more.
    """

    name: str
    attribute: Attribute | None = None
    first: float = 0.0
    step: float = 1.0
    varies: bool = True

    def labels(self, values: Values) -> Values:
        """Return the labels of values of the factor: numbers as they are, or places among the classes."""
        return (values - self.first) / self.step

    def has(self, values: Values) -> bool:
        """Return whether values are such that each is a class of the attribute, or a number."""
        if self.attribute is None or self.attribute.is_number:
            return bool(np.isfinite(values).all())
        labels = self.labels(values)
        within = (labels > -0.5) & (labels < self.attribute.n_classes - 0.5)
        return bool((within & (np.abs(labels - labels.round()) < 1e-6)).all())


class FactorGrid(ABC):
    """A data set of all combinations of its factors, the last factor running fastest.

    A tenth of the rows is the validation split and a tenth the test split; which, and the order of each split, is by
    a hash of the row under ``seed``. The pictures that are asked for are read in one pass through the file, or in
    several where they are many, into the cache.
    """

    def __init__(self, name: str, schema: Schema, factors: Sequence[Factor], seed: int) -> None:
        """Take the name, what is known before the file is read, its columns, and what the splits are drawn by."""
        self.name, self.schema, self.factors, self.seed = name, schema, tuple(factors), seed
        self.factor_names = tuple(factor.name for factor in factors if factor.varies)
        self._troubles: dict[str, str] = {}

    @abstractmethod
    def locate(self) -> Sequence[Path]:
        """Return the file.

        Raises:
            DataError: if it is missing; says where it was looked for, and where to get it.
        """

    @abstractmethod
    def table(self, path: Path) -> Values:
        """Return the values of the factors: float64 [N, F]."""

    @abstractmethod
    def blocks(self, path: Path, rows: Rows) -> Iterator[Bytes]:
        """Yield the pictures of rows, which are in order and each there once, some at a time: uint8 [K, C, H, W]."""

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the file and of the options."""
        path = self.locate()[0]
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        return hashlib.sha256(json.dumps([VERSION, self.name, self.seed, content]).encode()).hexdigest()

    @property
    def count(self) -> int:
        """Return how many combinations there are."""
        return math.prod(map(len, self._values))

    @property
    def findings(self) -> Sequence[Finding]:
        """Return what kept pictures from the cache."""
        return [Finding("cache", trouble) for trouble in self._troubles.values() if trouble]

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return the first rows of one part, all of them unless ``limit`` says otherwise."""
        order = lasting_order(f"{self.name}/{self.seed}", self.count)
        held = max(1, len(order) // HELD_OUT)
        places = {"test": order[:held], "val": order[held : 2 * held], "train": order[2 * held :]}
        rows = places[name][:limit]
        images = self._kept(name, rows, len(places[name]))
        return Split(images, self._labels(rows), torch.from_numpy(rows))

    def sharing(self, factor: str, groups: int, each: int) -> Tensor:
        """Return pictures in groups that share one factor, all others independent: uint8 [G, each, C, H, W].

        They are of rows of any split, for the grid has no others.
        """
        count = groups * each
        columns = [self._drawn(factor, f.name, len(v), count) for f, v in self._columns]
        shared = [f.name for f in self.factors].index(factor)
        columns[shared] = columns[shared][np.arange(count) // each]
        rows = np.ravel_multi_index(tuple(columns), tuple(len(values) for values in self._values))
        images = self._kept(f"sharing-{factor}-{each}", rows, count)
        return images.view(groups, each, *self.schema.shape)

    def _drawn(self, factor: str, other: str, size: int, count: int) -> Rows:
        """Return places of a factor, each from a stream that more of them go on: [count]."""
        key = hashlib.sha256(f"{self.name}/{self.seed}/{factor}/{other}".encode()).digest()
        return np.random.default_rng(int.from_bytes(key, "big")).integers(0, size, count)

    def _kept(self, part: str, rows: Rows, total: int) -> Tensor:
        ahead = _Ahead(rows, self._read, MEMORY // self.schema.dims)
        name = f"{self.name}-{self.fingerprint[:16]}/{part}"
        # no probes: each would read the file from its start, and the name has the sha256 of it
        found = kept(name, len(rows), total, ahead, probes=0)
        self._troubles[part] = found.trouble
        return found.images

    def _read(self, rows: Rows) -> Bytes:
        """Return the pictures of rows in any order, by one pass through the file: [K] -> uint8 [K, C, H, W]."""
        wanted, place = np.unique(rows, return_inverse=True)
        pictures = np.empty((len(rows), *self.schema.shape), dtype=np.uint8)
        done = 0
        for block in self.blocks(self.locate()[0], wanted):
            here = np.flatnonzero((place >= done) & (place < done + len(block)))
            pictures[here] = block[place[here] - done]
            done += len(block)
        return pictures

    def _labels(self, rows: Rows) -> Tensor:
        places = np.unravel_index(rows, tuple(len(values) for values in self._values))
        pairs = zip(self._columns, places, strict=True)
        columns = [f.labels(v)[place] for (f, v), place in pairs if f.attribute is not None]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    @property
    def _columns(self) -> list[tuple[Factor, Values]]:
        return list(zip(self.factors, self._values, strict=True))

    @cached_property
    def _values(self) -> tuple[Values, ...]:
        """The different values of each factor, in their order."""
        path = self.locate()[0]
        table = self.table(path)
        values = tuple(np.unique(column) for column in table.T)
        for factor, found in zip(self.factors, values, strict=True):
            if not factor.has(found):
                raise DataError(f"{path}: {factor.name} has other values than it should: {found[:20]}.")
        sizes = tuple(map(len, values))
        if math.prod(sizes) != len(table) or not _is_grid(table, values):
            told = " × ".join(map(str, sizes))
            raise DataError(
                f"{path}: its {len(table):,} rows are not all combinations of {told} values in their order."
            )
        return values


class _Ahead:
    """Makes pictures chunk by chunk of a file that must be read from its start: many are read at once and held."""

    def __init__(self, rows: Rows, read: Callable[[Rows], Bytes], most: int) -> None:
        self.rows, self.read, self.most = rows, read, most
        self.first, self.held = 0, np.empty(0, dtype=np.uint8)

    def __call__(self, places: Rows) -> Made:
        first, end = int(places[0]), int(places[-1]) + 1
        if first < self.first or end > self.first + len(self.held):
            self.first = first
            self.held = self.read(self.rows[first : max(end, first + self.most)])
        return Made(self.held[places - self.first], places)


def _is_grid(table: Values, values: Sequence[Values]) -> bool:
    places = np.unravel_index(np.arange(len(table)), tuple(map(len, values)))
    return all(
        np.array_equal(column, found[place])
        for column, found, place in zip(table.T, values, places, strict=True)
    )
