"""What was asked, and the cells that answer it: ``Spec -> plan -> Cell, Cell, ...``."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lvmbench.api import Budget
from lvmbench.calls import Call, parse_calls
from lvmbench.catalog import Catalog, Item, modules_of, source_hash
from lvmbench.errors import UsageError
from lvmbench.options import option_model, resolve
from lvmbench.spec import Spec

PROTOCOL = 1  # raised when the harness itself changes what a number means
OWN = "lvmbench"  # the distribution whose metrics and controls a run uses unless told otherwise
ALL = "all"  # every model that is installed
ENGINE = tuple(
    f"lvmbench.{name}"
    for name in ("training", "randomness", "nets", "vae", "objectives", "pixels", "evaluation")
)
PRECISION = "float32"


@dataclass(frozen=True)
class Cell:
    """One data set, one model with all options resolved, one seed: the unit of a result.

    ``fit_key`` names everything that decides the weights. The labels are what a table shows: the name, and the
    options that differ from their defaults.
    """

    dataset: str
    dataset_options: Mapping[str, Any]
    dataset_label: str
    fingerprint: str
    model: str
    model_options: Mapping[str, Any]
    model_source: str
    role: str
    label: str
    seed: int
    budget: Budget
    device: str  # kind of device: cpu, cuda
    precision: str = PRECISION
    protocol: int = PROTOCOL

    @property
    def fit_key(self) -> str:
        """Return the digest of all that decides the weights."""
        asked = {
            k: v for k, v in asdict(self).items() if k not in ("budget", "role", "label", "dataset_label")
        }
        return _digest({**asked, "budget": self.budget.fit_part()})


@dataclass(frozen=True)
class Measure:
    """One metric with its options, to be taken of every cell."""

    name: str
    options: Mapping[str, Any]
    version: int
    label: str

    def key(self, cell: Cell) -> str:
        """Return the score key: the fit, the metric's version and options, and how finely it is scored."""
        return _digest([cell.fit_key, self.name, self.options, self.version, cell.budget.score_part()])


@dataclass(frozen=True)
class Plan:
    """The cells and the metrics that answer a spec."""

    cells: tuple[Cell, ...]
    measures: tuple[Measure, ...]


def plan(spec: Spec, catalog: Catalog, device: str = "cpu") -> Plan:
    """Return the cells that answer a spec, controls last; nothing is trained and nothing is read.

    Raises:
        UsageError: for an unknown name, a misspelt option or a value out of range.
        PluginError: if a plugin that is asked for cannot be used.
    """
    seeds, budget = spec.seed_list(), spec.budget_of()
    models = [_model(catalog.get("model", call.name), call.options) for call in _model_calls(spec, catalog)]
    if not models:
        names = ", ".join(i.name for i in catalog.items("model") if i.entry.role == "model")
        raise UsageError(f"No model was asked for. Known: {names}.")
    measures = tuple(_measures(spec, catalog))
    models += _controls(catalog, models) if spec.controls else []
    data = [_dataset(catalog.get("dataset", call.name), call, budget) for call in _calls(spec.dataset)]
    for dataset, model in itertools.product(data, models):
        _try_building(catalog, dataset, model)
    cells = [
        Cell(**dataset, **model, seed=seed, budget=budget, device=device)
        for dataset, model, seed in itertools.product(_distinct(data), _distinct(models), seeds)
    ]
    return Plan(tuple(cells), measures)


def _calls(text: str | Sequence[str]) -> list[Call]:
    texts = [text] if isinstance(text, str) else text
    return [call for t in texts if t.strip() for call in parse_calls(t)]


def _model_calls(spec: Spec, catalog: Catalog) -> list[Call]:
    every = [Call(i.full_name) for i in catalog.items("model") if i.entry.role == "model"]
    if given := next((call for call in _calls(spec.models) if call.name == ALL and call.options), None):
        raise UsageError(
            f"'{given}': models have options each of their own. Name those that are to have them."
        )
    return [c for call in _calls(spec.models) for c in (every if call.name == ALL else [call])]


def _try_building(catalog: Catalog, dataset: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Let the constructor of a model refuse options that go ill together; nothing is allocated for it.

    What else goes wrong here goes wrong in the cell as well, and is told there.
    """
    import torch

    kind = catalog.get("model", model["model"]).load()
    schema = catalog.get("dataset", dataset["dataset"]).load()(**dataset["dataset_options"]).schema
    try:
        with torch.device("meta"):
            kind(schema, **model["model_options"])
    except UsageError as error:
        raise UsageError(f"{model['label']}: {error}") from None
    except (Exception, SystemExit):
        return


def _measures(spec: Spec, catalog: Catalog) -> list[Measure]:
    calls = []
    own = [i for i in catalog.items("metric") if i.plugin.dist == OWN and not i.entry.on_request]
    default = [Call(i.full_name, options) for i in own for options in ({}, *i.entry.also)]
    for call in _calls(spec.metrics):
        calls += default if call.name == "default" else [call]
    measures = []
    for call in calls:
        item = catalog.get("metric", call.name)
        metric = item.load()
        options = resolve(item.name, metric.compute, call.options)
        label = str(Call(item.name, call.options))
        measures.append(Measure(item.full_name, options, metric.version, label))
    return list({(m.name, str(m.options)): m for m in measures}.values())


def _distinct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({_digest(row): row for row in rows}.values())


def _model(item: Item, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a cell that tell its model."""
    target = item.load()
    options = resolve(item.name, target, given)
    nets = [value for value in options.values() if isinstance(value, str) and "." in value]  # a plugin's own
    return {
        "model": item.full_name,
        "model_options": options,
        "model_source": _digest([item.origin, source_hash(*modules_of(target), *nets, *ENGINE)]),
        "role": item.entry.role,
        "label": _label(item, options),
    }


def _label(item: Item, options: Mapping[str, Any]) -> str:
    """Return a name with the options that differ from their defaults, as a person would write it."""
    defaults = option_model(item.load()).model_fields
    changed = {k: v for k, v in options.items() if v != defaults[k].get_default()}
    whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in changed.items()}
    return str(Call(item.name, whole))


def _controls(catalog: Catalog, asked: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the floors and ceilings of the asked models: of the same size, built of the same parts.

    A control takes over every option that it shares by name with a model; each combination is a row.
    """
    found = []
    for item in catalog.items("model"):
        if (
            item.plugin.dist != OWN
            or item.entry.role == "model"
            or item.full_name in {m["model"] for m in asked}
        ):
            continue
        own = option_model(item.load()).model_fields
        shared = [{k: v for k, v in m["model_options"].items() if k in own} for m in asked]
        most = max(len(options) for options in shared)
        found += [_model(item, options) for options in shared if len(options) == most]
    return found


def _dataset(item: Item, call: Call, budget: Budget) -> dict[str, Any]:
    """Return the fields of a cell that tell its data."""
    factory = item.load()
    options = resolve(call.name, factory, call.options)
    if "size" in options and "size" not in call.options and budget.size is not None:
        options = resolve(call.name, factory, {**call.options, "size": budget.size})
    fingerprint = factory(**options).fingerprint
    return {
        "dataset": item.full_name,
        "dataset_options": options,
        "dataset_label": _label(item, options),
        "fingerprint": fingerprint,
    }


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
