"""What the harness itself costs: ``python tests/perf/many_cells.py [--cells 10000] [--jobs 2]``.

Cells of a model that costs nothing, scored by a metric that costs nothing, go the whole way: plan, prepare, dispatch,
run, store, and the commands that read what was stored. Seconds and peak memory of each step are printed; a worker's
peak is the highest that any record tells. The last line is JSON: ``seconds`` from plan to table, ``mib``, the highest
peak of any process on that way, and ``libraries``, what a process takes that has loaded torch and done nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import lvmbench
from lvmbench import Attribute, Budget, Evaluation, Record, Schema, Split, cli
from lvmbench.catalog import Catalog
from lvmbench.environment import Phases, cores
from lvmbench.plan import plan
from lvmbench.runner import Settings, answer
from lvmbench.spec import Spec

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
    """Hears when cells begin to run, and how much memory the workers took."""

    def __init__(self) -> None:
        self.prepared, self.worker_mib = 0.0, 0.0

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


def processor_seconds() -> float:
    """Return the processor time of this process, and of those that it started and that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def told(step: str, seconds: float | None, processor: float | None, mib: float) -> None:
    """Print a line of the table."""
    times = [" " * 10 if value is None else f"{value:8.2f} s" for value in (seconds, processor)]
    print(f"{step:36} {times[0]} {times[1]} {mib:6.0f} MiB", flush=True)


def answered(spec: Spec, results: Path, jobs: int, when: str) -> tuple[float, float]:
    """Run a spec in this process and its workers; print what it took, return seconds and the highest MiB."""
    clock, phases = Clock(), Phases()
    start, used = time.perf_counter(), processor_seconds()
    with phases("all"):
        found = answer(spec, Catalog.discover(), Settings(results, jobs), clock)
    end, used = time.perf_counter(), processor_seconds() - used
    told(f"{when}: plan, prepare", clock.prepared - start, None, phases.peak_mib["all"])
    told(f"{when}: dispatch, run, store, gather", end - clock.prepared, None, phases.peak_mib["all"])
    told(f"{when}: in all", end - start, used, phases.peak_mib["all"])
    if found.computed:
        told(f"{when}: a worker", None, None, clock.worker_mib)
    print(f"{when}: {found.computed} computed, {len(found.records)} records, {len(found.failed)} failed")
    if found.failed:
        raise SystemExit(f"{when}: {len(found.failed)} cells failed: what they took is no figure.")
    return end - start, max(phases.peak_mib["all"], clock.worker_mib)


COMMAND = """
import sys
from lvmbench.cli import lvmbench
from lvmbench.environment import Phases
with (phases := Phases())("all"):
    lvmbench(sys.argv[1:], standalone_mode=False)
print(phases.peak_mib["all"], file=sys.stderr)
"""


def commanded(*words: str) -> tuple[float, float]:
    """Run a command of lvmbench in a process of its own; print what it took, and return seconds and peak in MiB."""
    start, used = time.perf_counter(), processor_seconds()
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=True
    )
    seconds, peak = time.perf_counter() - start, float(ended.stderr.splitlines()[-1])
    told(f"lvmbench {words[0]}", seconds, processor_seconds() - used, peak)
    return seconds, peak


def main(cells: int, jobs: int, folder: Path) -> None:
    """Run so many cells twice, read them by the commands, and print what each step took."""
    variants = max(1, round(math.sqrt(cells)))
    models = [f"nothing(variant={i})" for i in range(variants)]
    spec = Spec(models, "dots", "first-code", -(-cells // variants), TINY, controls=False, device="cpu")
    install(folder)
    print(f"{variants} models x {spec.seeds} seeds, {jobs} workers{'':9} wall    processor    peak")
    phases = Phases()
    with phases("libraries"):
        pass
    libraries = phases.peak_mib["libraries"]
    told("the libraries alone", None, None, libraries)
    used = processor_seconds()
    with phases("plan"):
        plan(spec, Catalog.discover())
    told("plan alone", phases.seconds["plan"], processor_seconds() - used, phases.peak_mib["plan"])
    results = folder / "runs"
    run = answered(spec, results, jobs, "first run")
    answered(spec, results, jobs, "second run")
    table = commanded("table", "--results", str(results))
    for words in (("runs",), ("compare", str(results))):
        if words[0] in cli.lvmbench.commands:
            commanded(*words, "--results", str(results))
    print(json.dumps({"seconds": run[0] + table[0], "mib": max(run[1], table[1]), "libraries": libraries}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=cores())
    asked = parser.parse_args()
    sys.modules[NAME] = sys.modules["__main__"]  # the plugin is this file, loaded once
    with tempfile.TemporaryDirectory() as place:
        main(asked.cells, asked.jobs, Path(place))
