"""What the tables hold: a row a model, an attribute, or a pair of models; every figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from lvmbench.aggregate import Attributes, Figure, Group, Row
from lvmbench.api import Metric
from lvmbench.capture import capture, models_of, questions_of, shared
from lvmbench.cards import ALL, MAIN, Cards
from lvmbench.statistics import holm

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
BOLD = {"github": "**{}**", "pipe": "**{}**", "html": "<b>{}</b>", "unsafehtml": "<b>{}</b>"}
FACTS = ("dims", "parameters", "fit s", "converged")
ALPHA = 0.05
ROUNDING = 1e-9  # what double precision leaves of a number that is exact


@dataclass(frozen=True)
class Table:
    """A title, a header, rows of text, and what has to be said below."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def model_table(group: Group, cards: Cards, fmt: str, show: str = MAIN) -> Table:
    """Return rows of models and controls, columns of metrics; per-attribute metrics as their mean."""
    shown = cards.shown(group.metrics, show)
    header, columns = ["model", *FACTS], [[name_of(r) for r in group.rows], *_facts(group.rows)]
    if show not in (MAIN, ALL):
        header, columns = header[:2], columns[:2]
    for title, column in [*_capture_column(group, cards, shown), *_metric_columns(group, cards, fmt, shown)]:
        header.append(title)
        columns.append(column)
    several = any(len(row.fits) > 1 for row in group.rows)
    notes = [
        f"±: half of a 95 % interval over {'seeds and ' if several else ''}test pictures; {_mark(fmt)}: best, its "
        "paired difference from every other model excludes 0",
        *_options_used(shown, group),
        *_reasons(group, shown),
    ]
    more = cards.families([metric for metric in group.metrics if metric not in shown])
    if more:
        notes.append(f"more of what was measured: lvmbench table --show {', '.join(more)} or all")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return _without_empty(Table("By model", header, rows, notes))


def _without_empty(table: Table) -> Table:
    """Return a table without the columns that say nothing in any row."""
    told = [i for i in range(len(table.header)) if any(row[i] != "–" for row in table.rows)]
    rows = [[row[i] for i in told] for row in table.rows]
    return Table(table.title, [table.header[i] for i in told], rows, table.notes)


