"""Files that are equal byte for byte: told, and left out where that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from lvmbench import Finding
from lvmbench_images.archive import Archive
from lvmbench_images.table import PARTS, Labels

FIRST = (PARTS.index("test"), PARTS.index("val"), PARTS.index("train"))  # whose picture stays


def copies(
    files: Archive,
    names: Sequence[str],
    sizes: NDArray[np.int64],
    crcs: NDArray[np.int64],
    parts: NDArray[np.int8],
    draws: NDArray[np.float64],
    labels: Labels,
    drop: bool,
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Return which pictures stay, all unless ``drop``, and each that equals one before it: [N].

    Of equal files the one of the test split stays, then of val, then of train, and within a split the first in its
    order. A test picture always stays: results on a known test split are to compare.
    """
    kept = np.ones(len(names), dtype=np.bool_)
    found: list[Finding] = []
    for group in _equal(files, names, sizes, crcs):
        first, *others = sorted(group, key=lambda i: (FIRST.index(int(parts[i])), draws[i]))
        for i in others:
            kept[i] = not drop or parts[i] == FIRST[0]
            found.append(_told(files, names, parts, labels, first, i, kept[i]))
    return kept, found


def _told(
    files: Archive,
    names: Sequence[str],
    parts: NDArray[np.int8],
    labels: Labels,
    first: int,
    i: int,
    stays: bool,
) -> Finding:
    where = "across splits" if parts[i] != parts[first] else "within a split"
    agree = np.array_equal(labels[i], labels[first], equal_nan=True)
    told = f"equals '{names[first]}'" + ("" if agree else ", and the labels disagree")
    what = f"copy {where}" + ("" if agree else ", with other labels")
    return Finding(what, f"{files.path}: '{names[i]}'", "noted" if stays else "dropped", told)


def _equal(
    files: Archive, names: Sequence[str], sizes: NDArray[np.int64], crcs: NDArray[np.int64]
) -> Iterator[list[int]]:
    """Yield groups of pictures whose files are equal; only those of one size and checksum are read."""
    _, place, count = np.unique(np.stack([sizes, crcs]), axis=1, return_inverse=True, return_counts=True)
    alike: dict[int, list[int]] = {}
    for i in np.flatnonzero((count[place] > 1) & (sizes > 0)).tolist():
        alike.setdefault(int(place[i]), []).append(i)
    for suspects in alike.values():
        groups: dict[bytes, list[int]] = {}
        for i in suspects:
            groups.setdefault(sha256(files.read(names[i])).digest(), []).append(i)
        yield from (group for group in groups.values() if len(group) > 1)
