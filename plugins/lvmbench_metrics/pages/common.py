"""What several parts of the page need: what must be there, real pictures, the values worth showing, tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lvmbench import Attribute, Evaluation, NotApplicable, expected
from lvmbench_metrics import auroc as rank
from lvmbench_metrics.codes import class_labels, value_name
from lvmbench_metrics.posterior import Reader, readers

SHOWN = 12  # values of attributes that a picture has room for
PER_ATTRIBUTE = 2
PIPE = r"\|"  # in a cell, where a bare one begins another

Value = tuple[Attribute, int]


def need(ev: Evaluation, *capabilities: str) -> None:
    """Stop where a part cannot be shown.

    Raises:
        NotApplicable: with what the model does not give.
    """
    if absent := [name for name in capabilities if name not in ev.capabilities]:
        raise NotApplicable(f"the model gives no {', no '.join(absent)}")


def real(ev: Evaluation, rows: Tensor) -> Tensor:
    """Return test pictures, pixels in [0, 1]: [n] -> [n, C, H, W]."""
    return expected(ev.schema, ev.images("test")[rows.cpu()])


def best_held(ev: Evaluation, count: int = SHOWN) -> list[Value]:
    """Return the values that a linear reader of z surely tells best on validation rows, one of those that say the same.

    The third and further values of an attribute come after all others.

    Raises:
        NotApplicable: if none can be read.
    """
    return ev.shared(_ranked)[:count]


def _ranked(ev: Evaluation) -> list[Value]:
    labels = class_labels(ev, "val")
    scored = [pair for name, reader in ev.shared(readers).items() for pair in _scored(ev, name, reader)]
    first: list[Value] = []
    rest: list[Value] = []
    for _, (attribute, value) in sorted(scored, key=lambda pair: -pair[0]):
        if any(_same(ev, labels, (attribute, value), v) for v in first + rest):
            continue
        of_same = sum(a is attribute for a, _ in first)
        (first if of_same < PER_ATTRIBUTE else rest).append((attribute, value))
    chosen = first + rest
    if not chosen:
        raise NotApplicable("no attribute can be read from z")
    return chosen


def _scored(ev: Evaluation, name: str, reader: Reader | NotApplicable) -> Iterator[tuple[float, Value]]:
    column = ev.schema.index(name)
    attribute = ev.schema.attributes[column]
    val, test = (class_labels(ev, split)[:, column] for split in ("val", "test"))
    if isinstance(reader, NotApplicable):
        return
    for value in range(1 if attribute.n_classes == 2 else 0, attribute.n_classes):
        if _is_told_apart(val, value) and _is_told_apart(test, value):
            yield _auroc(reader, value, val) - _doubt(val, value), (attribute, value)


def _doubt(labels: Tensor, value: int) -> float:
    """Return two standard errors of an AUROC at their largest, so that a few lucky rows come to no head."""
    bears = labels[labels >= 0] == value
    return 1 / math.sqrt(min(int(bears.sum()), int((~bears).sum())))


def _is_told_apart(labels: Tensor, value: int) -> bool:
    """Return whether some known rows bear a value and some do not."""
    bears = labels[labels >= 0] == value
    return bool(bears.any()) and not bool(bears.all())


def _auroc(reader: Reader, value: int, labels: Tensor) -> float:
    known = labels >= 0
    bears = labels[known] == value
    return float(rank.auroc(reader.val[known, value], bears, torch.ones(1, len(bears), device=labels.device)))


def _same(ev: Evaluation, labels: Tensor, one: Value, other: Value) -> bool:
    """Return whether two values are borne by the same pictures, where both are known."""
    a, b = (labels[:, ev.schema.index(attribute.name)] for attribute, _ in (one, other))
    both = (a >= 0) & (b >= 0)
    return bool(both.any()) and bool(((a == one[1]) == (b == other[1]))[both].all())


def names(values: Sequence[Value]) -> list[str]:
    """Return what people would call them."""
    return [value_name(*value) for value in values]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; all columns but the first are numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', PIPE) for cell in line)} |" for line in lines)


def percent(share: float) -> str:
    """Return a share as people read it, a dash where there is none."""
    return "–" if math.isnan(share) else f"{100 * share:.0f} %"
