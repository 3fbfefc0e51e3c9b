"""What the tables hold: a row a model, an attribute, or a pair of models; every figure with its interval."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from lvmbench.aggregate import Attributes, Figure, Group, Row
from lvmbench.api import Metric
from lvmbench.calls import parse_calls
from lvmbench.catalog import Catalog
from lvmbench.errors import PluginError
from lvmbench.statistics import holm

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
BOLD = {"github": "**{}**", "pipe": "**{}**", "html": "<b>{}</b>", "unsafehtml": "<b>{}</b>"}
UNKNOWN = Metric(lambda ev: math.nan, better="neither")
ALPHA = 0.05


@dataclass(frozen=True)
class Table:
    """A title, a header, rows of text, and what has to be said below."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


class Cards:
    """The cards of metrics by the label under which they were measured."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.known: dict[str, Metric] = {}

    def __getitem__(self, label: str) -> Metric:
        if label not in self.known:
            name = parse_calls(label)[0].name
            same = [item for item in self.catalog.items("metric") if item.name == name]
            with contextlib.suppress(PluginError):  # its plugin is gone; its numbers are not
                self.known[label] = same[0].load() if same else UNKNOWN
        return self.known.get(label, UNKNOWN)


def model_table(group: Group, cards: Cards, fmt: str) -> Table:
    """Return rows of models and controls, columns of metrics; per-attribute metrics as their mean."""
    header = ["model", "dims", "parameters", "fit s", "converged"]
    columns = [[_name(r) for r in group.rows], *_facts(group.rows)]
    several = any(len(row.fits) > 1 for row in group.rows)
    mark = "bold" if fmt in BOLD else "*"
    notes = [
        f"±: half of a 95 % interval over {'seeds and ' if several else ''}test pictures; {mark}: best, its paired "
        "difference from every other model excludes 0"
    ]
    notes += _options_used(group)
    for metric in group.metrics:
        attributes = group.common(metric)
        figures = [row.figure(metric, attributes) for row in group.rows]
        if not attributes or not any(f.failed or f.value is not None for f in figures):
            continue  # told below the table
        card = cards[metric]
        header.append(_header(metric, card, attributes))
        best = group.best(metric, attributes, card.better)
        columns.append([_cell(f, r is best, fmt) for f, r in zip(figures, group.rows, strict=True)])
    notes += _reasons(group)
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table("By model", header, rows, notes)


def _options_used(group: Group) -> list[str]:
    """Return the options under which metrics were taken, where they have any that say something."""
    used: dict[str, list[str]] = {}
    for metric in group.metrics:
        scores = [
            s
            for row in group.rows
            for fit in row.fits
            for (m, _), (s, _) in fit.scores.items()
            if m == metric
        ]
        told = ", ".join(f"{k} = {v}" for k, v in scores[0].options.items() if v not in (None, "mean"))
        if told:
            used.setdefault(told, []).append(metric)
    return [f"{', '.join(metrics)}: {told}" for told, metrics in used.items()]


def _facts(rows: Sequence[Row]) -> Iterator[list[str]]:
    facts = [[fit.facts for fit in row.fits] for row in rows]
    yield [_one(r.code_dims for r in fits) for fits in facts]
    yield [_one(r.parameters for r in fits) for fits in facts]
    yield [
        f"{fmean(s):.1f}" if (s := [r.seconds["fit"] for r in f if "fit" in r.seconds]) else "–"
        for f in facts
    ]
    yield [_converged([r.converged for r in fits]) for fits in facts]


def _one(values: Iterable[int | None]) -> str:
    found = sorted({v for v in values if v is not None})
    return "/".join(f"{v:,}" for v in found) or "–"


def _converged(seeds: Sequence[bool | None]) -> str:
    told = [c for c in seeds if c is not None]
    if not told:
        return "–"
    return "yes" if all(told) else "no" if not any(told) else f"{sum(told)} of {len(told)}"


def _name(row: Row) -> str:
    return row.label if row.role == "model" else f"{row.label} ({row.role})"


def _header(metric: str, card: Metric, attributes: Attributes) -> str:
    scale = " ".join(filter(None, [card.unit, ARROWS[card.better]]))
    mean = f"mean of {len(attributes)}" if attributes != (None,) else ""
    return "\n".join(filter(None, [metric, mean, scale]))


def attribute_table(group: Group, metrics: Sequence[str], cards: Cards, fmt: str) -> Table:
    """Return rows of attributes, columns of models: how well z holds each, between floor and ceiling."""
    models = [r for r in group.rows if r.role == "model"]
    ceilings = [r.label for r in group.rows if r.role == "ceiling"]
    floors = [r.label for r in group.rows if r.role == "floor"]
    lines = []
    for metric in metrics:
        card = cards[metric]
        for attribute in group.attributes(metric):
            key: Attributes = (attribute,)
            if not any(r.sample(metric, key) for r in group.rows):
                continue
            best = group.best(metric, key, card.better)
            floor, ceiling = (of(metric, key, card.better) for of in (group.floor, group.ceiling))
            cells = [_cell(r.figure(metric, key), r is best, fmt) for r in models]
            lines.append(
                [
                    attribute or metric,
                    f"{metric} {ARROWS[card.better]}",
                    _cell(floor.figure(metric, key), False, fmt) if floor else "–",
                    *cells,
                    _cell(ceiling.figure(metric, key), False, fmt) if ceiling else "–",
                ]
            )
    header = ["attribute", "metric", "floor", *(r.label for r in models), "ceiling"]
    notes = []
    if floors:
        notes.append(f"floor: the better of {', '.join(floors)} on the test pictures, attribute by attribute")
    if ceilings:
        notes.append(f"ceiling: {' or '.join(ceilings)}, which saw the labels")
    chance = [f"{m} {cards[m].chance:g}" for m in metrics if cards[m].chance is not None]
    if chance:
        notes.append(f"a code without information scores: {', '.join(chance)}")
    return Table("By attribute", header, lines, notes)


def pairs_of(group: Group) -> list[tuple[Row, Row]]:
    """Return every pair of models, in the order of their rows."""
    return list(combinations([row for row in group.rows if row.role == "model"], 2))


def pair_table(group: Group, cards: Cards, fmt: str) -> Table:
    """Return rows of pairs of models, columns of metrics: the second's value minus the first's."""
    pairs = pairs_of(group)
    header, columns = ["difference"], [[f"{b.label} - {a.label}" for a, b in pairs]]
    for metric in group.metrics:
        attributes = group.common(metric)
        figures = [b.difference(a, metric, attributes) for a, b in pairs] if attributes else []
        if any(f.value is not None for f in figures):
            header.append(_header(metric, cards[metric], attributes))
            sure = _sure(figures)
            columns.append([_cell(f, f in sure, fmt) for f in figures])
    mark = "bold" if fmt in BOLD else "*"
    several = all(len(row.fits) > 1 for pair in pairs for row in pair)
    over = "seeds and test pictures" if several else "test pictures alone: another seed may differ by more"
    notes = [
        f"±: half of a 95 % interval of the paired difference, over {over}; {mark}: it is not 0 (p < {ALPHA:g} after "
        "Holm's correction over the pairs)",
        *_reasons(group),
    ]
    return Table("By pair", header, [list(row) for row in zip(*columns, strict=True)], notes)


def _sure(figures: Sequence[Figure]) -> list[Figure]:
    """Return the differences that are not 0, the chance of one false finding among all of them being ``ALPHA``."""
    told = [f for f in figures if f.p is not None]
    adjusted = holm([f.p for f in told if f.p is not None])
    return [f for f, p in zip(told, adjusted, strict=True) if p < ALPHA]


def _cell(figure: Figure, best: bool, fmt: str) -> str:
    if figure.value is None:
        return "failed" if figure.failed else "n/a"
    text = number(figure)
    if not best:
        return text
    return BOLD[fmt].format(text) if fmt in BOLD else f"{text} *"


def number(figure: Figure) -> str:
    """Return a figure with as many digits as its interval allows; without one it says so by ``±–``."""
    value = figure.value if figure.value is not None else math.nan
    if figure.low is None or figure.high is None:
        return f"{value:.4g} ±–"
    half = (figure.high - figure.low) / 2
    if half <= 0:
        return f"{value:.4g} ±0"
    digits = min(4, max(0, 1 - math.floor(math.log10(half) + 0.3)))
    return f"{value:,.{digits}f} ±{half:,.{digits}f}"


def _reasons(group: Group) -> list[str]:
    """Return why numbers are missing: a line a reason, naming rows and metrics, failures first."""
    told: dict[tuple[bool, str], dict[str, dict[str, None]]] = {}
    for row in group.rows:
        for metric in group.metrics or ("",):
            whole = row.figure(metric, group.common(metric) or group.attributes(metric))
            for gap in [whole] if whole.value is None else row.gaps(metric, group.attributes(metric)):
                where = told.setdefault((gap.failed, gap.reason), {})
                where.setdefault(_name(row), {})[metric] = None
    notes = []
    for (failed, reason), rows in sorted(told.items(), key=lambda item: not item[0][0]):
        metrics = list(dict.fromkeys(m for found in rows.values() for m in found))
        what = "every metric" if len(metrics) == len(group.metrics) else ", ".join(metrics)
        notes.append(f"{'failed' if failed else 'n/a'}: {', '.join(rows)}: {what}: {reason}")
    return notes
