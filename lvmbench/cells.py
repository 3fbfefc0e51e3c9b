"""One cell, from its data to its record: load, fit, encode, measure."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import Tensor

from lvmbench.api import Estimate, Metric, Record, Score, Value
from lvmbench.bodies import computing_in
from lvmbench.catalog import Catalog, Noun
from lvmbench.environment import Phases, commit, hardware, versions
from lvmbench.errors import LvmbenchError, NotApplicable, StoreError
from lvmbench.evaluation import Evaluation
from lvmbench.fits import Progress, Workshop
from lvmbench.making import fitted, judge
from lvmbench.pages import give_back
from lvmbench.plan import Cell, Measure
from lvmbench.protocols import BESIDE, capabilities
from lvmbench.records import Store
from lvmbench.statistics import percentile_interval, replicates


@dataclass(frozen=True)
class Task:
    """A cell to be run: which scores it still lacks, where its record goes, and on which device it runs.

    ``judge`` is the cell of the network that judges the pictures which this one draws. ``mates`` are cells that are
    trained along with this one; ``leader`` is the fit key of the cell that this one is trained along with.
    """

    cell: Cell
    measures: tuple[Measure, ...]
    store: str
    attempt: str
    device: str = "cpu"
    refit: bool = False
    judge: Cell | None = None
    mates: tuple[Cell, ...] = ()
    leader: str = ""

    def to_json(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        """Return the task of such a line."""
        return _adapter().validate_json(line)


@cache
def _adapter() -> TypeAdapter[Task]:
    return TypeAdapter(Task)


def run_cell(task: Task, catalog: Catalog, progress: Progress) -> Record | None:
    """Run a cell and write its record; None when another process works on it at this moment.

    Whatever the plugins raise becomes the reason of a failed record.

    Raises:
        StoreError: if the record cannot be written.
    """
    store = Store(Path(task.store))
    with store.claim(task.cell.fit_key) as mine:
        if not mine:
            return None
        record = blank(task, catalog)
        boots: dict[str, Tensor] = {}
        phases = Phases(task.device)
        try:
            with computing_in("float32"):  # but for training: torch convolves in tfloat32 unless told
                record, boots = _answer(task, catalog, store, phases, record, progress)
        except NotApplicable as reason:
            record = replace(record, status="skipped", reason=str(reason))
        except StoreError:
            raise
        except (Exception, SystemExit) as error:  # a model that leaves takes no other cell along
            traceback.print_exc()
            told = str(error) if isinstance(error, LvmbenchError) else f"{type(error).__name__}: {error}"
            record = replace(
                record, status="failed", reason=told, seconds=phases.seconds, peak_mib=phases.peak_mib
            )
        store.write(Path(task.attempt), record, boots)
        return record


def blank(task: Task, catalog: Catalog | None = None) -> Record:
    """Return the record of a cell that has produced nothing yet."""
    cell = task.cell
    names: list[tuple[Noun, str]] = [("model", cell.model), ("dataset", cell.dataset)]
    names += [("metric", measure.name) for measure in task.measures]
    origins = {f"{noun} {name}": catalog.get(noun, name).origin for noun, name in names} if catalog else {}
    return Record(
        fit_key=cell.fit_key,
        cell=asdict(cell),
        status="failed",
        versions=versions(),
        origins=origins,
        hardware=hardware(task.device),
        commit=commit(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _answer(
    task: Task, catalog: Catalog, store: Store, phases: Phases, record: Record, progress: Progress
) -> tuple[Record, dict[str, Tensor]]:
    cell = task.cell
    shop = Workshop(catalog, store, task.device, phases, progress)
    found = fitted(cell, shop, mates=task.mates, refit=task.refit)
    ev = found.evaluation(cell, task.device, _judge(task, found.model, shop))
    with phases("measure"):
        scores, boots = measured(ev, task, catalog, progress)
    answered = replace(
        record,
        status="done",
        scores=scores,
        converged=found.history.converged,
        way=found.history.way,
        parameters=_parameters(found.model),
        code_dims=_dims(ev),
        latents=getattr(found.model, "latents", None),
        seconds=phases.seconds,
        peak_mib=phases.peak_mib,
        findings=found.findings,
        **found.made,
    )
    return answered, boots


def measured(
    ev: Evaluation, task: Task, catalog: Catalog, progress: Progress
) -> tuple[tuple[Score, ...], dict[str, Tensor]]:
    """Return the scores of a task, and their bootstrap replicates as they are stored: [R] each."""
    scores, boots = [], {}
    for done, measure in enumerate(task.measures):
        progress("measure", done, len(task.measures))
        metric = catalog.get("metric", measure.name).load()
        for score, boot in take(ev, metric, measure, measure.key(task.cell)):
            scores.append(score)
            if boot is not None:
                boots[f"{measure.label}/{score.attribute or ''}"] = boot.float().cpu()
        give_back()
    return tuple(scores), boots


def _judge(task: Task, model: Any, shop: Workshop) -> Callable[[], Any] | None:
    """Return what gives the judge of a task, loaded or trained when it is first asked for."""
    cell = task.judge
    if cell is None:
        return None
    if cell.fit_key == task.cell.fit_key:
        return lambda: model
    beside = replace(shop, phases=Phases(shop.device))  # its seconds are not the task's
    return lambda: judge(cell, beside)


def take(ev: Evaluation, metric: Metric, measure: Measure, key: str) -> Iterator[tuple[Score, Tensor | None]]:
    """Yield the scores of one metric, with their bootstrap replicates; whatever it raises becomes a reason."""
    base = Score(measure.label, metric.version, "failed", key, measure.options)
    try:
        if lacking := _lacking(ev, metric):
            raise NotApplicable(lacking)
        found = ev.shared(metric.compute, **measure.options)
        values = found if isinstance(found, Mapping) else {None: found}
        for attribute, value in values.items():
            yield _score(replace(base, attribute=attribute), value, ev)
    except NotApplicable as reason:
        yield replace(base, status="n/a", reason=str(reason)), None
    except Exception as error:
        traceback.print_exc()
        yield replace(base, reason=f"{type(error).__name__}: {error}"), None


def _lacking(ev: Evaluation, metric: Metric) -> str:
    """Return why a metric cannot be taken of a model, or nothing."""
    absent = [need for need in metric.needs if need not in ev.capabilities]
    of_model = [need for need in absent if need not in BESIDE]
    told = [BESIDE[need] for need in absent if need in BESIDE]
    return "; ".join([f"the model gives no {', no '.join(of_model)}"] * bool(of_model) + told)


def _score(base: Score, value: Value, ev: Evaluation) -> tuple[Score, Tensor | None]:
    if isinstance(value, NotApplicable):
        return replace(base, status="n/a", reason=str(value)), None
    estimate = value if isinstance(value, Estimate) else Estimate(float(value))
    if not math.isfinite(estimate.value):
        return replace(base, reason=f"the metric returned {estimate.value}"), None
    boot = replicates(estimate, ev.weights())
    low, high = percentile_interval(boot) if boot is not None else (None, None)
    return (
        replace(
            base, status="done", value=estimate.value, low=low, high=high, n=estimate.n, note=estimate.note
        ),
        boot,
    )


def _parameters(model: Any) -> int | None:
    """Return how many numbers the model learned, or keeps where it has no parameters."""
    if not hasattr(model, "state_dict"):
        return None
    learned = list(model.parameters()) if isinstance(model, torch.nn.Module) else []
    return sum(t.numel() for t in learned or model.state_dict().values())


def _dims(ev: Evaluation) -> int | None:
    return int(ev.codes("test").shape[1]) if "codes" in capabilities(ev.model) else None
