"""What a run will cost, from a few steps of each model on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from tabulate import tabulate

from lvmbench.catalog import Catalog
from lvmbench.cohorts import SHORT, is_dense
from lvmbench.data import Schema, Split
from lvmbench.environment import cores
from lvmbench.errors import LvmbenchError, NotApplicable
from lvmbench.objectives import bounds
from lvmbench.pixels import observe
from lvmbench.plan import Cell, plan
from lvmbench.protocols import capabilities
from lvmbench.randomness import noise
from lvmbench.records import Store
from lvmbench.runner import Settings, kind_of, tasks_of
from lvmbench.spec import Spec
from lvmbench.training import build, fit

TRIAL_STEPS = (2, 10)
REPLAYED_STEPS = (SHORT, SHORT + 16)  # of nets whose steps are a good deal faster where they are replayed
TRIAL_ROWS, TRIAL_TRAIN = 16, 512


def estimate(spec: Spec, catalog: Catalog, settings: Settings) -> str:
    """Return the plan as a table, with the training and the density estimate of each model timed in a short trial."""
    device = kind_of(spec.device)
    planned = plan(spec, catalog, device.partition(":")[0])
    tasks = tasks_of(planned, Store(settings.results), device, settings.rerun)
    jobs = min(settings.jobs or (1 if device.startswith("cuda") else cores()), max(1, len(tasks)))
    rows, total = [], 0.0
    for group in _by_model(planned.cells):
        cell = group[0]
        todo = [t for t in tasks if t.cell in group]
        trained = todo and cell.labels == "given"  # on other labels the same fit is scored once more
        seconds = _trial(cell, catalog, device) if trained else 0.0
        total += seconds * len(todo)
        told = _span(seconds) if todo else "–"
        rows.append([cell.label, cell.role, cell.dataset_label, len(group), len(todo), told])
    header = ["model", "role", "data set", "seeds", "to run", "a cell, about"]
    metrics = ", ".join(m.label for m in planned.measures)
    b = spec.budget_of()
    return "\n".join(
        [
            tabulate(rows, header),
            "",
            f"budget {b.name}: {b.images:,} images seen, batch {b.batch}, up to {b.train:,} train rows; K = {b.draws} "
            f"on {b.density_rows} of {b.test:,} test rows",
            f"metrics: {metrics}",
            f"about {_span(total / jobs)} with {jobs} jobs, without reading the data and fitting the probes: a trial "
            "of some steps on this machine, now",
        ]
    )


def _by_model(cells: Sequence[Cell]) -> list[list[Cell]]:
    found: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.dataset_label, cell.label), []).append(cell)
    return list(found.values())


def _trial(cell: Cell, catalog: Catalog, device: str) -> float:
    """Return the seconds that training and the density estimate of a cell will take, from a trial on noise."""
    schema: Schema = catalog.get("dataset", cell.dataset).load()(**cell.dataset_options).schema
    kind = catalog.get("model", cell.model).load()
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if device == "cpu" else threads)
    try:
        dense = is_dense(build(kind, schema, cell.model_options, cell.seed))
        begin, end = REPLAYED_STEPS if dense and cell.budget.steps >= SHORT else TRIAL_STEPS
        few, many = (_fit_seconds(kind, cell, schema, device, steps) for steps in (begin, end))
        training = max(0.0, many - few) / (end - begin) * cell.budget.steps
        return training + _bound_seconds(kind, cell, schema, device)
    except (NotApplicable, LvmbenchError):  # its cell will tell
        return 0.0
    finally:
        torch.set_num_threads(threads)


def _fit_seconds(kind: Any, cell: Cell, schema: Schema, device: str, steps: int) -> float:
    budget = replace(cell.budget, images=steps * cell.budget.batch)
    train, val = _noise_split(schema, max(budget.batch, TRIAL_TRAIN)), _noise_split(schema, TRIAL_ROWS)
    model = build(kind, schema, cell.model_options, cell.seed)
    start = time.perf_counter()
    fit(model, train, val, budget, schema, seed=0, device=device, precision=cell.precision)
    return time.perf_counter() - start


def _bound_seconds(kind: Any, cell: Cell, schema: Schema, device: str) -> float:
    model = build(kind, schema, cell.model_options, cell.seed)
    if "log_weights" not in capabilities(model):
        return 0.0
    x = observe(schema, _noise_split(schema, TRIAL_ROWS).images).to(device)
    k = min(cell.budget.draws, 16)
    start = time.perf_counter()
    with noise(0):
        bounds(model.to(device), x, k)
    return (time.perf_counter() - start) / (k * len(x)) * cell.budget.draws * cell.budget.density_rows


def _noise_split(schema: Schema, n: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, *schema.shape), generator=generator, dtype=torch.uint8)
    labels = torch.zeros(n, len(schema.attributes))
    labels[::2] = 1.0
    return Split(images, labels, torch.arange(n))


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
