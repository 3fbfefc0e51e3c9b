"""What the labels are before any code is looked at: how common, and how uncertain."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.codes import class_labels, class_name, with_classes
from lvmbench_metrics.scores import Scores, estimate

_told = partial(metric, better="neither", needs=("labels",), family="probes", main=False)


@_told(bounds=(0, 1), main=True)
def prevalence(ev: Evaluation) -> Scores:
    """Return the share of the second of two classes, of the commonest of several, among labelled test rows."""
    return _of_classes(ev, _prevalence)


@_told(unit="bits", bounds=(0, None), paper="Shannon 1948")
def label_entropy(ev: Evaluation) -> Scores:
    """Return the entropy of the labels of the test rows, in bits: what there is to know of an attribute."""
    return _of_classes(ev, _entropy)


def _of_classes(ev: Evaluation, score: Callable[[Evaluation, Attribute, Tensor, Tensor], Estimate]) -> Scores:
    labels, found = class_labels(ev, "test"), {}
    for a in with_classes(ev):
        column = labels[:, ev.schema.index(a.name)]
        rows = (column >= 0).nonzero().flatten()
        nothing = NotApplicable("no test row is labelled")
        found[a.name] = score(ev, a, column[rows], rows) if len(rows) else nothing
    return found


def _prevalence(ev: Evaluation, attribute: Attribute, labels: Tensor, rows: Tensor) -> Estimate:
    place = 1 if attribute.n_classes == 2 else int(torch.bincount(labels).argmax())
    note = f"class {class_name(attribute, place)}" if attribute.n_classes > 2 else ""
    member = one_hot(labels, attribute.n_classes).float()
    return estimate(ev, rows, lambda weights: _shares(weights, member)[:, place], note)


def _entropy(ev: Evaluation, attribute: Attribute, labels: Tensor, rows: Tensor) -> Estimate:
    member = one_hot(labels, attribute.n_classes).float()

    def under(weights: Tensor) -> Tensor:
        bits: Tensor = torch.special.entr(_shares(weights, member)).sum(1) / math.log(2)
        return bits

    return estimate(ev, rows, under)


def _shares(weights: Tensor, member: Tensor) -> Tensor:
    """Return the share of each class: [R, n], [n, C] -> [R, C]."""
    counts = (weights @ member).double()  # whole numbers: exact in float32
    return counts / counts.sum(1, keepdim=True)
