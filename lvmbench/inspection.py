"""What is in a data set: counts, prevalences, gaps, pictures and people that are there twice, findings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations

import torch
from torch import Tensor

from lvmbench.data import Attribute, Dataset, Finding, HasNames, Schema, Split, SplitName
from lvmbench.findings import findings_of, refused

CHUNK = 1024  # pictures that are held in memory at a time
SHARED = "person in two splits"  # the kind of finding that stands for leaks
Place = tuple[SplitName, int]  # a split, and the lasting number of a row of it


@dataclass(frozen=True)
class Column:
    """The labels of one attribute in one split: how many there are and lack, and the number of pictures of each class.

    A number has its mean, standard deviation and range in place of classes.
    """

    known: int
    missing: int
    classes: tuple[int, ...] = ()
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Part:
    """One split: its pictures, the people they show where these are known, its labels by attribute."""

    pictures: int
    people: int | None
    labels: Mapping[str, Column]


@dataclass(frozen=True)
class Copy:
    """A picture whose pixels equal those of one before it, and the attributes of which the two have other labels."""

    picture: Place
    equals: Place
    disagree: tuple[str, ...]

    @property
    def is_across(self) -> bool:
        """Whether the two are of different splits."""
        return self.picture[0] != self.equals[0]


@dataclass(frozen=True)
class Leak:
    """People who are in two splits, by their numbers, with the first row of each person in both."""

    splits: tuple[SplitName, SplitName]
    people: tuple[int, ...]
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Inspection:
    """What is in a data set, of each split the first ``limit`` rows; ``names`` are the files of the rows told of."""

    schema: Schema
    parts: Mapping[SplitName, Part]
    copies: tuple[Copy, ...]
    leaks: tuple[Leak, ...]
    findings: tuple[Finding, ...]
    names: Mapping[int, str] = field(default_factory=dict)
    limit: int | None = None

    @property
    def is_amiss(self) -> bool:
        """Whether anything was found that a strict examination refuses: all but what an option had left out."""
        empty = any(not part.pictures for part in self.parts.values())
        return bool(refused(self.findings) or self.leaks or self.copies or empty)


def inspect(dataset: Dataset, splits: Mapping[SplitName, Split], limit: int | None = None) -> Inspection:
    """Return what is in the splits of a data set; each picture is looked at once, a few at a time.

    What is among the findings is told once: files that are equal, people in two splits.
    """
    schema, findings = dataset.schema, findings_of(dataset)
    parts = {name: _part(schema, split) for name, split in splits.items()}
    copies = list(_copies(schema, splits))
    leaks = [] if any(found.what == SHARED for found in findings) else list(_leaks(splits))
    files = dataset.files_of_rows() if isinstance(dataset, HasNames) and (copies or leaks) else {}
    if files:
        copies = [c for c in copies if files[c.picture[1]][1] != files[c.equals[1]][1]]
    pairs = [(c.picture[1], c.equals[1]) for c in copies] + [pair for leak in leaks for pair in leak.rows]
    names = {row: files[row][0] for pair in pairs for row in pair if row in files}
    return Inspection(schema, parts, tuple(copies), tuple(leaks), findings, names, limit)


def _part(schema: Schema, split: Split) -> Part:
    columns = {a.name: _column(a, split.labels[:, i]) for i, a in enumerate(schema.attributes)}
    people = None if split.groups is None else len(split.groups.unique())
    return Part(len(split), people, columns)


def _column(attribute: Attribute, labels: Tensor) -> Column:
    """Return what the labels of an attribute come to: [N]."""
    known = labels[~labels.isnan()].double()
    missing = len(labels) - len(known)
    if not attribute.is_number:
        counts = torch.bincount(known.long(), minlength=attribute.n_classes)
        return Column(len(known), missing, tuple(counts.tolist()))
    if not len(known):
        return Column(0, missing)
    sd = float(known.std()) if len(known) > 1 else 0.0
    return Column(len(known), missing, (), float(known.mean()), sd, float(known.min()), float(known.max()))


def _copies(schema: Schema, splits: Mapping[SplitName, Split]) -> Iterator[Copy]:
    """Yield every picture that equals one before it, with the first such."""
    first: dict[bytes, tuple[SplitName, int]] = {}
    for name, split in splits.items():
        for i, digest in enumerate(_digests(split.images)):
            other, j = first.setdefault(digest, (name, i))
            if (other, j) != (name, i):
                places = (name, int(split.rows[i])), (other, int(splits[other].rows[j]))
                yield Copy(*places, tuple(_apart(schema, split.labels[i], splits[other].labels[j])))


def _digests(images: Tensor) -> Iterator[bytes]:
    for chunk in images.split(CHUNK):
        for picture in chunk.contiguous().numpy():
            yield blake2b(picture.data, digest_size=16).digest()


def _apart(schema: Schema, one: Tensor, other: Tensor) -> Iterator[str]:
    """Yield the attributes of which two rows have different labels, [A] each; one that is missing says nothing."""
    for attribute, a, b in zip(schema.attributes, one.tolist(), other.tolist(), strict=True):
        if a != b and not (math.isnan(a) or math.isnan(b)):
            yield attribute.name


def _leaks(splits: Mapping[SplitName, Split]) -> Iterator[Leak]:
    people = {name: _first_rows(s.groups, s.rows) for name, s in splits.items() if s.groups is not None}
    for one, other in combinations(people, 2):
        if shared := sorted(people[one].keys() & people[other].keys()):
            yield Leak((one, other), tuple(shared), tuple((people[one][p], people[other][p]) for p in shared))


def _first_rows(groups: Tensor, rows: Tensor) -> dict[int, int]:
    """Return the first row of each person: [N], [N]."""
    return dict(zip(reversed(groups.tolist()), reversed(rows.tolist()), strict=True))


def exact(value: float) -> str:
    """Return a number as text: a whole one whole, others with six digits."""
    return f"{value:.0f}" if value.is_integer() or abs(value) >= 1e6 else f"{value:.6g}"
