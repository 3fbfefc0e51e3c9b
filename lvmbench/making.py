"""Fits made by training, one at a time or a cohort at once, and stored; what is stored already is read."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from lvmbench.checkpoints import DAMAGE, Checkpoints, Misfit
from lvmbench.environment import Phases, commit, hardware, versions
from lvmbench.errors import LvmbenchError, NotApplicable, StoreError, TrainingError
from lvmbench.evaluation import Evaluation
from lvmbench.fits import SPLITS, Data, Fitted, Workshop, load_fit, read_data, ready, rows_of, stored_in
from lvmbench.plan import Cell
from lvmbench.training import History, build, fit_together

WAIT = 0.5  # seconds between looks at a fit that another process makes


def fitted(cell: Cell, shop: Workshop, *, mates: Sequence[Cell] = (), refit: bool = False) -> Fitted:
    """Return the fit of a cell: as it is stored, or trained now and stored; its mates are trained along with it.

    Raises:
        DataError: if the data set is not the one that the cell was planned for.
    """
    data = read_data(cell, shop)
    folder = None if refit else shop.store.fit(cell.fit_key)
    keep = checkpoints(cell, shop)
    if refit:
        keep.clear()
    if folder is not None:
        try:
            found = stored_in(folder, data, shop)
        except (StoreError, *DAMAGE) as error:
            print(f"{folder}: damaged, trained again: {error}")  # noqa: T201 (into the log of the cell)
        else:
            keep.clear()  # what a process that was killed at its last act has left
            return found
    with ExitStack() as held:
        free = [mate for mate in mates if held.enter_context(shop.store.claim(mate.fit_key))]
        lacking = [mate for mate in free if shop.store.fit(mate.fit_key) is None]
        return _made([cell, *lacking], data, shop)


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
    return ready(fitted(cell, shop).model, shop.device)


def checkpoints(cell: Cell, shop: Workshop) -> Checkpoints:
    """Return where a cell's training keeps what it would go on from, here and with what is installed here."""
    here = {name: told for name, told in hardware(shop.device).items() if name != "cores"}
    made = {"fit": cell.fit_key, **versions(), **here, "threads": str(torch.get_num_threads())}
    return Checkpoints(shop.store.checkpoint(cell.fit_key), made)


def _made(cells: Sequence[Cell], data: Data, shop: Workshop) -> Fitted:
    """Train cells, encode their data, and store both; return the first.

    A mate that fails leaves nothing: its own cell will train it again, and tell.
    """
    keeps = [checkpoints(cell, shop) for cell in cells]
    with shop.phases("fit"):
        trained = _trained(cells, data, shop, keeps)
    seconds, peak = shop.phases.seconds["fit"], shop.phases.peak_mib["fit"]
    found: list[Fitted | Exception] = []
    for cell, keep, (model, told) in zip(cells, keeps, trained, strict=True):
        phases = Phases(shop.device) if found else shop.phases
        share = (seconds + keep.earlier) / len(cells)  # of what all took at once
        phases.seconds["fit"], phases.peak_mib["fit"] = round(share, 3), peak
        found.append(_outcome(cell, model, told, data, replace(shop, phases=phases)))
        if isinstance(found[-1], Fitted):
            keep.clear()
        elif len(found) > 1:
            print(f"{cell.label}, seed {cell.seed}: {found[-1]!r}")  # noqa: T201 (into the log of the cell)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _outcome(
    cell: Cell, model: Any, told: History | Exception, data: Data, shop: Workshop
) -> Fitted | Exception:
    """Return a trained model as it was stored, or what stopped that.

    Raises:
        StoreError: if nothing can be written.
    """
    if isinstance(told, Exception):
        return told
    try:
        return _kept(cell, model, told, data, shop)
    except StoreError:
        raise
    except Exception as error:  # of a model that cannot encode
        return error


def _trained(
    cells: Sequence[Cell], data: Data, shop: Workshop, keeps: Sequence[Checkpoints]
) -> list[tuple[Any, History | Exception]]:
    """Return the models of cells and what their training said, gone on from checkpoints where these serve."""
    first = cells[0]
    kind = shop.catalog.get("model", first.model).load()
    models = [build(kind, data.dataset.schema, cell.model_options, cell.seed) for cell in cells]
    told = fit_together(
        models,
        data.splits["train"],
        data.splits["val"],
        first.budget,
        data.dataset.schema,
        seeds=[cell.seed for cell in cells],
        device=shop.device,
        precision=first.precision,
        on_progress=lambda done, total: shop.progress("fit", done, total),
        keeps=keeps,
    )
    for keep, error in zip(keeps, told, strict=True):
        if isinstance(error, Misfit | TrainingError):  # of no use, or it would break again
            keep.clear()
    if isinstance(told[0], Misfit):
        print(f"{told[0]}, trained from the start")  # noqa: T201 (into the log of the cell)
        return [*_trained(cells[:1], data, shop, keeps[:1]), *zip(models[1:], told[1:], strict=True)]
    return list(zip(models, told, strict=True))


def _kept(cell: Cell, model: Any, history: History, data: Data, shop: Workshop) -> Fitted:
    """Encode the data of a trained model, and store both."""
    dataset, splits = data.dataset, data.splits
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
    return found


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
        "rows": {name: rows_of(split) for name, split in found.splits.items()},
    }
    (folder / "fit.json").write_text(json.dumps(told, indent=1))
