"""The table of attributes: how well z holds each, between floor and ceiling, beside what chance gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from lvmbench.aggregate import Attributes, Group, Row
from lvmbench.capture import capture, models_of, questions_of
from lvmbench.cards import MAIN, Cards
from lvmbench.figures import ARROWS, Table, cell, percent, without_empty

Line = tuple[str, Attributes]  # a metric and its attribute
NONE = "–"


def attribute_table(group: Group, cards: Cards, fmt: str, show: str = MAIN) -> Table:
    """Return rows of attributes, columns of models; what tells of the labels alone has columns of its own."""
    shown = cards.shown(group.metrics, show)
    about = cards.of_labels(shown)
    metrics = cards.headlines(shown) if show == MAIN else tuple(m for m in shown if m not in about)
    lines = list(_lines(group, metrics or about))
    columns = {
        "attribute": [str(key[0]) for _, key in lines],
        "metric": [f"{m} {ARROWS[cards[m].better]}".strip() for m, _ in lines],
        **dict(_bracket_columns(group, cards, fmt, lines)),
        **dict(_capture_columns(group, cards, lines)),
        "chance": [_of(group.chance(m, key), m, key) for m, key in lines],
        **{m: [_of(_first(group, m, key), m, key) for _, key in lines] for m in about if metrics},
    }
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    notes = list(_notes(group, metrics, cards))
    return without_empty(Table("By attribute", list(columns), rows, notes))


def _lines(group: Group, metrics: Sequence[str]) -> Iterator[Line]:
    """Yield the metrics and attributes of which any row has a value."""
    for metric in metrics:
        for attribute in group.attributes(metric):
            if attribute and _first(group, metric, (attribute,)):
                yield metric, (attribute,)


def _first(group: Group, metric: str, key: Attributes) -> Row | None:
    return next((row for row in group.rows if row.sample(metric, key)), None)


def _of(row: Row | None, metric: str, key: Attributes) -> str:
    return cell(row.figure(metric, key), False, "") if row else NONE


def _bracket_columns(
    group: Group, cards: Cards, fmt: str, lines: Sequence[Line]
) -> Iterator[tuple[str, list[str]]]:
    """Yield the floors of each size, the models, the best of them marked, and the ceiling."""
    sizes = sorted({row.size or 0 for row in _bracketed(group)})

    def column(pick: Callable[[str, Attributes, str], Row | None]) -> list[str]:
        return [_of(pick(m, key, cards[m].better), m, key) for m, key in lines]

    for size in sizes:
        title = f"floor\nof {size}" if len(sizes) > 1 else "floor"
        yield title, column(partial(group.floor, size=size))
    best = {line: group.best(*line, cards[line[0]].better) for line in lines}
    for row in group.rows:
        if row.role == "model":
            yield row.label, [cell(row.figure(*line), row is best[line], fmt) for line in lines]
    yield "ceiling", column(group.ceiling)


def _capture_columns(group: Group, cards: Cards, lines: Sequence[Line]) -> Iterator[tuple[str, list[str]]]:
    asked = {
        (q.metric, (q.attribute,)): q
        for q in questions_of(group, cards, list(dict.fromkeys(m for m, _ in lines)))
    }
    for row in _bracketed(group):
        shares = [percent(capture(group, row, [asked[line]])) if line in asked else NONE for line in lines]
        yield f"{row.label}\ncapture %", shares


def _bracketed(group: Group) -> list[Row]:
    """Return the models that have a floor of their size."""
    sizes = {r.size for r in _floors(group)}
    return [r for r in models_of(group) if r.size in sizes]


def _floors(group: Group) -> list[Row]:
    return [r for r in group.rows if r.role == "floor"]


def _notes(group: Group, metrics: Sequence[str], cards: Cards) -> Iterator[str]:
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
