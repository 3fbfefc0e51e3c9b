"""The cells that answer a spec: ``Spec -> plan -> Cell, Cell, ...``; controls are added by the plan itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from lvmbench.api import Budget
from lvmbench.bodies import Precision, fastest
from lvmbench.calls import Call, parse_calls
from lvmbench.catalog import Catalog, Item
from lvmbench.data import Dataset, Labels, Schema
from lvmbench.errors import NotApplicable, UsageError
from lvmbench.options import option_model, resolve
from lvmbench.protocols import capabilities
from lvmbench.resolved import Data, code_size, data_of, digest, has_bodies, model_fields, without_duplicates
from lvmbench.spec import Spec

PROTOCOL = 1  # raised when the harness itself changes what a number means
OWN = "lvmbench"  # the distribution whose metrics and controls a run uses unless told otherwise
ALL = "all"  # every model that is installed
METRIC_SETS = {"default": ("by default",), "full": ("by default", "in full")}  # which entries each takes
GIVEN = "given"  # what a cell names for its model and its data where a person brought codes and labels
TOLD: Mapping[Labels, str] = {"permuted": "labels permuted", "identity": "labels by identity"}


@dataclass(frozen=True)
class Cell:
    """One data set, one model with all options resolved, one seed: the unit of a result.

    ``fit_key`` names everything that decides the weights, the data by their content: files that moved keep their
    results. ``dataset_label`` and ``label`` are what a table shows: the name, and the options that differ from
    their defaults, or the title that a data set gives itself. ``labels`` says against which labels the codes
    are scored: those of the data set, or such as a control puts in their place. ``judge`` is the fit key of the
    network that saw the labels of the same data, by which scores are judged that need one.
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
    precision: Precision = "float32"  # of the networks while they train
    protocol: int = PROTOCOL
    labels: Labels = "given"
    seedless: bool = False  # no seed changes the model: one stands for all
    judge: str = ""

    @property
    def content(self) -> tuple[str, str]:
        """Name the data: by the data set, and by what is in it."""
        return self.dataset, self.fingerprint

    @cached_property
    def fit_key(self) -> str:
        """Return the digest of all that decides the weights."""
        told = ("budget", "role", "label", "dataset_label", "dataset_options", "labels", "seedless", "judge")
        asked = {k: v for k, v in asdict(self).items() if k not in told}
        return digest({**asked, "budget": self.budget.fit_part()})


@dataclass(frozen=True)
class Measure:
    """One metric with its options, to be taken of every cell; if it reads no labels, of given ones only."""

    name: str
    options: Mapping[str, Any]
    version: int
    label: str
    reads_labels: bool = False
    is_judged: bool = False

    def key(self, cell: Cell) -> str:
        """Return the score key: fit, labels and judge, the metric's version and options, how finely it is scored."""
        beside = [] if cell.labels == "given" else [str(cell.labels)]
        beside += [f"judged by {cell.judge}"] if self.is_judged else []
        asked = [cell.fit_key, self.name, self.options, self.version, cell.budget.score_part()]
        return digest(asked + beside)


@dataclass(frozen=True)
class Plan:
    """The cells and the metrics that answer a spec, and the data sets as they were built, by their content."""

    cells: tuple[Cell, ...]
    measures: tuple[Measure, ...]
    datasets: Mapping[tuple[str, str], Dataset] = field(default_factory=dict, compare=False, repr=False)

    def measures_of(self, cell: Cell) -> tuple[Measure, ...]:
        """Return what is to be taken of a cell."""
        # what a network judges was learned from the given labels: others make no sense of its verdicts
        other = tuple(m for m in self.measures if m.reads_labels and not m.is_judged)
        return self.measures if cell.labels == "given" else other


def plan(spec: Spec, catalog: Catalog, device: str = "cpu") -> Plan:
    """Return the cells that answer a spec, controls last; nothing is trained, and no more is read than names the data.

    Raises:
        UsageError: for an unknown name, a misspelt option or a value out of range.
        PluginError: if a plugin that is asked for cannot be used.
    """
    seeds, budget = spec.seed_list(), spec.budget_of()
    models = [
        model_fields(catalog.get("model", call.name), call.options) for call in _model_calls(spec, catalog)
    ]
    if not models:
        names = ", ".join(i.name for i in catalog.items("model") if i.entry.role == "model")
        raise UsageError(f"No model was asked for. Known: {names}.")
    measures = tuple(measures_of(spec, catalog))
    data = _contents(data_of(item, call, budget) for item, call in _asked_data(spec, catalog))
    precision = _precision(spec, device)
    cells = [
        Cell(**one.fields, **row, seed=seed, budget=budget, device=device)
        for one in data.values()
        for row in _rows(catalog, one.dataset.schema, models, spec, measures, precision)
        for seed in (seeds[:1] if row["seedless"] else seeds)
    ]
    return Plan(tuple(_judged(cells, catalog)), measures, {key: one.dataset for key, one in data.items()})


def _precision(spec: Spec, device: str) -> Precision:
    if spec.precision == "auto":
        return fastest(device)
    if spec.precision == "tfloat32" and device == "cpu":
        raise UsageError("precision = 'tfloat32' is one of GPUs. Use bfloat16 or float32, or --device cuda.")
    return spec.precision


