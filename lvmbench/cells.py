"""One cell, from its data to its record: load, fit, encode, measure."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lvmbench.api import (
    BESIDE,
    Budget,
    Dataset,
    Estimate,
    Labels,
    Metric,
    Record,
    Schema,
    Score,
    Split,
    SplitName,
    Value,
    capabilities,
)
from lvmbench.catalog import Catalog, Noun
from lvmbench.environment import Phases, commit, hardware, versions
from lvmbench.errors import DataError, LvmbenchError, NotApplicable, StoreError
from lvmbench.evaluation import Evaluation
from lvmbench.labels import Splits, by_identity, permuted
from lvmbench.plan import Cell, Measure
from lvmbench.records import Store
from lvmbench.statistics import percentile_interval, replicates
from lvmbench.training import History, build, fit

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
Progress = Callable[[str, int, int], None]
RELABELLED: Mapping[Labels, Callable[[Splits, int], Splits]] = {
    "given": lambda splits, _: splits,
    "permuted": permuted,
    "identity": by_identity,
}
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    SafetensorError,
)  # what a damaged file raises


@dataclass(frozen=True)
class Task:
    """A cell to be run: which scores it still lacks, where its record goes, and on which device it runs."""

    cell: Cell
    measures: tuple[Measure, ...]
    store: str
    attempt: str
    device: str = "cpu"
    refit: bool = False

    def to_json(self) -> str:
        """Return the task as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Task:
        """Return the task of such a line."""
        return TypeAdapter(cls).validate_json(line)


@dataclass(frozen=True)
class Fitted:
    """A fitted model, its data, what its training said, and with what it was made."""

    model: Any
    dataset: Dataset
    splits: Mapping[SplitName, Split]
    history: History
    codes: Mapping[str, Tensor]
    made: Mapping[str, Any]


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
    fitted = _fitted(task, catalog, store, phases, progress)
    ev = Evaluation(
        fitted.model,
        fitted.dataset.schema,
        RELABELLED[cell.labels](fitted.splits, cell.seed),
        cell.budget,
        seed=cell.seed,
        device=task.device,
        codes=fitted.codes,
        dataset=fitted.dataset,
    )
    with phases("measure"):
        scores, boots = measured(ev, task, catalog, progress)
    answered = replace(
        record,
        status="done",
        scores=scores,
        converged=fitted.history.converged,
        parameters=_parameters(fitted.model),
        code_dims=_dims(ev),
        latents=getattr(fitted.model, "latents", None),
        seconds=phases.seconds,
        peak_mib=phases.peak_mib,
        **fitted.made,
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
    return tuple(scores), boots


def _fitted(task: Task, catalog: Catalog, store: Store, phases: Phases, progress: Progress) -> Fitted:
    """Return the fit of a cell: as it is stored, or trained now and stored."""
    cell = task.cell
    dataset = catalog.get("dataset", cell.dataset).load()(**cell.dataset_options)
    if dataset.fingerprint != cell.fingerprint:
        raise DataError(f"{cell.dataset_label}: its files changed while the run was going on. Run it again.")
    with phases("load"):
        progress("load", 0, 1)
        splits = _splits(_Data(cell.fingerprint, dataset, cell.budget))
    folder = None if task.refit else store.fit(cell.fit_key)
    if folder is not None and (kept := _stored(folder, dataset, splits, catalog, task, phases)):
        return kept
    model = build(catalog.get("model", cell.model).load(), dataset.schema, cell.model_options, cell.seed)
    with phases("fit"):
        history = fit(
            model,
            splits["train"],
            splits["val"],
            cell.budget,
            dataset.schema,
            seed=cell.seed,
            device=task.device,
            on_progress=lambda done, total: progress("fit", done, total),
        )
    ev = Evaluation(model, dataset.schema, splits, cell.budget, seed=cell.seed, device=task.device)
    with phases("encode"):
        progress("encode", 0, 1)
        has_codes = "codes" in ev.capabilities
        codes = {f"{name}/mean": ev.codes(name).cpu().contiguous() for name in SPLITS} if has_codes else {}
    made = {"versions": versions(), "hardware": hardware(task.device), "commit": commit()}
    fitted = Fitted(model, dataset, splits, history, codes, made)
    if hasattr(model, "state_dict"):
        store.keep_fit(cell.fit_key, lambda folder: _keep(folder, task, fitted, phases))
    return fitted


@dataclass(frozen=True)
class _Data:
    """A data set as far as a budget reads it; equal for equal content."""

    fingerprint: str
    dataset: Dataset = field(compare=False)
    budget: Budget


@lru_cache(maxsize=1)  # a worker's cells mostly share their data
def _splits(data: _Data) -> dict[SplitName, Split]:
    return {name: data.dataset.split(name, getattr(data.budget, name)) for name in SPLITS}


def _stored(
    folder: Path,
    dataset: Dataset,
    splits: Mapping[SplitName, Split],
    catalog: Catalog,
    task: Task,
    phases: Phases,
) -> Fitted | None:
    """Return a fit as it is stored; None where it is damaged, so that it is made again."""
    try:
        model, kept = _read_fit(folder, catalog)
        codes = load((folder / "codes.safetensors").read_bytes())
        history = History(**kept["history"])
        phases.seconds["fit"], phases.peak_mib["fit"] = kept["seconds"], kept["peak_mib"]
    except (StoreError, *DAMAGE) as error:
        print(f"{folder}: damaged, trained again: {error}")  # noqa: T201 (into the log of the cell)
        return None
    whole = {k: c for k, c in codes.items() if len(c) == len(splits[k.partition("/")[0]])}  # type: ignore[index]
    return Fitted(_ready(model, task.device), dataset, splits, history, whole, kept["made"])


def _keep(folder: Path, task: Task, fitted: Fitted, phases: Phases) -> None:
    """Fill the folder of a fit: weights, codes, learning curve, and what is needed to build the model again."""
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in fitted.model.state_dict().items()}
    (folder / "weights.safetensors").write_bytes(save(weights))
    (folder / "codes.safetensors").write_bytes(save(dict(fitted.codes)))
    told = {
        "cell": asdict(task.cell),
        "schema": asdict(fitted.dataset.schema),
        "history": asdict(fitted.history),
        "seconds": phases.seconds["fit"],
        "peak_mib": phases.peak_mib["fit"],
        "made": fitted.made,
    }
    (folder / "fit.json").write_text(json.dumps(told, indent=1))


def _read_fit(folder: Path, catalog: Catalog) -> tuple[Any, dict[str, Any]]:
    try:
        kept = json.loads((folder / "fit.json").read_text())
        cell = TypeAdapter(Cell).validate_python(kept["cell"])
        schema = TypeAdapter(Schema).validate_python(kept["schema"])
        weights = load((folder / "weights.safetensors").read_bytes())
        model = build(catalog.get("model", cell.model).load(), schema, cell.model_options, cell.seed)
        model.load_state_dict(weights)
    except DAMAGE as error:
        raise StoreError(
            f"{folder}: not a whole fit ({type(error).__name__}: {error}). Run it again."
        ) from error
    return model, kept


def load_fit(folder: Path, catalog: Catalog, device: str = "cpu") -> Any:
    """Return the model that a fit left, ready to encode and decode; its data set need not be there.

    Raises:
        StoreError: if the folder is damaged.
        PluginError: if the model's plugin is not installed.
    """
    return _ready(_read_fit(folder, catalog)[0], device)


def _ready(model: Any, device: str) -> Any:
    if isinstance(model, torch.nn.Module):
        model.to(device).eval()
    return model


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
