"""Fits: made by training and stored, or read again as they were stored; and what looks at them."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load, save
from torch import Tensor

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.checkpoints import DAMAGE, Checkpoints, Misfit
from lvmbench.data import Dataset, Labels, Schema, Split, SplitName
from lvmbench.environment import Phases, commit, hardware, versions
from lvmbench.errors import DataError, LvmbenchError, NotApplicable, StoreError, TrainingError
from lvmbench.evaluation import Evaluation
from lvmbench.findings import counted, findings_of
from lvmbench.labels import Splits, by_identity, permuted
from lvmbench.plan import Cell
from lvmbench.records import Store
from lvmbench.resolved import content_of
from lvmbench.training import History, build, fit

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
WAIT = 0.5  # seconds between looks at a fit that another process makes
Progress = Callable[[str, int, int], None]
RELABELLED: Mapping[Labels, Callable[[Splits, int], Splits]] = {
    "given": lambda splits, _: splits,
    "permuted": permuted,
    "identity": by_identity,
}


@dataclass(frozen=True)
class Fitted:
    """A fitted model, its data and what was found in their files, what its training said, and with what it was made."""

    model: Any
    dataset: Dataset
    splits: Mapping[SplitName, Split]
    history: History
    codes: Mapping[str, Tensor]
    made: Mapping[str, Any]
    findings: Mapping[str, int]

    def evaluation(self, cell: Cell, device: str, judge: Callable[[], Any] | None = None) -> Evaluation:
        """Return the view of it that metrics and explanations read."""
        return Evaluation(
            self.model,
            self.dataset.schema,
            RELABELLED[cell.labels](self.splits, cell.seed),
            cell.budget,
            seed=cell.seed,
            device=device,
            codes=self.codes,
            dataset=self.dataset,
            judge=judge,
        )


@dataclass(frozen=True)
class Workshop:
    """Where fits are made and kept: what loads plugins, the store, the device, and who hears how it goes."""

    catalog: Catalog
    store: Store
    device: str
    phases: Phases
    progress: Progress = lambda phase, done, total: None


def fitted(cell: Cell, shop: Workshop, *, refit: bool = False) -> Fitted:
    """Return the fit of a cell: as it is stored, or trained now and stored.

    Raises:
        DataError: if the data set is not the one that the cell was planned for.
    """
    data = _data(cell, shop)
    folder = None if refit else shop.store.fit(cell.fit_key)
    keep = _checkpoints(cell, shop)
    if refit:
        keep.clear()
    if folder is not None:
        try:
            found = _stored(folder, data, shop)
        except (StoreError, *DAMAGE) as error:
            print(f"{folder}: damaged, trained again: {error}")  # noqa: T201 (into the log of the cell)
        else:
            keep.clear()  # what a process that was killed at its last act has left
            return found
    return _made(cell, data, shop, keep)


def stored(cell: Cell, shop: Workshop) -> Fitted:
    """Return the fit of a cell as it is stored.

    Raises:
        StoreError: if its weights were not kept, or are damaged.
        DataError: if the data set is not the one that it was fitted to.
    """
    folder = shop.store.fit(cell.fit_key)
    if folder is None:
        raise StoreError(
            f"{shop.store.folder(cell.fit_key)}: no weights of {cell.label}, seed {cell.seed}. Name the results "
            "folder that holds them, or run it again."
        )
    data = _data(cell, shop)
    try:
        return _stored(folder, data, shop)
    except DAMAGE as error:
        raise StoreError(
            f"{folder}: not a whole fit ({type(error).__name__}: {error}). Run it again."
        ) from error


def judge(cell: Cell, shop: Workshop) -> Any:
    """Return the model of a cell that other cells are judged by, ready to answer.

    Another process may be training it: its fit is waited for. When nobody trains it, or its fit is damaged, it is
    trained here.

    Raises:
        NotApplicable: if its own cell was skipped.
        LvmbenchError: if its own cell failed.
    """
    while True:
        if folder := shop.store.fit(cell.fit_key):
            with contextlib.suppress(StoreError):
                return load_fit(folder, shop.catalog, shop.device)
        with shop.store.claim(cell.fit_key) as mine:
            if mine:
                return _judge_made(cell, shop)
        time.sleep(WAIT)


def _judge_made(cell: Cell, shop: Workshop) -> Any:
    """Return a judge that nobody trains at this moment; what failed in its own cell fails for all."""
    last = shop.store.read(cell.fit_key).stored[-1:]
    if last and last[0].record.status != "done":
        kind = NotApplicable if last[0].record.status == "skipped" else LvmbenchError
        raise kind(f"the judge, {cell.label}, was not fitted: {last[0].record.reason}")
    return _ready(fitted(cell, shop).model, shop.device)


@dataclass(frozen=True)
class _Data:
    """What a cell reads."""

    dataset: Dataset
    splits: Mapping[SplitName, Split]
    findings: Mapping[str, int]


def _data(cell: Cell, shop: Workshop) -> _Data:
    with shop.phases("load"):
        shop.progress("load", 0, 1)
        return _read(_Asked(cell.content, cell.budget, cell, shop.catalog))


@dataclass(frozen=True)
class _Asked:
    """The data of a cell as far as its budget reads them; equal for equal content."""

    content: tuple[str, str]
    budget: Budget
    cell: Cell = field(compare=False)
    catalog: Catalog = field(compare=False)


@lru_cache(maxsize=1)  # a worker's cells mostly share their data: it builds, names and reads them once
def _read(asked: _Asked) -> _Data:
    cell = asked.cell
    dataset = asked.catalog.get("dataset", cell.dataset).load()(**cell.dataset_options)
    if content_of(dataset) != cell.fingerprint:
        raise DataError(f"{cell.dataset_label}: its files changed since this was planned. Run it again.")
    splits = {name: dataset.split(name, getattr(cell.budget, name)) for name in SPLITS}
    return _Data(dataset, splits, counted(findings_of(dataset)))


def _checkpoints(cell: Cell, shop: Workshop) -> Checkpoints:
    """Return where a cell's training keeps what it would go on from, here and with what is installed here."""
    here = {name: told for name, told in hardware(shop.device).items() if name != "cores"}
    made = {"fit": cell.fit_key, **versions(), **here, "threads": str(torch.get_num_threads())}
    return Checkpoints(shop.store.checkpoint(cell.fit_key), made)