def _judged(cells: Sequence[Cell], catalog: Catalog) -> list[Cell]:
    """Return the cells, each with the first ceiling of its data that can answer, where there is one."""
    judges: dict[tuple[str, str], str] = {}
    for cell in cells:
        if cell.role == "ceiling" and "answers" in capabilities(catalog.get("model", cell.model).load()):
            judges.setdefault(cell.content, cell.fit_key)
    return [replace(cell, judge=judges.get(cell.content, "")) for cell in cells]


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


def _rows(
    catalog: Catalog,
    schema: Schema,
    models: Sequence[dict[str, Any]],
    spec: Spec,
    measures: Sequence[Measure],
    precision: Precision,
) -> list[dict[str, Any]]:
    """Return the rows that a data set gets in the tables: the asked models, and their controls.

    A model without networks that can compute in ``precision`` computes in float32.
    """
    sizes = []
    for model in models:
        try:
            sizes.append(code_size(catalog, schema, model))
        except NotApplicable:  # its cell will tell
            sizes.append(None)
    rows = list(models)
    if spec.controls:
        rows += _controls(catalog, schema, models, sizes)
        if any(m.reads_labels for m in measures):
            rows += _with_other_labels(schema, models, sizes)
    # one whose networks compute in float32 anyhow has one fit for every precision
    return [
        {**row, "precision": precision if has_bodies(catalog, schema, row) else "float32"}
        for row in _distinct(rows)
    ]


def _controls(
    catalog: Catalog,
    schema: Schema,
    asked: Sequence[Mapping[str, Any]],
    sizes: Sequence[int | None],
) -> Iterator[dict[str, Any]]:
    """Yield floors, ceilings and other controls of the asked models: of the same size, built of the same parts.

    A control takes over every option that it shares by name with a model, and the size of its code; each
    combination is a row. One that a data set does not allow is left out.
    """
    for item in catalog.items("model"):
        if (
            item.plugin.dist != OWN
            or item.entry.role == "model"
            or item.full_name in {m["model"] for m in asked}
        ):
            continue
        own = option_model(item.load()).model_fields
        shared = []
        for model, size in zip(asked, sizes, strict=True):
            sized = {**model["model_options"], **({"latent_dim": size} if size else {})}
            shared.append({k: v for k, v in sized.items() if k in own})
        most = max(len(options) for options in shared)
        for options in shared:
            if len(options) == most and _allowed(catalog, schema, control := model_fields(item, options)):
                yield control


def _allowed(catalog: Catalog, schema: Schema, control: Mapping[str, Any]) -> bool:
    try:
        code_size(catalog, schema, control)
    except NotApplicable:
        return False
    return True


def _with_other_labels(
    schema: Schema,
    asked: Sequence[dict[str, Any]],
    sizes: Sequence[int | None],
) -> Iterator[dict[str, Any]]:
    """Yield the first model with a code once more, scored on labels that say nothing of its pictures."""
    first = next((model for model, size in zip(asked, sizes, strict=True) if size), None)
    if first is None or not schema.attributes:
        return
    for labels, told in TOLD.items():
        if labels == "permuted" or schema.identities:
            yield {**first, "role": "control", "label": f"{first['label']}, {told}", "labels": labels}


def measures_of(spec: Spec, catalog: Catalog) -> list[Measure]:
    """Return the metrics that a spec asks for.

    Raises:
        UsageError: for an unknown name, a misspelt option or a value out of range.
    """
    calls = []
    sets = {name: list(_metric_set(name, catalog)) for name in METRIC_SETS}
    for call in _calls(spec.metrics):
        calls += sets.get(call.name, [call])
    measures = []
    for call in calls:
        item = catalog.get("metric", call.name)
        metric = item.load()
        options = resolve(item.name, metric.compute, call.options)
        label = str(Call(item.name, call.options))
        needs = ("labels" in metric.needs, "judge" in metric.needs)
        measures.append(Measure(item.full_name, options, metric.version, label, *needs))
    return list({(m.name, str(m.options)): m for m in measures}.values())


def _metric_set(name: str, catalog: Catalog) -> Iterator[Call]:
    """Yield what ``default`` or ``full`` stands for."""
    for item in catalog.items("metric"):
        if item.plugin.dist == OWN and item.entry.taken in METRIC_SETS[name]:
            yield Call(item.full_name)
            for options in item.entry.also if name == "full" else ():
                yield Call(item.full_name, options)


def _asked_data(spec: Spec, catalog: Catalog) -> Iterator[tuple[Item, Call]]:
    for call in _calls(spec.dataset):
        item = catalog.get("dataset", call.name)
        yield item, without_duplicates(catalog, item, call) if spec.drop_duplicates else call


def _contents(data: Iterable[Data]) -> dict[tuple[str, str], Data]:
    """Return data sets by their content, the first of each."""
    found: dict[tuple[str, str], Data] = {}
    for one in data:
        found.setdefault((one.fields["dataset"], one.fields["fingerprint"]), one)
    return found


def _distinct(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({digest(row): row for row in rows}.values())
