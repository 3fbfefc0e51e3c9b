"""What a user waits for: ``python tests/perf/time_to_quality.py [--minutes 2,10,20] [--device cuda] [--out FILE]``.

A VAE of Burda's net learns MNIST, binarised anew at each look, on one core or a GPU, for so many minutes: how far does
-log p(x) of the test pictures come? The files of MNIST are where ``LVMBENCH_DATA`` says. Writes a part of
``results/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peers.machine import fresh, head, shown
from peers.report import GPU_QUALITY, OUT, QUALITY, table, verdict, write
from torch import Tensor

from lvmbench.api import Budget
from lvmbench.bodies import fastest
from lvmbench.catalog import Catalog
from lvmbench.data import Dataset, Split
from lvmbench.objectives import bounds
from lvmbench.pixels import observe
from lvmbench.randomness import noise
from lvmbench.training import build, fit

AIMS = {"cpu": {2: 90.0, 10: 87.3, 20: 86.76}, "cuda": {2: 86.76}}  # nats by minutes
BATCH, RATE = 128, 0.002
DRAWS, FEW_DRAWS = 5_000, 16
ROWS = 1_000  # test pictures of the many draws; the others take part through their ELBO
TRIAL = {"cpu": 1_500_000, "cuda": 4_000_000}  # images that tell how many fit into the time
FILLED = 0.94  # of the time: the machine may be slower then
OPTIONS = {"net": "burda", "latent_dim": 50}

HOW = f"""Batch {BATCH}, Adam at {RATE:g} under the engine's own schedule; seconds are those of
training alone, by the clock. -log p(x) is the importance-weighted bound of {DRAWS:,} draws in float32 on {ROWS:,}
test pictures, with the ELBO of all 10,000 as its control variate; the standard error is that of this estimate,
not that over pictures (0.25) or seeds."""


@dataclass(frozen=True)
class Reached:
    """How far a fit came."""

    minutes: int
    images: int
    seconds: float
    elbo: float
    nll: float
    error: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Train for each length of time, and write what was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", default="2,10,20", help="how long to train, each from its own start")
    parser.add_argument("--jobs", type=int, default=1, help="fits at one time, a core each")
    parser.add_argument("--device", choices=list(AIMS), default="cpu")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    begun = head(["python", *shown(sys.argv)], asked.device)
    with ThreadPoolExecutor(asked.jobs) as pool:
        lengths = sorted(asked.minutes.split(","), key=int, reverse=True)
        answers = pool.map(lambda minutes: fresh(Path(__file__), "point", minutes, asked.device), lengths)
        found = [Reached(**json.loads(answer)) for answer in answers]
    beside = f"{asked.jobs} fits at one time" if asked.jobs > 1 else "One fit at a time"
    beside += ", one thread each." if asked.device == "cpu" else "."
    text = f"{begun}\n\n{HOW} {beside}\n\n{told(found[::-1], AIMS[asked.device])}"
    write(asked.out, QUALITY if asked.device == "cpu" else GPU_QUALITY, text)


def reached(minutes: int, device: str) -> Reached:
    """Train for so many minutes in this process, and estimate -log p(x) of the test pictures."""
    data = Catalog.discover().get("dataset", "mnist").load()(val=1_000)
    model, images, seconds = within(60 * minutes, lambda images: trained(data, images, device), TRIAL[device])
    test = data.split("test", 10_000)
    with noise(0, device):
        rough = -torch.cat([bounds(model, x, FEW_DRAWS).elbo for x in _seen(data, test, device)])
    with noise(0, device):
        close = -torch.cat([bounds(model, x, DRAWS).iwae for x in _seen(data, test.head(ROWS), device)])
    nll, error = with_control(close, rough)
    return Reached(minutes, images, seconds, float(rough.double().mean()), nll, error)


def within(limit: float, train: Callable[[int], tuple[Any, float]], trial: int) -> tuple[Any, int, float]:
    """Return a model trained for at most so many seconds, by so many images, and the seconds that it took.

    A trial tells how many images fit; where the machine was slower afterwards, it is trained anew on fewer.
    """
    train(trial // 10)
    images, seconds = trial, train(trial)[1]
    model = None
    while model is None or seconds > limit:
        images = int(images * FILLED * limit / seconds)
        model, seconds = train(images)
    return model, images, seconds


def trained(data: Dataset, images: int, device: str) -> tuple[Any, float]:
    """Return a VAE that saw so many images, and the seconds that it took."""
    budget = Budget("time", images=images, batch=BATCH, learning_rate=RATE, train=59_000, val=1_000)
    train, val = data.split("train", budget.train), data.split("val", budget.val)
    model = build(Catalog.discover().get("model", "vae").load(), data.schema, OPTIONS, 0)
    start = time.perf_counter()
    fit(
        model, train, val, budget, data.schema, seed=0, device=device, precision=fastest(device)
    )  # fmt: skip
    return model, time.perf_counter() - start


def with_control(few: Tensor, many: Tensor) -> tuple[float, float]:
    """Return the mean of numbers known of the first rows, corrected by others known of all, and its error."""
    gap = (few - many[: len(few)]).double()
    return float(many.double().mean() + gap.mean()), float(gap.std() / len(few) ** 0.5)


def _seen(data: Dataset, test: Split, device: str) -> list[Tensor]:
    return [observe(data.schema, images.to(device)) for images in test.images.split(100)]


def told(found: Sequence[Reached], aims: Mapping[int, float]) -> str:
    """Return the table."""
    head = ["minutes", "seconds", "images", "passes", "-ELBO", "-log p(x)", "s.e.", "aim", ""]
    rows = []
    for one in found:
        aim = aims.get(one.minutes)
        beside = [f"<= {aim}", verdict(one.nll <= aim)] if aim else ["", ""]
        passes = f"{one.images / 59_000:.0f}"
        figures = [f"{one.elbo:.2f}", f"{one.nll:.2f}", f"{one.error:.2f}"]
        rows.append([str(one.minutes), f"{one.seconds:.0f}", f"{one.images:,}", passes, *figures, *beside])
    return table(head, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["point"]:
        torch.set_num_threads(1)
        print(json.dumps(asdict(reached(int(sys.argv[2]), sys.argv[3]))))
    else:
        main()
