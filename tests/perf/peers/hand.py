"""A hand-written loop: what a person who knows torch would write for one model, and nothing more.

It trains the same net on the same loss under the same schedule as the engine, looks as often at as many validation
pictures, and computes in the same precision. The engine's overhead is measured against it.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from unittest.mock import patch

import torch
from torch import Tensor
from torch.optim import Adam

from lvmbench.api import Budget
from lvmbench.bodies import computing_in
from lvmbench.data import Schema, Split
from lvmbench.descent import decay, often
from lvmbench.pixels import observe
from peers.engine import budget_of, looks_at, made, precision, splits
from peers.window import Timing, Window
from peers.workloads import Workload

LOOKS, WARM_UP = 20, 0.03


def train(
    model: torch.nn.Module, data: Split, val: Split, budget: Budget, schema: Schema, window: Window
) -> float:
    """Train a model in place, and return the seconds that looking at the validation pictures took."""
    steps, batch = budget.steps, budget.batch
    model.start(data)
    optimiser = Adam(model.parameters(), lr=budget.learning_rate, fused=True)
    many, fall = LOOKS * often(steps), decay(steps)
    looks = {-(-steps * i // many) for i in range(1, many + 1)}
    rows = torch.empty(0, dtype=torch.int64)
    losses: list[Tensor] = []
    curve: list[float] = []
    looking = 0.0
    model.train()
    for step in range(1, steps + 1):
        if len(rows) < batch:
            rows = torch.cat([rows, torch.randperm(len(data))])
        taken, rows = rows[:batch], rows[batch:]
        progress = (step - 0.5) / steps
        optimiser.param_groups[0]["lr"] = budget.learning_rate * min(
            1.0, progress / WARM_UP, (1 - progress) / fall
        )
        loss = mean_loss(model, observe(schema, data.images[taken.to(data.images.device)]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
        if step in looks:
            start = time.perf_counter()
            assert torch.stack(losses).isfinite().all()
            losses.clear()
            curve.append(look(model, val, batch, schema))
            looking += time.perf_counter() - start
        window.step()
    model.eval()
    return looking


@torch.no_grad()
def look(model: torch.nn.Module, val: Split, batch: int, schema: Schema) -> float:
    """Return the mean loss of the validation pictures, in nats."""
    model.eval()
    parts = [
        mean_loss(model, observe(schema, some)) * len(some) / len(val) for some in val.images.split(batch)
    ]
    model.train()
    return float(torch.stack(parts).sum())


def mean_loss(model: torch.nn.Module, x: Tensor) -> Tensor:
    """Return the mean over the batch of all terms of a model's loss, in nats: [B, C, H, W] -> []."""
    loss = model.loss(x)
    return sum(term.mean() for term in loss.values()) if isinstance(loss, dict) else loss.mean()


def run(workload: Workload, images: int, seeds: list[int], device: str) -> Timing:
    """Train one seed after another on so many images each, and return what it took."""
    budget = budget_of(workload, images)
    data, val = splits(workload, looks_at(budget), device)
    total = Timing()
    for seed in seeds:
        model = made(workload, seed).to(device)
        torch.manual_seed(seed)
        window = Window(device)
        # its layers are torch's own
        with computing_in(precision(device), model), patch("lvmbench.bodies.Quicker", nullcontext):
            looking = train(model, data, val, budget, workload.schema, window)
        total += window.timing(workload.batch, looking)
    return total
