"""The nouns of data: what is known of a picture, the parts of a data set, and what a data set offers.

Axes, everywhere: B batch, N rows, K draws, D latent dimensions, A attributes, R bootstrap replicates;
[C, H, W] is one picture. K leads, as ``sample((k,))`` gives it. Nats, summed over the event, meant over rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["binary", "categorical", "ordinal"]
Pixels = Literal["bernoulli", "gaussian"]
SplitName = Literal["train", "val", "test"]
Labels = Literal["given", "permuted", "identity"]  # against what codes are scored
Effect = Literal["left out", "dropped", "changed", "noted"]


@dataclass(frozen=True)
class Attribute:
    """One thing people would name in a picture.

    ``classes`` names the label values 0, 1, ... in their order; an ordinal attribute without classes is a
    number in ``unit``. ``source`` says who decided the labels.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    unit: str = ""
    source: str = "exact"
    note: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the label is a quantity rather than a class."""
        return self.kind == "ordinal" and not self.classes

    @property
    def n_classes(self) -> int:
        """The number of classes: 2 for a binary attribute, 0 for a number."""
        return 2 if self.kind == "binary" else len(self.classes)


@dataclass(frozen=True)
class Schema:
    """What is known of a data set before it is read: shape of a picture, family of its pixels, attributes.

    The family and measure of the pixels belong here, never to a model: otherwise no two likelihoods compare.
    ``bernoulli`` pixels are binarised anew for each look at them (a data set that wants a static binarisation
    gives 0 and 255); ``gaussian`` pixels are 8-bit values dequantised as (x + u) / 256. ``identities`` says
    whether it is known which pictures show the same person.
    """

    shape: tuple[int, int, int]
    pixels: Pixels
    attributes: tuple[Attribute, ...] = ()
    identities: bool = False

    @property
    def dims(self) -> int:
        """The number of pixel values in one picture."""
        return math.prod(self.shape)

    def index(self, attribute: str) -> int:
        """Return the column of an attribute in ``Split.labels``."""
        return [a.name for a in self.attributes].index(attribute)


@dataclass(frozen=True)
class Split:
    """One part of a data set, in memory or mapped from a file.

    ``images`` uint8 [N, C, H, W]; ``labels`` float32 [N, A], NaN where missing or undefined; ``rows`` int64 [N]
    stable row numbers; ``groups`` int64 [N] identities, where pictures of one person are known.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, limit: int | None) -> Split:
        """Return the first ``limit`` rows, all of them when it is None."""
        groups = None if self.groups is None else self.groups[:limit]
        return Split(self.images[:limit], self.labels[:limit], self.rows[:limit], groups)


@runtime_checkable
class Dataset(Protocol):
    """A data set: an object whose constructor's keyword arguments are its options.

    ``fingerprint`` changes whenever a row would. A ``title``, where there is one, stands in tables for the name and
    the options. ``split`` gives at most ``limit`` rows, the same first rows
    whatever the limit. Building the object must be cheap: files are read in ``split``.
    """

    schema: Schema

    @property
    def fingerprint(self) -> str:
        """Name the content: equal for equal rows, different when any row differs."""
        ...

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return one part of the data."""
        ...


@runtime_checkable
class HasFactors(Protocol):
    """A data set that can draw pictures to order: what interventions are made with."""

    factor_names: tuple[str, ...]

    def sharing(self, factor: str, groups: int, each: int) -> Tensor:
        """Return pictures in groups that share one factor, all others independent: uint8 [G, each, C, H, W]."""
        ...


@dataclass(frozen=True)
class Finding:
    """Something in the files of a data set that its user should know of, and what was done about it.

    ``what`` is its kind, by which findings are counted; ``where`` names the file, and the row or the picture in it.
    What is ``dropped`` an option had left out: it is told, and no strict run refuses it.
    """

    what: str
    where: str
    effect: Effect = "noted"
    told: str = ""


@runtime_checkable
class HasFindings(Protocol):
    """A data set that tells what is wrong with its files."""

    @property
    def findings(self) -> Sequence[Finding]:
        """Return what was found: of tables all, of pictures what the splits that were asked for have shown."""
        ...


@runtime_checkable
class HasNames(Protocol):
    """A data set that knows the file of each picture, and among whose findings are files that are equal."""

    def files_of_rows(self) -> Mapping[int, tuple[str, str]]:
        """Return by the number of each row the name of its file, and what equal files have in common."""
        ...


@runtime_checkable
class HasFiles(Protocol):
    """A data set that is read from files which may not be there."""

    def locate(self) -> Sequence[Path]:
        """Return the files and folders that are read, without opening them.

        Raises:
            DataError: if one is missing; says which, where it was looked for, and where to get it.
        """
        ...
