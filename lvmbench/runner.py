"""From a spec to its results: what is missing is run, what is there is read."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lvmbench.api import Budget, Record
from lvmbench.catalog import Catalog
from lvmbench.cells import Task, blank
from lvmbench.companions import in_cohorts
from lvmbench.data import HasFindings
from lvmbench.environment import cores, results_dir
from lvmbench.errors import StoreError, UsageError
from lvmbench.executors import Executor, Inline, Outcome, Processes
from lvmbench.fits import load_fit
from lvmbench.plan import Cell, Plan, plan
from lvmbench.preparation import Maker, prepare
from lvmbench.records import Reading, Store, Stored
from lvmbench.spec import Asked, Spec

if TYPE_CHECKING:
    from pandas import DataFrame

Rerun = Literal["missing", "failed", "all"]
LONGEST_FIRST = ("ceiling", "model", "floor", "control")  # so that no long cell is left for the end, alone


@dataclass(frozen=True)
class Settings:
    """How a run is carried out; none of it changes a number."""

    results: Path
    jobs: int | None = None  # None: one a core, or one on a GPU; 0: in this process
    timeout: float | None = None  # seconds a cell may take
    rerun: Rerun = "missing"
    executor: str = ""
    strict: bool = False  # what is found in the files of the data is an error


class Listener(Maker, Protocol):
    """Hears how a run goes."""

    def begin(self, tasks: Sequence[Task], present: int) -> None:
        """Hear what will be run, and how many cells are there already."""

    def progress(self, task: Task, phase: str, done: int, total: int) -> None:
        """Hear how far a cell is in one of its phases."""

    def cell(self, task: Task, record: Record) -> None:
        """Hear of a finished cell."""


class Silent:
    """Says nothing."""

    def making(self, label: str, done: int, total: int) -> None:
        """Say nothing."""

    def made(self, label: str, count: int, seconds: float) -> None:
        """Say nothing."""

    def begin(self, tasks: Sequence[Task], present: int) -> None:
        """Say nothing."""

    def progress(self, task: Task, phase: str, done: int, total: int) -> None:
        """Say nothing."""

    def cell(self, task: Task, record: Record) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Results:
    """The records that answer a spec, and what could not be read; ``kept`` holds on to the files that they need.

    ``findings`` counts what is wrong with the files of the data as they are, by the content of the data, where they
    were looked at: the labels and the pictures of a record may be the same, and stray rows others.
    """

    stored: tuple[Stored, ...]
    problems: tuple[str, ...] = ()
    computed: int = 0
    kept: object = None
    findings: Mapping[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)

    @property
    def records(self) -> list[Record]:
        """Return the records, oldest first."""
        return [s.record for s in self.stored]

    @property
    def failed(self) -> list[Record]:
        """Return the records of cells that failed, or of which a score failed, as they stand by now."""
        newest: dict[tuple[str, str], Record] = {}
        scores: dict[tuple[str, str], tuple[Record, bool]] = {}
        for record in self.records:
            newest[record.fit_key, _labels_of(record)] = record
            for key in dict.fromkeys(
                s.key for s in record.scores
            ):  # what answers a metric anew answers it whole
                broken = any(s.status == "failed" for s in record.scores if s.key == key)
                scores[record.fit_key, key] = (record, broken)
        found = {id(r): r for r in newest.values() if r.status in ("failed", "timeout")}
        return [*found.values(), *(r for r, broken in scores.values() if broken and id(r) not in found)]

    def log_of(self, record: Record) -> Path:
        """Return the file that holds what the cell of a record printed."""
        return next(s.log for s in self.stored if s.record is record)

    @property
    def frame(self) -> DataFrame:
        """Return one line a score: data set, model, seed, metric, attribute, value, interval, n."""
        import pandas as pd

        return pd.DataFrame([line for record in self.records for line in _lines(record)])


def _lines(record: Record) -> Iterable[dict[str, Any]]:
    cell = record.cell
    asked = {
        "dataset": cell["dataset_label"],
        "model": cell["label"],
        "role": cell["role"],
        "seed": cell["seed"],
    }
    for s in record.scores:
        yield {
            **asked,
            "budget": cell["budget"]["name"],
            "metric": s.metric,
            "attribute": s.attribute,
            "value": s.value,
            "low": s.low,
            "high": s.high,
            "n": s.n,
            "status": s.status,
            "reason": s.reason,
        }
    if not record.scores:
        yield {**asked, "budget": cell["budget"]["name"], "status": record.status, "reason": record.reason}


def kind_of(device: str) -> str:
    """Return the device to use for ``auto``, or the one that was asked for.

    Raises:
        UsageError: if it does not exist here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    name, _, index = device.partition(":")
    if name not in ("cpu", "cuda") or (index and not index.isdigit()) or (name == "cpu" and index):
        raise UsageError(f"No device '{device}'. Known: auto, cpu, cuda, cuda:1.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cuda" and int(index or 0) >= count:
        raise UsageError(
            f"No device '{device}': this machine has {count} CUDA devices. Use --device cpu or auto."
        )
    return device


def tasks_of(planned: Plan, store: Store, device: str, rerun: Rerun = "missing") -> list[Task]:
    """Return what has to be run: a task for each cell that lacks a record or a score."""
    tasks = []
    by_key = {cell.fit_key: cell for cell in planned.cells}
    for cell in planned.cells:
        had = _had(_of_cell(store.read(cell.fit_key), cell), rerun)
        if had is None:
            continue
        missing = tuple(m for m in planned.measures_of(cell) if m.key(cell) not in had)
        if missing:
            attempt = store.attempt(cell.fit_key)
            where = str(store.path.absolute()), str(attempt.absolute())
            tasks.append(Task(cell, missing, *where, device, rerun == "all", by_key.get(cell.judge)))
    return sorted(tasks, key=lambda task: LONGEST_FIRST.index(task.cell.role))


def _labels_of(record: Record) -> str:
    return str(record.cell.get("labels", "given"))


def _of_cell(reading: Reading, cell: Cell) -> list[Stored]:
    """Return the records of a cell, oldest first: of its fit, those that were scored on the same labels."""
    return [s for s in reading.stored if _labels_of(s.record) == cell.labels]


def _had(stored: Sequence[Stored], rerun: Rerun) -> set[str] | None:
    """Return the keys of the scores that stand; None where a failed cell is left as it is."""
    if rerun == "all":
        return set()
    records = [s.record for s in stored]
    if rerun == "missing" and records and records[-1].status != "done":
        return None
    return {
        s.key
        for r in records
        if r.status == "done"
        for s in r.scores
        if s.status != "failed" or rerun == "missing"
    }


def answer(spec: Spec, catalog: Catalog, settings: Settings, listener: Listener | None = None) -> Results:
    """Run what a spec still lacks, and return all that answers it.

    Raises:
        UsageError: for anything in the spec that does not exist, before anything is trained.
        DataError: if the files of a data set cannot be read, or have what a strict run forbids: before that too.
        StoreError: if results cannot be written.
    """
    device = kind_of(spec.device)
    executor = _executor(settings, catalog, device)
    if not isinstance(executor, Processes):
        return _answered(spec, catalog, settings, listener or Silent(), device, executor)
    executor.start()  # its libraries load while this process plans
    try:
        return _answered(spec, catalog, settings, listener or Silent(), device, executor)
    finally:
        executor.stop()


def _answered(
    spec: Spec, catalog: Catalog, settings: Settings, listener: Listener, device: str, executor: Executor
) -> Results:
    planned = plan(spec, catalog, device.partition(":")[0])
    store = Store.open(settings.results)
    tasks = tasks_of(planned, store, device, settings.rerun)
    if isinstance(executor, Inline | Processes):  # others need not know who waits for whom
        tasks = in_cohorts(tasks, store, catalog)
    telling = [c for c in planned.cells if isinstance(planned.datasets[c.content], HasFindings)]
    read = [*(task.cell for task in tasks), *telling]
    findings = prepare(planned, read, catalog, listener, strict=settings.strict)
    planned = replace(planned, datasets={})  # what they hold is not needed while cells run
    listener.begin(tasks, len(planned.cells) - len(tasks))
    for outcome in executor.run(tasks, listener.progress):
        record = _recorded(outcome, store, catalog)
        listener.cell(outcome.task, record)
        _tell(catalog, record)
    return replace(gather(planned, store), computed=len(tasks), findings=findings)


def _tell(catalog: Catalog, record: Record) -> None:
    """Tell plugins of a finished cell; one that fails to listen stops nothing."""
    for hook in catalog.manager.hook.lvmbench_cell_done.get_hookimpls():
        try:
            hook.function(record=record)
        except Exception as error:
            warnings.warn(f"plugin '{hook.plugin_name}' failed to hear of a cell: {error!r}", stacklevel=2)


def _executor(settings: Settings, catalog: Catalog, device: str) -> Executor:
    jobs = settings.jobs
    if jobs is None:
        jobs = 1 if device.startswith("cuda") else cores()
    if settings.executor:
        made: Executor = catalog.get("executor", settings.executor).load()(
            jobs=jobs, timeout=settings.timeout
        )
        return made
    return Inline(catalog) if jobs == 0 else Processes(jobs, settings.timeout)


def _recorded(outcome: Outcome, store: Store, catalog: Catalog) -> Record:
    """Return the record of a finished task; for a task that was killed it is written here."""
    path = Path(outcome.task.attempt)
    if outcome.how != "done" and not path.exists():  # it may have finished in its last moment
        status: Literal["timeout", "failed"] = "timeout" if outcome.how == "timeout" else "failed"
        store.write(path, replace(blank(outcome.task, catalog), status=status, reason=outcome.reason))
    return store.one(path).record


def gather(planned: Plan, store: Store) -> Results:
    """Return the stored records of the planned cells, each with the planned scores alone.

    What another budget left of the same fit is no part of the answer, but for a fit that never was.
    """
    stored: list[Stored] = []
    problems: list[str] = []
    for cell in planned.cells:
        keys = {m.key(cell) for m in planned.measures_of(cell)}
        reading = store.read(cell.fit_key)
        problems += reading.problems
        own = [_only(s, keys, cell) for s in _of_cell(reading, cell)]
        stored += [s for s in own if s.record.scores or (s.record.status != "done" and s is own[-1])]
    return Results(tuple(stored), tuple(dict.fromkeys(problems)))


def _only(stored: Stored, keys: set[str], cell: Cell) -> Stored:
    scores = tuple(s for s in stored.record.scores if s.key in keys)
    return Stored(replace(stored.record, scores=scores, cell=asdict(cell)), stored.path)


def run(
    models: str | list[str],
    *,
    dataset: str | list[str] = "faces",
    metrics: str | list[str] = "default",
    seeds: int | list[int] = 3,
    budget: str | Budget = "quick",
    controls: bool = True,
    device: str = "auto",
    precision: Asked = "auto",
    results: str | Path | None = None,
    jobs: int | None = None,
    timeout: float | None = None,
    rerun: Rerun = "missing",
    strict: bool = False,
    drop_duplicates: bool = False,
) -> Results:
    """Train and score models, and return their records; what the command line does, under the same names."""
    spec = Spec(models, dataset, metrics, seeds, budget, controls, device, precision, drop_duplicates)
    folder = Path(results) if results else results_dir()
    settings = Settings(folder, jobs, timeout, rerun, strict=strict)
    return answer(spec, Catalog.discover(), settings)


def load(record: Record, *, results: str | Path | None = None, device: str = "cpu") -> Any:
    """Return the fitted model of a record, ready to encode and decode.

    Raises:
        StoreError: if its weights were not kept, or are damaged.
    """
    store = Store(Path(results) if results else results_dir())
    folder = store.fit(record.fit_key)
    if folder is None:
        raise StoreError(
            f"{store.folder(record.fit_key)}: no weights of {record.cell['label']}, seed {record.cell['seed']} "
            f"(status {record.status}). Name the results folder that holds them, or run it again."
        )
    return load_fit(folder, Catalog.discover(), device)
