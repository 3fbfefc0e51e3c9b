"""Our side: lvmbench's own engine, asked as the harness asks it, in a process of one thread."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from lvmbench.api import Budget
from lvmbench.bodies import WORTH, Precision, fastest
from lvmbench.catalog import Catalog
from lvmbench.data import Split
from lvmbench.descent import often
from lvmbench.feed import feed, on
from lvmbench.members import Ground, Member
from lvmbench.training import LOOK_COST, LOOKS, build, fit_together
from peers.window import Timing, Window
from peers.workloads import Workload, pictures, split_of


def precision(device: str) -> Precision:
    """Return the precision that lvmbench takes by itself."""
    return fastest(torch.device(device).type)


def mostly(workload: Workload, device: str) -> Precision:
    """Return the precision of most of a workload's arithmetic: on a processor a body of few rows stays float32."""
    few = device == "cpu" and workload.batch * workload.k < WORTH
    return "float32" if few else precision(device)


def run(workload: Workload, images: int, seeds: list[int], device: str) -> Timing:
    """Train these seeds on so many images each, and return what it took."""
    budget = budget_of(workload, images)
    data, val = splits(workload, looks_at(budget), device)
    together = [seeds] if device != "cpu" else [[seed] for seed in seeds]
    return sum((_timed(workload, budget, data, val, some, device) for some in together), Timing())


def _timed(
    workload: Workload, budget: Budget, data: Split, val: Split, seeds: list[int], device: str
) -> Timing:
    """Train these seeds at the same time, timed from the first word of progress: by then steps are recorded."""
    window = Window(device)
    told = fit_together(
        [made(workload, seed) for seed in seeds],
        data,
        val,
        budget,
        workload.schema,
        seeds=seeds,
        device=device,
        on_progress=lambda step, steps: window.step(step),
        precision=precision(device),
    )
    for found in told:
        if isinstance(found, Exception):
            raise found
    return window.timing(workload.batch * len(seeds))


def made(workload: Workload, seed: int) -> torch.nn.Module:
    """Return a model with the initial weights of a seed."""
    return build(_model(workload.model), workload.schema, workload.options, seed)


def member(workload: Workload, seed: int) -> Member:
    """Return a member that is to train a workload on a processor."""
    data, val = splits(workload, workload.batch, "cpu")
    ground = Ground(feed(data, "cpu"), val, workload.schema, torch.device("cpu"))
    return Member(made(workload, seed), seed, budget_of(workload, workload.batch * 1000), ground, None)


def budget_of(workload: Workload, images: int) -> Budget:
    """Return a budget of so many images."""
    return Budget("speed", images=images, batch=workload.batch, train=workload.rows)


def looks_at(budget: Budget) -> int:
    """Return how many validation pictures make the looks of a short run cost the share that they have in a long one."""
    return max(1, round(budget.images / LOOK_COST * LOOKS / min(LOOKS * often(budget.steps), budget.steps)))


def splits(workload: Workload, looked_at: int, device: str) -> tuple[Split, Split]:
    """Return the pictures to learn from and those to choose by, on the device."""
    data = _resident(workload, device)
    return data, data.head(looked_at)


@lru_cache(1)
def _resident(workload: Workload, device: str) -> Split:
    return on(split_of(pictures(workload), workload.rows), device)


@lru_cache
def _model(name: str) -> Any:
    return Catalog.discover().get("model", name).load()
