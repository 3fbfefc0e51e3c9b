"""Codes of any origin, scored as those of a model are: the same metrics, records and tables."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from lvmbench.api import Budget, Record
from lvmbench.catalog import Catalog
from lvmbench.cells import Task, blank, measured
from lvmbench.data import Labels, Split
from lvmbench.environment import Phases
from lvmbench.evaluation import Evaluation
from lvmbench.fits import RELABELLED, Progress
from lvmbench.given import Codes, Column, Given, given
from lvmbench.plan import GIVEN, METRIC_SETS, TOLD, Cell, Measure, Plan, measures_of
from lvmbench.records import Store
from lvmbench.runner import Listener, Results, Silent, gather, kind_of, tasks_of
from lvmbench.spec import Spec
from lvmbench.tabular import Data, Kinds

READ = {"codes", "labels"}  # what there is for a metric to read
MAJORITY = "majority"


class Table:
    """A model of rows whose codes are known: it looks them up."""

    def __init__(self, codes: Tensor) -> None:
        self.codes = codes

    def encode_rows(self, split: Split) -> Tensor:
        """Return the codes of a split: [N] rows -> [N, D]."""
        return self.codes[split.rows]


class _Folder:
    """A temporary folder that lives as long as this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="lvmbench-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def score(
    codes: Codes,
    labels: Data,
    *,
    splits: Column = None,
    groups: Column = None,
    kinds: Kinds | None = None,
    metrics: str | list[str] = "default",
    seeds: int | list[int] = 3,
    name: str = "codes",
    data: str = "labels",
    results: str | Path | None = None,
    device: str = "auto",
) -> Results:
    """Score codes [N, D] against labels of the same N rows, and return the records that tables are made of.

    What the columns of ``labels`` are is decided by the rules of ``lvmbench.tabular``; ``kinds`` overrides them.
    ``splits`` and ``groups`` name columns or hold a value a row: train, val or test, and identities. Without
    splits each seed draws its own, 60 / 20 / 20 %, an identity in one of them alone; intervals then count the choice
    of test rows twice, within seeds and between them, and are somewhat too wide. Beside the codes under
    their ``name`` stand the same codes on permuted labels, and the majority class. ``results`` is a folder of
    results to keep the records in, among those of models.

    Raises:
        DataError: if the codes are not finite numbers, rows do not match, or no column can be an attribute.
        UsageError: for a name that does not exist.
    """
    held = given(codes, labels, splits=splits, groups=groups, kinds=kinds)
    return score_given(held, metrics, seeds, name, data, results, device)


def score_given(
    held: Given,
    metrics: str | list[str],
    seeds: int | list[int],
    name: str,
    data: str,
    results: str | Path | None,
    device: str,
    listener: Listener | None = None,
) -> Results:
    """Return what ``score`` does, and tell a listener on the way."""
    listener, catalog, device = listener or Silent(), Catalog.discover(), kind_of(device)
    spec = Spec(metrics=metrics, seeds=seeds)
    kind = device.partition(":")[0]
    cells = tuple(
        _cell(held, data, kind, row, seed) for row in _rows(held, name) for seed in spec.seed_list()
    )
    planned = Plan(cells, tuple(_measures(spec, catalog)))
    folder = None if results else _Folder()
    store = Store.open(folder.path if folder else Path(results or ""))
    tasks = tasks_of(planned, store, device)
    listener.begin(tasks, len(cells) - len(tasks))
    for task in tasks:
        record, boots = _scored(task, held, catalog, _progress(listener, task))
        store.write(Path(task.attempt), record, boots)
        listener.cell(task, record)
    found = gather(planned, store)
    left_out = [f"column '{column}': {reason}" for column, reason in held.columns.left_out.items()]
    return replace(found, problems=(*left_out, *found.problems), computed=len(tasks), kept=folder)


def _progress(listener: Listener, task: Task) -> Progress:
    return lambda phase, done, total: listener.progress(task, phase, done, total)


def _measures(spec: Spec, catalog: Catalog) -> list[Measure]:
    """Return what was asked for; of a set of metrics those that read codes or labels and nothing else."""
    asked = measures_of(spec, catalog)
    if spec.metrics not in tuple(METRIC_SETS):
        return asked
    needs = {m.name: set(catalog.get("metric", m.name).load().needs) for m in asked}
    return [m for m in asked if needs[m.name] and needs[m.name] <= READ]


def _rows(held: Given, name: str) -> Iterator[tuple[str, str, Labels]]:
    """Yield the rows of the table: label, role, and the labels that they are scored on."""
    yield name, "model", "given"
    yield f"{name}, {TOLD['permuted']}", "control", "permuted"
    if held.shared:  # else no probe has seen a test identity, and theirs are labels permuted
        yield f"{name}, {TOLD['identity']}", "control", "identity"
    yield MAJORITY, "control", "given"


def _cell(held: Given, data: str, device: str, row: tuple[str, str, Labels], seed: int) -> Cell:
    label, role, labels = row
    n = len(held.codes)
    return Cell(
        dataset=GIVEN,
        dataset_options={"rows": n, "split": held.told},
        dataset_label=data,
        fingerprint=held.fingerprint,
        model=GIVEN,
        model_options={},
        model_source="" if _is_majority(label, role) else held.source,
        role=role,
        label=label,
        seed=seed,
        budget=Budget(GIVEN, images=1, batch=1, train=n, val=n, test=n),
        device=device,
        labels=labels,
    )


def _is_majority(label: str, role: str) -> bool:
    return (label, role) == (MAJORITY, "control")


def _scored(
    task: Task, held: Given, catalog: Catalog, progress: Progress
) -> tuple[Record, dict[str, Tensor]]:
    cell, phases = task.cell, Phases(task.device)
    nothing = _is_majority(cell.label, cell.role)
    codes = torch.zeros(len(held.codes), 1) if nothing else held.codes
    splits = RELABELLED[cell.labels](held.split(cell.seed), cell.seed)
    ev = Evaluation(Table(codes), held.schema, splits, cell.budget, seed=cell.seed, device=task.device)
    with phases("measure"):
        scores, boots = measured(ev, task, catalog, progress)
    origins = {f"metric {m.name}": catalog.get("metric", m.name).origin for m in task.measures}
    record = replace(
        blank(task),
        status="done",
        scores=scores,
        code_dims=codes.shape[1],
        origins=origins,
        seconds=phases.seconds,
        peak_mib=phases.peak_mib,
    )
    return record, boots
