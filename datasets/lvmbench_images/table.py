"""What is said of pictures: a row a picture, as the files of a data set tell it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvmbench import Attribute, Finding

PARTS = ("train", "val", "test")
UNDECIDED = -1

Labels: TypeAlias = "NDArray[np.float32]"


@dataclass(frozen=True)
class Table:
    """Labels of named pictures: float32 [M, A], NaN where missing; ``names`` as in the archive, [M].

    ``lines`` say where each row stands, such as ``labels.csv, line 7``, [M]. ``parts`` are places in ``PARTS`` or
    undecided, [M]; ``identities`` name the people, "" where unknown, [M]; ``rows`` are lasting numbers of the
    pictures, [M], where the set has its own. ``drawn`` names the splits that the set has none of as it is published.
    """

    attributes: tuple[Attribute, ...]
    names: Sequence[str]
    labels: Labels
    lines: Sequence[str]
    parts: NDArray[np.int8] | None = None
    identities: Sequence[str] | None = None
    rows: NDArray[np.int64] | None = None
    findings: Sequence[Finding] = field(default=())
    drawn: Collection[str] = field(default=())
