"""All attributes in one number: the models ranked by pooled scores, and how often one beats another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lvmbench.aggregate import Attributes, Figure, Group, Row
from lvmbench.cards import MAIN, Cards
from lvmbench.figures import ARROWS, Table, name_of, number
from lvmbench.pooling import interquartile_mean, mean, pooled, probability_of_improvement
from lvmbench.statistics import Interval, holm
from lvmbench.tables import ALPHA, pairs_of

POOLED = {"IQM": interquartile_mean, "mean": mean}


@dataclass(frozen=True)
class Comparison:
    """How a model stands to another: how likely it scores better, on how many attributes it surely does, or worse."""

    chance: Interval
    better: int
    worse: int
    attributes: int


def matrix(row: Row, metric: str, attributes: Attributes) -> Tensor | None:
    """Return a row's scores, None where an attribute has none: [S, A]."""
    samples = [row.sample(metric, (attribute,)) for attribute in attributes]
    found = [s.values for s in samples if s is not None]
    if not found or len(found) < len(attributes) or len({len(v) for v in found}) > 1:
        return None
    return torch.stack(found, dim=1)


def comparison(row: Row, other: Row, metric: str, attributes: Attributes, better: str) -> Comparison | None:
    """Return how a row stands to another, None where either lacks a score.

    An attribute counts as better or worse where the paired difference is not 0 after Holm's correction over
    the attributes.
    """
    x, y = matrix(row, metric, attributes), matrix(other, metric, attributes)
    if x is None or y is None:
        return None
    sign = -1.0 if better == "lower" else 1.0
    apart = [row.difference(other, metric, (attribute,)) for attribute in attributes]
    told = [f for f in apart if f.p is not None and f.value is not None]
    sure = zip(told, holm([f.p for f in told if f.p is not None]), strict=True)
    gains = [sign * f.value for f, p in sure if p < ALPHA and f.value is not None]
    chance = pooled(probability_of_improvement, sign * x, sign * y)
    return Comparison(chance, sum(g > 0 for g in gains), sum(g < 0 for g in gains), len(attributes))


def _headlines(group: Group, cards: Cards, show: str) -> Iterator[tuple[str, Attributes]]:
    """Yield the metrics that say how well z holds an attribute, with the attributes that every row has."""
    for metric in cards.headlines(cards.shown(group.metrics, show)):
        attributes = group.common(metric)
        if any(matrix(row, metric, attributes) is not None for row in group.rows):
            yield metric, attributes


def summary_tables(group: Group, cards: Cards, show: str = MAIN) -> list[Table]:
    """Return a table of rows with their pooled scores, and one of pairs of models where there are several.

    There is none where no headline metric was measured.
    """
    headlines = list(_headlines(group, cards, show))
    if not headlines:
        return []
    pairs = [_pairs_table(group, cards, headlines)] if pairs_of(group) else []
    return [_pooled_table(group, cards, headlines), *pairs]


def _pooled_table(group: Group, cards: Cards, headlines: Sequence[tuple[str, Attributes]]) -> Table:
    header, columns = ["model"], [[name_of(r) for r in group.rows]]
    for metric, attributes in headlines:
        scores = [matrix(row, metric, attributes) for row in group.rows]
        for name, statistic in POOLED.items():
            header.append(f"{metric}\n{name} of {len(attributes)}\n{ARROWS[cards[metric].better]}")
            columns.append(["n/a" if s is None else _text(pooled(statistic, s)) for s in scores])
    several = any(len(row.fits) > 1 for row in group.rows)
    notes = [
        "IQM: mean of the middle half of attributes × seeds (Agarwal et al. 2021)",
        "±: half of a 95 % interval over seeds alone, drawn anew for each attribute, on these test pictures: too "
        "narrow where a seed moves all attributes together"
        if several
        else "one seed: there is nothing to draw anew, so that no aggregate has an interval; ask for more by --seeds",
    ]
    return Table("Aggregates", header, [list(row) for row in zip(*columns, strict=True)], notes)


def _pairs_table(group: Group, cards: Cards, headlines: Sequence[tuple[str, Attributes]]) -> Table:
    pairs = pairs_of(group)
    header, columns = ["better than"], [[f"{b.label} > {a.label}" for a, b in pairs]]
    for metric, attributes in headlines:
        found = [comparison(b, a, metric, attributes, cards[metric].better) for a, b in pairs]
        header += [f"{metric}\nprobability", f"{metric}\nbetter, worse\nof {len(attributes)}"]
        columns.append([_text(c.chance) if c else "n/a" for c in found])
        columns.append([f"{c.better}, {c.worse}" if c else "n/a" for c in found])
    notes = [
        "probability: of a seed of the first scoring better than one of the second, the mean over attributes, "
        "ties counting half",
        "better, worse: attributes whose paired difference, over seeds and test pictures, is not 0 "
        f"(p < {ALPHA:g} after Holm's correction over the attributes)",
    ]
    return Table("Aggregates by pair", header, [list(row) for row in zip(*columns, strict=True)], notes)


def _text(interval: Interval) -> str:
    return number(Figure(interval.value, interval.low, interval.high))


def summary_lines(group: Group, cards: Cards) -> Iterator[dict[str, Any]]:
    """Yield every aggregate of a group as one flat line."""
    for metric, attributes in _headlines(group, cards, MAIN):
        for row in group.rows:
            if (scores := matrix(row, metric, attributes)) is not None:
                for name, statistic in POOLED.items():
                    yield _line(group, row, "", metric, name, attributes, pooled(statistic, scores))
        for other, row in pairs_of(group):
            found = comparison(row, other, metric, attributes, cards[metric].better)
            if found:
                told = {
                    "probability of improvement": found.chance,
                    "attributes surely better": Interval(float(found.better)),
                    "attributes surely worse": Interval(float(found.worse)),
                }
                for name, interval in told.items():
                    yield _line(group, row, other.label, metric, name, attributes, interval)


def _line(
    group: Group, row: Row, than: str, metric: str, name: str, attributes: Attributes, found: Interval
) -> dict[str, Any]:
    return {
        "dataset": group.data,
        "budget": group.budget["name"],
        "device": group.device,
        "model": row.label,
        "than": than,
        "role": row.role,
        "metric": metric,
        "statistic": name,
        "attributes": len(attributes),
        "seeds": len(row.fits),
        "value": found.value,
        "low": found.low,
        "high": found.high,
    }
