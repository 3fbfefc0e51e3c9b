"""The peak memory of one real cell, run in a worker as a run does it, and the size of its data."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.runner import Settings, answer
from lvmbench.spec import Spec

MIB = 1 << 20
MOST = 1024  # MiB above the data
BUDGET = Budget("memory", images=3_200, train=10_000, val=1_000, size=64, test=2_000)


@dataclass(frozen=True)
class Memory:
    """The peaks of a cell by its phases, and the size of its pictures, in MiB."""

    peaks: Mapping[str, float]
    data: float

    @property
    def above(self) -> float:
        """What the cell took beyond its pictures in its highest phase, at least: not all of them need be resident."""
        return max(self.peaks.values()) - self.data


def of_cell(model: str = "vae", budget: Budget = BUDGET) -> Memory:
    """Run one cell on the faces in a fresh store, and return its memory.

    Raises:
        SystemExit: if the cell failed.
    """
    catalog = Catalog.discover()
    with tempfile.TemporaryDirectory() as folder:
        spec = Spec(models=model, seeds=1, budget=budget, controls=False, device="cpu")
        record = answer(spec, catalog, Settings(Path(folder), jobs=1)).records[-1]
    if record.status != "done":
        raise SystemExit(f"{model}: the cell {record.status}: {record.reason}")
    return Memory(record.peak_mib, data_mib(catalog.get("dataset", "faces").load(), budget))


def data_mib(faces: Callable[..., object], budget: Budget) -> float:
    """Return the size of the pictures of all splits under a budget, in MiB."""
    dims = faces(size=budget.size).schema.dims
    return (budget.train + budget.val + budget.test) * dims / MIB
