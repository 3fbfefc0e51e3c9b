"""The splits of pictures: those that the files give stay, the others are drawn by whole people."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lvmbench import Finding
from lvmbench_images.table import PARTS, UNDECIDED

HELD_OUT = 0.1  # share of a validation split that is drawn, and of a test split

Parts = NDArray[np.int8]


def completed(given: Parts, people: NDArray[np.int64], draws: NDArray[np.float64]) -> Parts:
    """Return the splits of all pictures by the given ones, the numbers of their people and the people's draws: [N].

    A picture that is undecided goes where its person is, of several splits to the first in ``PARTS``, so that test
    stays as it is given; one whose person is nowhere is drawn. A val or test that nothing is given to is drawn from
    train, except from people who are elsewhere too.
    """
    train, val, test = range(len(PARTS))
    drawn = np.where(draws < HELD_OUT, val, np.where(draws < 2 * HELD_OUT, test, train))
    has = np.zeros((int(people.max(initial=-1)) + 1, len(PARTS)), dtype=np.bool_)
    decided = given != UNDECIDED
    has[people[decided], given[decided]] = True
    count = has.sum(1)[people]
    parts = np.where(decided, given, np.where(count > 0, has.argmax(1)[people], drawn)).astype(np.int8)
    for part in (val, test):
        if not (given == part).any():
            parts[(parts == train) & (drawn == part) & (count < 2)] = part
    return parts


def amiss(
    where: str, given: Parts, parts: Parts, people: Sequence[str] | None, by_design: Collection[str]
) -> Iterator[Finding]:
    """Yield what is odd in the splits of pictures: [N], the ``people`` as the files name them, "" where unknown.

    A split that the set lacks ``by_design`` is not odd, nor is any where none is given at all.
    """
    some = (given != UNDECIDED).any()
    for place, part in enumerate(PARTS):
        if not some or part in by_design or (given == place).any():
            continue
        what = "split that is drawn" if (parts == place).any() else "split without a picture"
        yield Finding(what, f"{where}: '{part}'", told="the files give it no picture")
    splits: dict[str, set[int]] = {}
    for person, place in zip(people or (), parts.tolist(), strict=people is not None):
        splits.setdefault(person, set()).add(place)
    for person, places in splits.items():
        if person and len(places) > 1:
            told = " and ".join(PARTS[place] for place in sorted(places))
            yield Finding("person in two splits", f"{where}: person '{person}'", told=f"in {told}")
