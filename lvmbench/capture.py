"""Capture: where a model stands between what is to be had without it, 0, and what the labels teach, 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench.aggregate import Figure, Group, Row, Sample, figure_of, matched
from lvmbench.cards import Cards

ROOM = 0.02  # of the way from chance to perfection: where the ceiling rises less, the floor holds it already


@dataclass(frozen=True)
class Question:
    """A headline metric of one attribute; ``span`` is the way from chance to perfection."""

    metric: str
    attribute: str | None
    better: str
    span: float


def questions_of(group: Group, cards: Cards, metrics: Sequence[str]) -> Iterator[Question]:
    """Yield every attribute that the headlines among some metrics tell of."""
    for metric in cards.headlines(metrics):
        card = cards[metric]
        best = card.bounds[0 if card.better == "lower" else 1]
        span = abs(best - card.chance) if best is not None and card.chance is not None else 1.0
        for attribute in group.attributes(metric):
            yield Question(metric, attribute, card.better, span)


def models_of(group: Group) -> list[Row]:
    """Return the models that have a code, and so may capture something."""
    return [row for row in group.rows if row.role == "model" and row.size]


def capture(group: Group, row: Row, questions: Sequence[Question]) -> Figure:
    """Return (value - floor) / (ceiling - floor), each summed over questions, with its interval.

    The floor of a question is the better of those whose code has the row's size. What moves a model, its floor
    and its ceiling together (a seed, a test picture) cancels: the ratio is linearised around its value.
    """
    found = []
    for question in questions:
        sides = _sides(group, row, question)
        if isinstance(sides, str):
            return Figure(reason=sides)
        found.append(sides)
    if not found:
        return Figure(reason="no attribute was measured for every model, its floor and the ceiling")
    rise, room = (_sum([sides[i] for sides in found]) for i in (0, 1))
    certain = figure_of(room)
    if not (certain.excludes_zero and (certain.value or 0.0) > ROOM * len(found)):
        return Figure(reason="the ceiling hardly rises above the floor")
    return figure_of(_ratio(rise, room))


def shared(group: Group, questions: Sequence[Question]) -> list[Question]:
    """Return the questions that every model, its floor and the ceiling answer: what may be summed over."""
    rows = models_of(group)
    return [q for q in questions if all(not isinstance(_sides(group, row, q), str) for row in rows)]


def _sides(group: Group, row: Row, question: Question) -> tuple[Sample, Sample] | str:
    """Return how far a model, and the ceiling, stand above the floor, in spans; or why that is not known."""
    key = (question.attribute,)
    for one in group.floors(row.size):
        if one.sample(question.metric, key) is None:  # the others alone might be the weaker ones
            return f"{one.label} has no value: {one.figure(question.metric, key).reason}"
    floor = group.floor(question.metric, key, question.better, row.size)
    ceiling = group.ceiling(question.metric, key, question.better)
    if floor is None:
        return f"no floor with a code of {row.size} numbers"
    if ceiling is None:
        return "no ceiling"
    model, low, high = (r.sample(question.metric, key) for r in (row, floor, ceiling))
    if model is None or low is None or high is None:
        return row.figure(question.metric, key).reason or "not measured"
    model, low, high = matched(model, low, high)
    if not model.seeds == low.seeds == high.seeds:
        return "its floor or the ceiling was run on other seeds"
    scale = (-1.0 if question.better == "lower" else 1.0) / question.span
    return _difference(model, low, scale), _difference(high, low, scale)


def _difference(a: Sample, b: Sample, scale: float) -> Sample:
    known = a.replicates is not None and b.replicates is not None
    boots = scale * (a.replicates - b.replicates) if known else None  # type: ignore[operator]
    return Sample(a.seeds, scale * (a.values - b.values), boots)


def _sum(samples: Sequence[Sample]) -> Sample:
    boots = [s.replicates for s in samples if s.replicates is not None]
    total = torch.stack(boots).sum(0) if len(boots) == len(samples) else None
    return Sample(samples[0].seeds, torch.stack([s.values for s in samples]).sum(0), total)


def _ratio(rise: Sample, room: Sample) -> Sample:
    """Return the ratio of the means, and what each seed and each replicate moves it by, to first order."""
    below = room.values.mean()
    value = rise.values.mean() / below

    def linear(up: Tensor, way: Tensor) -> Tensor:
        return value + (up - value * way) / below

    known = rise.replicates is not None and room.replicates is not None
    boots = linear(rise.replicates, room.replicates) if known else None  # type: ignore[arg-type]
    return Sample(rise.seeds, linear(rise.values, room.values), boots)
