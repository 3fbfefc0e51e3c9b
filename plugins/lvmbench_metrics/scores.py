"""Scores of a probe's test rows, under equal weights and under those of the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable
from lvmbench_metrics import auroc as rank
from lvmbench_metrics.codes import weights_of
from lvmbench_metrics.probing import Probe
from lvmbench_metrics.ranks import spearman

T = TypeVar("T")
Scores = dict[str, Estimate | NotApplicable]
Under = Callable[[Tensor], Tensor]  # weights of the rows to a score of each weighting: [R, n] -> [R]


def of_each(
    found: Mapping[str, T | NotApplicable], score: Callable[[str, T], Estimate | NotApplicable]
) -> Scores:
    """Return the score of what was found of each attribute, or why there is nothing."""
    return {name: of if isinstance(of, NotApplicable) else score(name, of) for name, of in found.items()}


def estimate(ev: Evaluation, rows: Tensor, under: Under, note: str = "") -> Estimate:
    """Return a score of test rows, by index [n] or mask [N], with its bootstrap replicates."""
    weights = weights_of(ev, rows)
    value = under(torch.ones_like(weights[:1]))
    return Estimate(float(value), replicates=under(weights), n=weights.shape[1], note=note)


def one_versus_rest(probe: Probe) -> list[tuple[Tensor, Tensor]]:
    """Return scores and membership of the second of two classes, or of each that is scored: [n], bool [n] each."""
    if probe.test_scores.shape[1] == 1:
        return [(probe.test_scores[:, 0], probe.test_labels == 1)]
    return [
        (probe.test_scores[:, c], probe.test_labels == c) for c in probe.scored.nonzero().flatten().tolist()
    ]


def auroc_of(ev: Evaluation, probe: Probe) -> Estimate:
    """Return the area under the ROC curve, the mean of one-versus-rest."""
    pairs = one_versus_rest(probe)

    def under(weights: Tensor) -> Tensor:
        return torch.stack([rank.auroc(s, positive, weights) for s, positive in pairs]).nanmean(0)

    return estimate(ev, probe.rows, under, probe.note)


def spearman_of(
    ev: Evaluation, expected: Tensor, truth: Tensor, rows: Tensor, note: str = ""
) -> Estimate | NotApplicable:
    """Return the rank correlation of what is expected of test rows with their labels, [n] each."""
    if len(expected.unique()) < 2:
        return NotApplicable("the same is expected of every test row")
    return estimate(ev, rows, lambda weights: spearman(expected, truth, weights), note)


def balanced_accuracy_of(ev: Evaluation, probe: Probe) -> Estimate:
    """Return the mean recall of the classes, by the best threshold of validation rows or Bayes' rule."""
    said, classes = _said(probe), len(probe.prior)
    member = torch.nn.functional.one_hot(probe.test_labels, classes).float()[:, probe.scored]
    correct = (said == probe.test_labels)[:, None] * member

    def under(weights: Tensor) -> Tensor:
        right, all_ = weights @ correct, weights @ member  # whole numbers: exact in float32
        return (right.double() / all_).nanmean(1)

    return estimate(ev, probe.rows, under, probe.note)


def _said(probe: Probe) -> Tensor:
    if probe.test_scores.shape[1] == 1:
        threshold = best_threshold(probe.val_scores[:, 0], probe.val_labels == 1)
        return (probe.test_scores[:, 0] > threshold).long()
    return (probe.test_scores - probe.prior).masked_fill(probe.prior.isinf(), -torch.inf).argmax(1)


def best_threshold(scores: Tensor, positive: Tensor) -> float:
    """Return the threshold with the best balanced accuracy, half-way between two scores: [n], bool [n]."""
    values, place = torch.unique(scores, return_inverse=True)
    counts = torch.stack(
        [torch.bincount(place[side], minlength=len(values)) for side in (positive, ~positive)]
    )
    share = counts.double() / counts.sum(1, keepdim=True)
    gain = (share[1] - share[0]).cumsum(0)  # negatives rightly below, less positives wrongly so
    best = int(gain.argmax())
    above = values[min(best + 1, len(values) - 1)]
    return float((values[best] + above) / 2)
