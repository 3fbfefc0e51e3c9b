"""What the harness itself costs: ``python tests/perf/many_cells.py [--cells 10000] [--jobs 2]``.

Cells of a model that costs nothing, scored by a metric that costs nothing, go the whole way: plan, prepare, dispatch,
run, store, and the commands that read what was stored. Seconds and peak memory of each step are printed; a worker's
peak is the highest that any record tells.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lvmbench
from lvmbench import Attribute, Budget, Evaluation, Record, Schema, Split
from lvmbench.environment import Phases

NAME = Path(__file__).stem
TINY = Budget("tiny", images=64, batch=32, train=64, val=32, test=64, draws=4, density_rows=16)


class Nothing:
    """Encodes the mean of each row of pixels; ``variant`` changes nothing."""

    def __init__(self, schema: Schema, *, variant: int = 0) -> None:
        self.variant = variant

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn nothing."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of each row of pixels: [B, C, H, W] -> [B, C H]."""
        return x.mean(dim=3).flatten(1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return what there is to keep: nothing."""
        return {}

    def load_state_dict(self, weights: dict[str, Tensor]) -> None:
        """Take nothing up."""


@lvmbench.metric(better="neither", needs=("codes",))
def first_code(ev: Evaluation) -> lvmbench.Estimate:
    """Return the mean of the first number of a code."""
    return lvmbench.Estimate.of_rows(ev.codes()[:, 0])


class Dots:
    """A few pictures of 8×8."""

    schema = Schema((1, 8, 8), "bernoulli", (Attribute("Odd", "binary"),))
    fingerprint = "dots 1"

    def split(self, name: str, limit: int | None = None) -> Split:
        """Return the first rows of one part."""
        rows = torch.arange(limit or 64) + 100 * ("train", "val", "test").index(name)
        images = (rows[:, None] * torch.arange(64) % 256).to(torch.uint8).reshape(-1, 1, 8, 8)
        return Split(images, (rows % 2).float()[:, None], rows)


@lvmbench.hookimpl
def lvmbench_models() -> dict[str, Any]:
    """Name the model."""
    return {"nothing": Nothing}


@lvmbench.hookimpl
def lvmbench_metrics() -> dict[str, Any]:
    """Name the metric."""
    return {"first-code": first_code}


@lvmbench.hookimpl
def lvmbench_datasets() -> dict[str, Any]:
    """Name the data set."""
    return {"dots": Dots}


def install(folder: Path) -> None:
    """Make this file a plugin of this process and of those that it starts."""
    told = folder / f"{NAME}-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[lvmbench]\n{NAME} = {NAME}\n")
    paths = [str(folder), str(Path(__file__).parent)]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])


class Clock:
    """Hears when cells begin to run, and counts them."""

    def __init__(self) -> None:
        self.started, self.prepared, self.worker_mib = time.perf_counter(), 0.0, 0.0

    def making(self, label: str, done: int, total: int) -> None:
        """Hear nothing of it."""

    def made(self, label: str, count: int, seconds: float) -> None:
        """Hear nothing of it."""

    def begin(self, tasks: Sequence[Any], present: int) -> None:
        """Hear that planning is over."""
        self.prepared = time.perf_counter()

    def progress(self, task: Any, phase: str, done: int, total: int) -> None:
        """Hear nothing of it."""

    def cell(self, task: Any, record: Record) -> None:
        """Hear of a worker's memory."""
        self.worker_mib = max(self.worker_mib, *record.peak_mib.values())


def told(step: str, seconds: float, mib: float) -> None:
    """Print a line of the table."""
    print(f"{step:34} {seconds:8.2f} s {mib:8.0f} MiB", flush=True)


def answered(spec: Any, results: Path, jobs: int, when: str) -> None:
    """Run a spec in this process and its workers, and print what it took."""
    from lvmbench.catalog import Catalog
    from lvmbench.runner import Settings, answer

    clock, phases = Clock(), Phases()
    with phases("all"):
        found = answer(spec, Catalog.discover(), Settings(results, jobs), clock)
    end = time.perf_counter()
    told(f"{when}: plan, prepare", clock.prepared - clock.started, phases.peak_mib["all"])
    told(f"{when}: dispatch, run, store, gather", end - clock.prepared, phases.peak_mib["all"])
    if found.computed:
        told(f"{when}: a worker", (end - clock.prepared) * 1.0, clock.worker_mib)
    print(f"{when}: {found.computed} computed, {len(found.records)} records, {len(found.failed)} failed")


def commanded(*words: str) -> None:
    """Run a command of lvmbench in a process of its own, and print what it took."""
    start = time.perf_counter()
    argv = [sys.executable, "-m", "lvmbench.cli", *words]
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    pid = os.posix_spawn(sys.executable, argv, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(pid, 0)
    told(f"lvmbench {words[0]}", time.perf_counter() - start, usage.ru_maxrss / 1024)
    if status:
        sys.exit(f"lvmbench {words[0]} left with {os.waitstatus_to_exitcode(status)}")


def main(cells: int, jobs: int) -> None:
    """Run so many cells twice, read them by the commands, and print what each step took."""
    from lvmbench import cli
    from lvmbench.catalog import Catalog
    from lvmbench.plan import plan
    from lvmbench.spec import Spec

    variants = max(1, round(math.sqrt(cells)))
    models = [f"nothing(variant={i})" for i in range(variants)]
    spec = Spec(models, "dots", "first-code", -(-cells // variants), TINY, controls=False, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        runs = Path(folder, "runs")
        phases = Phases()
        with phases("plan"):
            planned = plan(spec, Catalog.discover())
        print(f"{len(planned.cells)} cells, {jobs} workers")
        told("plan alone", phases.seconds["plan"], phases.peak_mib["plan"])
        answered(spec, runs, jobs, "first run")
        answered(spec, runs, jobs, "second run")
        for words in (("table",), ("runs",), ("compare", str(runs))):
            if words[0] in cli.lvmbench.commands:
                commanded(*words, "--results", str(runs))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    asked = parser.parse_args()
    sys.modules[NAME] = sys.modules["__main__"]  # the plugin is this file, loaded once
    main(asked.cells, asked.jobs)
