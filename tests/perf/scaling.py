"""How time and memory grow: ``python tests/perf/scaling.py [--quick] [--only NAME] [--out FILE]``.

One thing grows at a time: images seen, seeds, the size of z, the side of the pictures, the cells of a run. Each point
is a fresh process of one thread; exponents are fitted by least squares of the logarithms. Writes the second
part of ``results/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peers.leg import Side
from peers.machine import fresh, head, peak_mib, resident_mib, shown
from peers.powers import fitted
from peers.report import OUT, QUICK, SCALING, attempted, number, table, verdict, write
from peers.workloads import split_of

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.data import Pixels, Schema
from lvmbench.environment import cores
from lvmbench.training import build, fit

ROWS = 4096
WORKLOAD = "iwae-k1-128"  # whose seeds are trained
CELLS = Path(__file__).with_name("many_cells.py")
MOST_SECONDS, MOST_MIB = 60, 500  # of 10,000 cells

HOW = """Seconds are those of training alone, the median of the rounds; memory is the peak of the process above what it
held with its libraries loaded. "Off" is the farthest that a point lies from its power law, as a factor."""


@dataclass(frozen=True)
class Point:
    """What is trained at one point: a VAE on noise."""

    images: int = 12_800
    latent_dim: int = 16
    side: int = 28
    channels: int = 1
    pixels: Pixels = "bernoulli"
    net: str = "burda"
    batch: int = 128
    rounds: int = 3


@dataclass(frozen=True)
class Cost:
    """What a point took."""

    seconds: float
    mib: float


FACES = Point(images=1280, channels=3, pixels="gaussian", net="conv", batch=64)
AXES: Mapping[str, tuple[Point, str, tuple[int, ...]]] = {
    "images seen": (Point(), "images", (16_000, 32_000, 64_000, 128_000)),
    "size of z": (Point(), "latent_dim", (8, 32, 128, 512)),
    "side of the pictures": (FACES, "side", (16, 32, 64, 128)),
}
SEEDS = (1, 2, 4, 8, 16)
NUMBERS_OF_CELLS = (100, 1_024, 10_000)  # squares: as many models as seeds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and write or print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few and small points, to see that it runs")
    parser.add_argument("--only", choices=[*AXES, "seeds", "cells"], help="one axis, printed")
    parser.add_argument("--out", type=Path, help=f"the file to write (default: {OUT.name} in results)")
    asked = parser.parse_args(arguments)
    sections = [QUICK] * asked.quick + [head(["python", *shown(sys.argv)]), HOW]
    for name in [asked.only] if asked.only else [*AXES, "seeds", "cells"]:
        print(name, file=sys.stderr)
        said = attempted(partial(_section, name, quick=asked.quick), name)
        sections.append(f"### {name[0].upper()}{name[1:]}\n\n{said}")
    text = "\n\n".join(sections)
    if asked.only and not asked.out:
        print(text)
    else:
        write(asked.out or OUT, SCALING, text)


def _section(name: str, *, quick: bool) -> str:
    if name == "seeds":
        return _seeds(quick=quick)
    if name == "cells":
        return _cells(quick=quick)
    base, field, values = AXES[name]
    if quick:
        base, values = replace(base, images=base.images // 4, rounds=1), values[:2]
    return told(name, values, [of_point(replace(base, **{field: value})) for value in values])


def told(name: str, values: Sequence[int], costs: Sequence[Cost]) -> str:
    """Return the points of an axis and the power laws through them."""
    rows = [[f"{v:,}", number(c.seconds), number(c.mib)] for v, c in zip(values, costs, strict=True)]
    time_law = fitted(values, [c.seconds for c in costs])
    memory_law = fitted(values, [max(c.mib, 1.0) for c in costs])
    return (
        f"{table([name, 'seconds', 'MiB'], rows)}\n\nSeconds grow as its power {time_law.exponent:.2f} (off "
        f"{time_law.off:.2f}), memory as its power {memory_law.exponent:.2f} (off {memory_law.off:.2f})."
    )


def of_point(point: Point) -> Cost:
    """Train a point in a fresh process."""
    return Cost(**json.loads(fresh(Path(__file__), "point", json.dumps(asdict(point)))))


def train_point(point: Point) -> Cost:
    """Train a point in this process."""
    schema = Schema((point.channels, point.side, point.side), point.pixels)
    budget = Budget("scaling", images=point.images, batch=point.batch, train=ROWS)
    options = {"net": point.net, "latent_dim": point.latent_dim}
    model = Catalog.discover().get("model", "vae").load()
    _warmed_up(model, point)
    before = resident_mib()
    images = torch.randint(0, 256, (ROWS, *schema.shape), dtype=torch.uint8)
    data, val = split_of(images, ROWS), split_of(images, ROWS)
    seconds = []
    for seed in range(point.rounds + 1):  # the first warms up
        fitting = build(model, schema, options, seed)
        start = time.perf_counter()
        fit(fitting, data, val, budget, schema, seed=seed)
        seconds.append(time.perf_counter() - start)
    return Cost(median(seconds[1:]), peak_mib() - before)


def _warmed_up(model: Any, point: Point) -> None:
    """Train a point's net on next to nothing, so that what libraries load when they are first used is loaded."""
    schema = Schema((point.channels, 8, 8), point.pixels)
    few = split_of(torch.zeros(8, *schema.shape, dtype=torch.uint8), 8)
    budget = Budget("warm-up", images=8, batch=2)
    fit(build(model, schema, {"net": point.net, "latent_dim": 2}, 0), few, few, budget, schema, seed=0)


