"""Fits as they are stored, and what looks at them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors.torch import load
from torch import Tensor

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.checkpoints import DAMAGE
from lvmbench.data import Dataset, Labels, Schema, Split, SplitName
from lvmbench.environment import Phases
from lvmbench.errors import DataError, StoreError
from lvmbench.evaluation import Evaluation
from lvmbench.findings import counted, findings_of
from lvmbench.labels import Splits, by_identity, permuted
from lvmbench.plan import Cell
from lvmbench.records import Store
from lvmbench.resolved import content_of
from lvmbench.training import History, build

SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
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
    data = read_data(cell, shop)
    try:
        return stored_in(folder, data, shop)
    except DAMAGE as error:
        raise StoreError(
            f"{folder}: not a whole fit ({type(error).__name__}: {error}). Run it again."
        ) from error


@dataclass(frozen=True)
class Data:
    """What a cell reads."""

    dataset: Dataset
    splits: Mapping[SplitName, Split]
    findings: Mapping[str, int]


def read_data(cell: Cell, shop: Workshop) -> Data:
    """Return the data of a cell; what a process has read last it does not read again."""
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
def _read(asked: _Asked) -> Data:
    cell = asked.cell
    dataset = asked.catalog.get("dataset", cell.dataset).load()(**cell.dataset_options)
    if content_of(dataset) != cell.fingerprint:
        raise DataError(f"{cell.dataset_label}: its files changed since this was planned. Run it again.")
    splits = {name: dataset.split(name, getattr(cell.budget, name)) for name in SPLITS}
    return Data(dataset, splits, counted(findings_of(dataset)))


def stored_in(folder: Path, data: Data, shop: Workshop) -> Fitted:
    """Return the fit that a folder holds.

    Raises:
        StoreError: if it is damaged.
    """
    model, kept = _read_fit(folder, shop.catalog)
    codes = load((folder / "codes.safetensors").read_bytes())
    history = History(**kept["history"])
    shop.phases.seconds["fit"], shop.phases.peak_mib["fit"] = kept["seconds"], kept["peak_mib"]
    rows = kept.get("rows", {})
    whole = {k: c for k, c in codes.items() if rows.get(n := k.partition("/")[0]) == rows_of(data.splits[n])}  # type: ignore[index]
    model = ready(model, shop.device)
    return Fitted(model, data.dataset, data.splits, history, whole, kept["made"], data.findings)


def rows_of(split: Split) -> str:
    """Name the rows that codes are of: another budget has others."""
    return sha256(split.rows.numpy().tobytes()).hexdigest()[:32]


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
    return ready(_read_fit(folder, catalog)[0], device)


def ready(model: Any, device: str) -> Any:
    """Return a model on its device, in evaluation mode."""
    if isinstance(model, torch.nn.Module):
        model.to(device).eval()
    return model
