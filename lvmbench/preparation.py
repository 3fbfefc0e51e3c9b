"""Before anything is trained: each data set is read once, and what its files must not have is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

from lvmbench.cache import watching
from lvmbench.catalog import Catalog
from lvmbench.data import Dataset, Finding, Split, SplitName
from lvmbench.errors import DataError
from lvmbench.findings import by_kind, check_command, counted, findings_of, named, refused
from lvmbench.fits import SPLITS
from lvmbench.plan import Cell, Plan
from lvmbench.resolved import label_of

NAMED = 3  # findings of each kind that an error names


class Maker(Protocol):
    """Hears of pictures that are made for the cache."""

    def making(self, label: str, done: int, total: int) -> None:
        """Hear how many pictures of a part of a data set are made."""

    def made(self, label: str, count: int, seconds: float) -> None:
        """Hear that all pictures that were lacking are there."""


def prepare(
    planned: Plan, cells: Iterable[Cell], catalog: Catalog, maker: Maker, *, strict: bool = False
) -> dict[tuple[str, str], Mapping[str, int]]:
    """Read the data of some cells as far as their budget asks, and count what their files have, by their content.

    From then on the cache holds their pictures. What is not an error of the data is left to the cells, which tell
    it. Where it is ``strict``, findings are errors, but for what an option had left out.

    Raises:
        DataError: if the files of a data set cannot be read, leave a split empty, or have what a strict run forbids.
    """
    counts: dict[tuple[str, str], Mapping[str, int]] = {}
    for content, cell in {cell.content: cell for cell in cells}.items():
        dataset = planned.datasets[content]
        try:
            splits = read(dataset, cell.dataset_label, partial(getattr, cell.budget), maker)
        except DataError:
            raise
        except (Exception, SystemExit):  # its cells will tell
            continue
        if lacking := [name for name in SPLITS if not len(splits[name])]:
            raise DataError(
                f"{cell.dataset_label}: no picture is in {' and '.join(lacking)}. A run learns from train, chooses by "
                "val and reports on test: give more pictures, or a split that has all three."
            )
        found = findings_of(dataset)
        if strict and (amiss := refused(found)):
            name = label_of(catalog.get("dataset", cell.dataset), cell.dataset_options)
            raise DataError(_refusal(cell.dataset_label, name, amiss))
        counts[content] = counted(found)
    return counts


def read(
    dataset: Dataset, label: str, limit_of: Callable[[SplitName], int | None], maker: Maker
) -> dict[SplitName, Split]:
    """Return the splits of a data set up to the limit of each, and let pictures be heard of that are made for it."""
    counts: dict[SplitName, int] = {}
    start = time.monotonic()

    def heard(name: SplitName, done: int, total: int) -> None:
        counts[name] = done
        maker.making(label, done, total)

    splits = {}
    for name in SPLITS:
        with watching(partial(heard, name)):
            splits[name] = dataset.split(name, limit_of(name))
    if counts:
        maker.made(label, sum(counts.values()), time.monotonic() - start)
    return splits


def _refusal(label: str, name: str, found: Sequence[Finding]) -> str:
    count = "1 finding" if len(found) == 1 else f"{len(found):,} findings"
    lines = [f"{label}: {count}, and a strict run allows none."]
    for kind, same in by_kind(found).items():
        lines += [f"{kind} ({len(same):,})", *(f"  {named(finding)}" for finding in same[:NAMED])]
        lines += ["  ..."] * (len(same) > NAMED)
    return "\n".join([*lines, f"Each is named by: {check_command(name)}"])