def _trained(cell: Cell, data: _Data, shop: Workshop, keep: Checkpoints) -> tuple[Any, History]:
    """Return the model of a cell and what its training said, gone on from its last checkpoint where one serves."""
    model = build(
        shop.catalog.get("model", cell.model).load(), data.dataset.schema, cell.model_options, cell.seed
    )
    try:
        history = fit(
            model,
            data.splits["train"],
            data.splits["val"],
            cell.budget,
            data.dataset.schema,
            seed=cell.seed,
            device=shop.device,
            precision=cell.precision,
            on_progress=lambda done, total: shop.progress("fit", done, total),
            keep=keep,
        )
    except Misfit as error:
        print(f"{error}, trained from the start")  # noqa: T201 (into the log of the cell)
        keep.clear()
        return _trained(cell, data, shop, keep)
    except TrainingError:
        keep.clear()  # it would break again
        raise
    return model, history


def _made(cell: Cell, data: _Data, shop: Workshop, keep: Checkpoints) -> Fitted:
    """Train a cell, encode its data, and store both."""
    dataset, splits = data.dataset, data.splits
    with shop.phases("fit"):
        model, history = _trained(cell, data, shop, keep)
    shop.phases.seconds["fit"] = round(shop.phases.seconds["fit"] + keep.earlier, 3)
    ev = Evaluation(model, dataset.schema, splits, cell.budget, seed=cell.seed, device=shop.device)
    with shop.phases("encode"):
        shop.progress("encode", 0, 1)
        has_codes = "codes" in ev.capabilities
        codes = (
            {f"{name}/{ev.latent}": ev.codes(name).cpu().contiguous() for name in SPLITS} if has_codes else {}
        )
    made = {"versions": versions(), "hardware": hardware(shop.device), "commit": commit()}
    found = Fitted(model, dataset, splits, history, codes, made, data.findings)
    if hasattr(model, "state_dict"):
        shop.store.keep_fit(cell.fit_key, lambda folder: _keep(folder, cell, found, shop.phases))
    keep.clear()
    return found


def _stored(folder: Path, data: _Data, shop: Workshop) -> Fitted:
    model, kept = _read_fit(folder, shop.catalog)
    codes = load((folder / "codes.safetensors").read_bytes())
    history = History(**kept["history"])
    shop.phases.seconds["fit"], shop.phases.peak_mib["fit"] = kept["seconds"], kept["peak_mib"]
    rows = kept.get("rows", {})
    whole = {k: c for k, c in codes.items() if rows.get(n := k.partition("/")[0]) == _rows(data.splits[n])}  # type: ignore[index]
    model = _ready(model, shop.device)
    return Fitted(model, data.dataset, data.splits, history, whole, kept["made"], data.findings)


def _rows(split: Split) -> str:
    """Name the rows that codes are of: another budget has others."""
    return sha256(split.rows.numpy().tobytes()).hexdigest()[:32]


def _keep(folder: Path, cell: Cell, found: Fitted, phases: Phases) -> None:
    """Fill the folder of a fit: weights, codes, learning curve, and what is needed to build the model again."""
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in found.model.state_dict().items()}
    (folder / "weights.safetensors").write_bytes(save(weights))
    (folder / "codes.safetensors").write_bytes(save(dict(found.codes)))
    told = {
        "cell": asdict(cell),
        "schema": asdict(found.dataset.schema),
        "history": asdict(found.history),
        "seconds": phases.seconds["fit"],
        "peak_mib": phases.peak_mib["fit"],
        "made": found.made,
        "rows": {name: _rows(split) for name, split in found.splits.items()},
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
