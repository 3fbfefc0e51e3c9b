"""What any reader of z says of the attributes that have classes: which can be read, and the scores of their rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from lvmbench import Attribute, Evaluation, NotApplicable
from lvmbench_metrics.codes import SPLITS, SplitName, class_labels, class_name, with_classes
from lvmbench_metrics.views import Reader

T = TypeVar("T")
Labels = dict[SplitName, Tensor]  # the classes of one attribute, -1 where missing: [N]


@dataclass(frozen=True)
class Probe(Reader):
    """What a fitted probe says of labelled rows: scores [n, O] and labels [n], for validation and test.

    O is 1 for two classes (the log-odds of the second), else the classes' log-probabilities. ``rows`` [n] are
    places in the test split, ``prior`` [C] the log-share of each class in training, ``scored`` [C] which
    classes occur in both training and test rows. ``loss`` is the cross-entropy of the validation rows, in nats.
    """

    val_scores: Tensor
    val_labels: Tensor
    test_scores: Tensor
    test_labels: Tensor
    rows: Tensor
    prior: Tensor
    scored: Tensor


Probes = dict[str, Probe | NotApplicable]


@dataclass(frozen=True)
class Group:
    """Attributes of equally many classes, which are read together."""

    labels: Mapping[str, Labels]
    classes: int

    @cached_property
    def train(self) -> Tensor:
        """The labels to learn from: [N, T]."""
        return torch.stack([of["train"] for of in self.labels.values()], dim=1)

    @cached_property
    def counts(self) -> Tensor:
        """How many training rows each class has: [T, C]."""
        return torch.stack([(self.train == c).sum(0) for c in range(self.classes)], dim=1)

    @cached_property
    def val(self) -> Tensor:
        """The labels to choose by, -1 also where training has nothing of the class: [N, T]."""
        val = torch.stack([of["val"] for of in self.labels.values()], dim=1)
        return torch.where((val >= 0) & self.counts.T.gather(0, val.clamp(min=0)).bool(), val, -1)

    def probes(self, val: Tensor, test: Tensor, loss: Tensor) -> dict[str, Probe]:
        """Return the probes that gave these scores of all rows, with their loss: [N, T, O] twice, [T] nats."""
        return {
            name: self._probe(name, t, val[:, t], test[:, t], float(loss[t]))
            for t, name in enumerate(self.labels)
        }

    def _probe(self, name: str, place: int, val: Tensor, test: Tensor, loss: float) -> Probe:
        if val.shape[1] > 1:
            val, test = val.log_softmax(1), test.log_softmax(1)
        labels, counts = self.labels[name], self.counts[place]
        on_val, on_test = labels["val"] >= 0, labels["test"] >= 0
        return Probe(
            val[on_val],
            labels["val"][on_val],
            test[on_test],
            labels["test"][on_test],
            on_test.nonzero().flatten(),
            (counts / counts.sum()).log(),
            shared_classes(labels, self.classes, "test"),
            loss=loss,
        )


def read(ev: Evaluation, fit: Callable[[Group], Mapping[str, T]]) -> dict[str, T | NotApplicable]:
    """Return what ``fit`` makes of each attribute that has classes, or why it cannot be read."""
    labels = labels_of(ev)
    found: dict[str, T | NotApplicable] = {}
    for a in with_classes(ev):
        reason = unfit(a, labels[a.name])
        if reason:
            found[a.name] = NotApplicable(reason)
    fit_for = [a for a in with_classes(ev) if a.name not in found]
    for classes in sorted({a.n_classes for a in fit_for}):
        found |= fit(Group({a.name: labels[a.name] for a in fit_for if a.n_classes == classes}, classes))
    return {a.name: found[a.name] for a in with_classes(ev)}


def labels_of(ev: Evaluation) -> dict[str, Labels]:
    """Return the labels of each attribute that has classes."""
    table: Labels = {split: class_labels(ev, split) for split in SPLITS}
    return {
        a.name: {split: column[:, ev.schema.index(a.name)] for split, column in table.items()}
        for a in with_classes(ev)
    }


def unfit(attribute: Attribute, labels: Labels) -> str:
    """Return why no probe of an attribute can be fitted, chosen and scored, or nothing."""
    for split, column in labels.items():
        occurs = [bool((column == c).any()) for c in range(attribute.n_classes)]
        if attribute.n_classes == 2 and not all(occurs):
            return (
                f"class '{class_name(attribute, occurs.index(False))}' does not occur among the {split} rows"
            )
        if sum(occurs) < 2:
            return f"fewer than two classes occur among the {split} rows"
    for split, told in (("val", "validation"), ("test", "test")):
        if int(shared_classes(labels, attribute.n_classes, split).sum()) < 2:
            return f"fewer than two classes occur in both training and {told} rows"
    return ""


def shared_classes(labels: Labels, classes: int, split: SplitName) -> Tensor:
    """Return which classes occur in training rows and in those of another split: bool [C]."""
    counts = [torch.bincount(labels[s][labels[s] >= 0], minlength=classes) for s in ("train", split)]
    return (counts[0] > 0) & (counts[1] > 0)