def _seeds(*, quick: bool) -> str:
    values = SEEDS[:2] if quick else SEEDS
    costs = [_of_seeds(seeds, 1 if quick else 3) for seeds in values]
    return (
        f"The IWAE net, 12,800 images a seed, seeds dealt to {cores()} processes that are warm; memory is that of\n"
        f"all processes, libraries included.\n\n{told('seeds', values, costs)}"
    )


def _of_seeds(seeds: int, rounds: int) -> Cost:
    with Side("ours", WORKLOAD, "cpu", processes=min(seeds, cores())) as side:
        side.run(512, range(seeds))
        taken = []
        for _ in range(rounds):
            start = time.perf_counter()
            side.run(12_800, range(seeds))
            taken.append(time.perf_counter() - start)
        return Cost(median(taken), sum(peak_mib(process.pid) for process in side.processes))


def _cells(*, quick: bool) -> str:
    """Return what plan, dispatch, store and table take for a model that costs nothing."""
    values = NUMBERS_OF_CELLS[:2] if quick else NUMBERS_OF_CELLS
    costs, libraries = zip(*map(of_cells, values), strict=True)
    first, last = costs[0], costs[-1]
    each = 1024 * (last.mib - first.mib) / (values[-1] - values[0])
    said = verdict(last.seconds <= MOST_SECONDS and last.mib <= MOST_MIB)
    aim = f" Aim for 10,000 cells: {MOST_SECONDS} s and {MOST_MIB} MiB: {said}." if not quick else ""
    return (
        "A model that costs nothing: plan, dispatch, store and table. Memory is the highest peak of a process,\n"
        f"libraries included.\n\n{told('cells', values, costs)}\n\nA process that has loaded torch and the "
        f"libraries and done nothing takes {max(libraries):.0f} MiB,\n"
        f"a cell, with its plan and record, {each:.0f} KiB more.{aim}"
    )


def of_cells(cells: int) -> tuple[Cost, float]:
    """Run so many cells in a fresh process; return what they took, and the MiB of the libraries alone."""
    found = json.loads(fresh(CELLS, "--cells", str(cells)))
    return Cost(found["seconds"], found["mib"]), found["libraries"]


if __name__ == "__main__":
    if sys.argv[1:2] == ["point"]:
        print(json.dumps(asdict(train_point(Point(**json.loads(sys.argv[2]))))))
    else:
        main()
