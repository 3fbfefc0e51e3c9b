"""The tables of models and of pairs of them: a column a metric, every figure with its interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, starmap
from statistics import fmean

from lvmbench.aggregate import Attributes, Figure, Group, Row
from lvmbench.api import Metric, Score
from lvmbench.capture import capture, models_of, questions_of, shared
from lvmbench.cards import ALL, MAIN, Cards
from lvmbench.figures import ARROWS, Table, cell, mark, name_of, percent, without_empty
from lvmbench.statistics import holm

FACTS = ("dims", "parameters", "fit s", "converged")
ALPHA = 0.05
NAMED = 4  # attributes that a reason names one by one


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
        f"±: half of a 95 % interval over {'seeds and ' if several else ''}test pictures; {mark(fmt)}: best, its "
        "paired difference from every other model excludes 0",
        *_options_used(shown, group),
        *_judges(group, cards, shown),
        *_reasons(group, shown),
    ]
    more = cards.families([metric for metric in group.metrics if metric not in shown])
    if more:
        notes.append(f"more of what was measured: --show {', '.join(more)} or all")
    rows = [list(row) for row in zip(*columns, strict=True)]
    return without_empty(Table("By model", header, rows, notes))


def _metric_columns(
    group: Group, cards: Cards, fmt: str, shown: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    of_labels = cards.of_labels(shown)
    for metric in (m for m in shown if m not in of_labels):
        attributes = group.common(metric)
        figures = [row.figure(metric, attributes) for row in group.rows]
        if not attributes or not any(f.failed or f.value is not None for f in figures):
            continue  # told below the table
        card = cards[metric]
        best = group.best(metric, attributes, card.better)
        cells = [cell(f, r is best, fmt) for f, r in zip(figures, group.rows, strict=True)]
        yield _header(metric, card, attributes), cells


def _capture_column(group: Group, cards: Cards, shown: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the capture of each model over all attributes, where there are controls to measure it by."""
    asked = shared(group, list(questions_of(group, cards, shown)))
    if asked and models_of(group):
        cells = [percent(capture(group, row, asked)) if row.role == "model" else "–" for row in group.rows]
        yield f"capture\nof {len(asked)}\n% ↑", cells


def _options_used(shown: Sequence[str], group: Group) -> list[str]:
    """Return the options under which metrics were taken, where they have any that say something."""
    used: dict[str, list[str]] = {}
    first: dict[str, Score] = {}
    for fit in (fit for row in group.rows for fit in row.fits):
        for (metric, _), (score, _) in fit.scores.items():
            first.setdefault(metric, score)
    for metric in shown:
        options = first[metric].options
        told = ", ".join(f"{k} = {v}" for k, v in options.items() if v not in (None, "z", "best"))
        if told:
            used.setdefault(told, []).append(metric)
    return [f"{', '.join(metrics)}: {told}" for told, metrics in used.items()]


def _judges(group: Group, cards: Cards, shown: Sequence[str]) -> Iterator[str]:
    """Yield a warning where rows were judged by different networks."""
    judged = [m for m in shown if "judge" in cards[m].needs]
    rows: dict[str, list[str]] = {}
    for row in group.rows:
        if any(row.sample(m, group.common(m)) for m in judged):
            rows.setdefault(str(row.fits[-1].record.cell.get("judge", "")), []).append(name_of(row))
    if len(rows) > 1:
        parts = "; ".join(f"{', '.join(names)}" for names in rows.values())
        yield f"judged by different networks, and not to be compared across: {parts}: {', '.join(judged)}"


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


def _header(metric: str, card: Metric, attributes: Attributes) -> str:
    scale = " ".join(filter(None, [card.unit, ARROWS[card.better]]))
    mean = f"mean of {len(attributes)}" if attributes != (None,) else ""
    return "\n".join(filter(None, [metric, mean, scale]))


def pairs_of(group: Group) -> list[tuple[Row, Row]]:
    """Return every pair of models, in the order of their rows."""
    return list(combinations([row for row in group.rows if row.role == "model"], 2))


def pair_table(group: Group, cards: Cards, fmt: str, show: str = MAIN) -> Table:
    """Return rows of pairs of models, columns of metrics: the second's value minus the first's."""
    pairs = pairs_of(group)
    header, columns = ["difference"], [[f"{b.label} - {a.label}" for a, b in pairs]]
    shown = cards.shown(group.metrics, show)
    of_labels = cards.of_labels(shown)
    for metric in (m for m in shown if m not in of_labels):
        attributes = group.common(metric)
        figures = [b.difference(a, metric, attributes) for a, b in pairs] if attributes else []
        if any(f.value is not None for f in figures):
            header.append(_header(metric, cards[metric], attributes))
            sure = _sure(figures)
            columns.append([cell(f, f in sure, fmt) for f in figures])
    several = all(len(row.fits) > 1 for pair in pairs for row in pair)
    over = "seeds and test pictures" if several else "test pictures alone: another seed may differ by more"
    notes = [
        f"±: half of a 95 % interval of the paired difference, over {over}; {mark(fmt)}: it is not 0 "
        f"(p < {ALPHA:g} after Holm's correction over the pairs)",
        *_reasons(group, shown),
    ]
    return Table("By pair", header, [list(row) for row in zip(*columns, strict=True)], notes)


def _sure(figures: Sequence[Figure]) -> list[Figure]:
    """Return the differences that are not 0, the chance of one false finding among all of them being ``ALPHA``."""
    told = [f for f in figures if f.p is not None]
    adjusted = holm([f.p for f in told if f.p is not None])
    return [f for f, p in zip(told, adjusted, strict=True) if p < ALPHA]


def _reasons(group: Group, shown: Sequence[str]) -> list[str]:
    """Return why numbers are missing: a line a reason, naming rows, metrics and attributes, failures first."""
    told: dict[tuple[bool, str], dict[str, dict[str, dict[str, None]]]] = {}
    for row in group.rows:
        for metric in shown or ("",):
            whole = row.figure(metric, group.common(metric) or group.attributes(metric))
            gaps = [("", whole)] if whole.value is None else [*row.gaps(metric, group.attributes(metric))]
            for place, gap in gaps:
                if gap.reason:
                    rows = told.setdefault((gap.failed, gap.reason), {})
                    rows.setdefault(name_of(row), {}).setdefault(metric, {})[place] = None
    notes = []
    for (failed, reason), rows in sorted(told.items(), key=lambda item: not item[0][0]):
        places: dict[str, dict[str, None]] = {}
        for found in rows.values():
            for metric, where in found.items():
                places.setdefault(metric, {}).update(where)
        every = len(places) == len(shown or ("",)) and not any(any(where) for where in places.values())
        what = "every metric" if every else ", ".join(starmap(_of_places, places.items()))
        notes.append(f"{'failed' if failed else 'n/a'}: {', '.join(rows)}: {what}: {reason}")
    return notes


def _of_places(metric: str, places: Iterable[str]) -> str:
    """Return a metric with the attributes or seeds that a reason is of, their number where they are many."""
    named = [place for place in places if place]
    told = ", ".join(named) if len(named) <= NAMED else f"{len(named)} attributes"
    return f"{metric} ({told})" if named else metric