def _metric_columns(
    group: Group, cards: Cards, fmt: str, shown: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    for metric in shown:
        attributes = group.common(metric)
        figures = [row.figure(metric, attributes) for row in group.rows]
        if not attributes or not any(f.failed or f.value is not None for f in figures):
            continue  # told below the table
        card = cards[metric]
        best = group.best(metric, attributes, card.better)
        cells = [_cell(f, r is best, fmt) for f, r in zip(figures, group.rows, strict=True)]
        yield _header(metric, card, attributes), cells


def _capture_column(group: Group, cards: Cards, shown: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the capture of each model over all attributes, where there are controls to measure it by."""
    asked = shared(group, list(questions_of(group, cards, shown)))
    if asked and models_of(group):
        cells = [percent(capture(group, row, asked)) if row.role == "model" else "–" for row in group.rows]
        yield f"capture\nof {len(asked)}\n% ↑", cells


def _mark(fmt: str) -> str:
    return "bold" if fmt in BOLD else "*"


def _options_used(shown: Sequence[str], group: Group) -> list[str]:
    """Return the options under which metrics were taken, where they have any that say something."""
    used: dict[str, list[str]] = {}
    for metric in shown:
        scores = [
            s
            for row in group.rows
            for fit in row.fits
            for (m, _), (s, _) in fit.scores.items()
            if m == metric
        ]
        told = ", ".join(
            f"{k} = {v}" for k, v in scores[0].options.items() if v not in (None, "mean", "best")
        )
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


def name_of(row: Row) -> str:
    """Return what a table calls a row: a control says that it is one."""
    return row.label if row.role == "model" else f"{row.label} ({row.role})"


def _header(metric: str, card: Metric, attributes: Attributes) -> str:
    scale = " ".join(filter(None, [card.unit, ARROWS[card.better]]))
    mean = f"mean of {len(attributes)}" if attributes != (None,) else ""
    return "\n".join(filter(None, [metric, mean, scale]))


def attribute_table(group: Group, cards: Cards, fmt: str, show: str = MAIN) -> Table:
    """Return rows of attributes, columns of models: how well z holds each, between floor and ceiling."""
    shown = cards.shown(group.metrics, show)
    metrics = cards.headlines(shown) if show == MAIN else shown
    models, captured = [r for r in group.rows if r.role == "model"], _bracketed(group)
    sizes = sorted({r.size or 0 for r in captured})
    asked = {(q.metric, q.attribute): q for q in questions_of(group, cards, metrics)}
    lines = []
    for metric, attribute in _measured(group, metrics):
        question = asked.get((metric, attribute))
        shares = [percent(capture(group, r, [question])) if question else "–" for r in captured if asked]
        lines.append(_attribute_line(group, models, sizes, metric, attribute, cards, fmt) + shares)
    floors = [f"floor\nof {size}" if len(sizes) > 1 else "floor" for size in sizes]
    header = ["attribute", "metric", "chance", *floors, *(r.label for r in models), "ceiling"]
    header += [f"{r.label}\ncapture %" for r in captured if asked]
    notes = list(_attribute_notes(group, metrics, cards))
    return _without_empty(Table("By attribute", header, lines, notes))


def _bracketed(group: Group) -> list[Row]:
    """Return the models that have a floor of their size."""
    sizes = {r.size for r in _floors(group)}
    return [r for r in models_of(group) if r.size in sizes]


def _measured(group: Group, metrics: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield the metrics and attributes of which any row has a value."""
    for metric in metrics:
        for attribute in group.attributes(metric):
            if attribute and any(r.sample(metric, (attribute,)) for r in group.rows):
                yield metric, attribute


def _attribute_line(
    group: Group,
    models: Sequence[Row],
    sizes: Sequence[int],
    metric: str,
    attribute: str | None,
    cards: Cards,
    fmt: str,
) -> list[str]:
    key: Attributes = (attribute,)
    card = cards[metric]
    best = group.best(metric, key, card.better)
    anchors = [group.floor(metric, key, card.better, size) for size in sizes]
    chance, ceiling = group.chance(metric, key), group.ceiling(metric, key, card.better)
    return [
        attribute or metric,
        f"{metric} {ARROWS[card.better]}",
        *(_cell(r.figure(metric, key), False, fmt) if r else "–" for r in (chance, *anchors)),
        *(_cell(r.figure(metric, key), r is best, fmt) for r in models),
        _cell(ceiling.figure(metric, key), False, fmt) if ceiling else "–",
    ]


def _floors(group: Group) -> list[Row]:
    return [r for r in group.rows if r.role == "floor"]


def _attribute_notes(group: Group, metrics: Sequence[str], cards: Cards) -> Iterator[str]:
    if floors := _floors(group):
        names = ", ".join(dict.fromkeys(r.label for r in floors))
        yield (
            f"floor: the better of {names} on the test pictures, attribute by attribute, of as many numbers as the "
            "code of the model has variables"
        )
    if ceilings := [r.label for r in group.rows if r.role == "ceiling"]:
        yield f"ceiling: {' or '.join(ceilings)}, which saw the labels"
    if permuted := [r.label for r in group.rows if r.labels == "permuted"]:
        yield f"chance: {', '.join(permuted)}: what the metric gives a code that knows nothing of the label"
    told = [f"{m} {cards[m].chance:g}" for m in metrics if cards[m].chance is not None]
    if told:
        yield f"a code without information scores, by the metric's definition: {', '.join(told)}"
    if floors and ceilings and cards.headlines(metrics):
        yield (
            "capture: (value - floor) / (ceiling - floor): 0 % is the floor, 100 % the ceiling; n/a where the ceiling "
            "hardly rises above the floor, which then holds the attribute already"
        )


def pairs_of(group: Group) -> list[tuple[Row, Row]]:
    """Return every pair of models, in the order of their rows."""
    return list(combinations([row for row in group.rows if row.role == "model"], 2))


def pair_table(group: Group, cards: Cards, fmt: str, show: str = MAIN) -> Table:
    """Return rows of pairs of models, columns of metrics: the second's value minus the first's."""
    pairs = pairs_of(group)
    header, columns = ["difference"], [[f"{b.label} - {a.label}" for a, b in pairs]]
    shown = cards.shown(group.metrics, show)
    for metric in shown:
        attributes = group.common(metric)
        figures = [b.difference(a, metric, attributes) for a, b in pairs] if attributes else []
        if any(f.value is not None for f in figures):
            header.append(_header(metric, cards[metric], attributes))
            sure = _sure(figures)
            columns.append([_cell(f, f in sure, fmt) for f in figures])
    several = all(len(row.fits) > 1 for pair in pairs for row in pair)
    over = "seeds and test pictures" if several else "test pictures alone: another seed may differ by more"
    notes = [
        f"±: half of a 95 % interval of the paired difference, over {over}; {_mark(fmt)}: it is not 0 "
        f"(p < {ALPHA:g} after Holm's correction over the pairs)",
        *_reasons(group, shown),
    ]
    return Table("By pair", header, [list(row) for row in zip(*columns, strict=True)], notes)


def _sure(figures: Sequence[Figure]) -> list[Figure]:
    """Return the differences that are not 0, the chance of one false finding among all of them being ``ALPHA``."""
    told = [f for f in figures if f.p is not None]
    adjusted = holm([f.p for f in told if f.p is not None])
    return [f for f, p in zip(told, adjusted, strict=True) if p < ALPHA]


def _cell(figure: Figure, best: bool, fmt: str) -> str:
    if figure.value is None:
        return "failed" if figure.failed else "n/a" if figure.reason else "–"
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
    if half <= ROUNDING:
        return f"{value if abs(value) > ROUNDING else 0:.4g} ±0"
    digits = min(4, max(0, 1 - math.floor(math.log10(half) + 0.3)))
    return f"{value:,.{digits}f} ±{half:,.{digits}f}"


def percent(figure: Figure) -> str:
    """Return a share as a percentage with half of its interval."""
    if figure.value is None:
        return "n/a"
    if figure.low is None or figure.high is None:
        return f"{100 * figure.value:.0f} ±–"
    return f"{100 * figure.value:.0f} ±{50 * (figure.high - figure.low):.0f}"


def _reasons(group: Group, shown: Sequence[str]) -> list[str]:
    """Return why numbers are missing: a line a reason, naming rows and metrics, failures first."""
    told: dict[tuple[bool, str], dict[str, dict[str, None]]] = {}
    for row in group.rows:
        for metric in shown or ("",):
            whole = row.figure(metric, group.common(metric) or group.attributes(metric))
            for gap in [whole] if whole.value is None else row.gaps(metric, group.attributes(metric)):
                if not gap.reason:
                    continue
                where = told.setdefault((gap.failed, gap.reason), {})
                where.setdefault(name_of(row), {})[metric] = None
    notes = []
    for (failed, reason), rows in sorted(told.items(), key=lambda item: not item[0][0]):
        metrics = list(dict.fromkeys(m for found in rows.values() for m in found))
        what = "every metric" if len(metrics) == len(shown) else ", ".join(metrics)
        notes.append(f"{'failed' if failed else 'n/a'}: {', '.join(rows)}: {what}: {reason}")
    return notes
