"""What a linear reader finds in z: probes learned on train codes, chosen on validation, scored on test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import auroc as rank
from lvmbench_metrics.codes import SPLITS, class_labels, class_name, weights_of, with_classes
from lvmbench_metrics.features import Features, features
from lvmbench_metrics.logistic import fit, logits, losses
from lvmbench_metrics.ridge import ridge

TOLERANCE = 1e-4  # of a gradient: a tenth of it costs twice the time and moves an AUROC by less than 1e-4
STRENGTHS = (1e-3, 1e-2, 1e-1)  # C of scikit-learn: weight of the data against |w|²/2

Scores = dict[str, Estimate | NotApplicable]


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    chance=0.5,
    paper="Hanley & McNeil 1982",
    headline=True,
)
def auroc(ev: Evaluation, *, view: str = "mean") -> Scores:
    """Return the probe's area under the ROC curve, for more than two classes the mean of one-versus-rest."""
    return {name: _auroc(ev, probe) for name, probe in ev.shared(_probes, view=view).items()}


@metric(better="higher", needs=("codes", "labels"), bounds=(0, 1), paper="Brodersen et al. 2010")
def balanced_accuracy(ev: Evaluation, *, view: str = "mean") -> Scores:
    """Return the mean over classes of the probe's recall; chance is one over the number of classes.

    The threshold between two classes is the best one on validation rows. Among more, the class wins whose
    probability has risen most above its share of the training rows: Bayes' rule for this score.
    """
    return {name: _balanced_accuracy(ev, probe) for name, probe in ev.shared(_probes, view=view).items()}


@metric(better="higher", needs=("codes", "labels"), bounds=(None, 1), chance=0.0, headline=True)
def r2(ev: Evaluation, *, view: str = "mean") -> Scores:
    """Return 1 - (squared error of a ridge regression) / (that of the training mean), for each number."""
    numbers = [a for a in ev.schema.attributes if a.is_number]
    if not numbers:
        raise NotApplicable("no attribute of the data set is a number")
    return {a.name: _r2(ev, ev.shared(features, view=view), ev.schema.index(a.name)) for a in numbers}


@dataclass(frozen=True)
class Probe:
    """What a fitted probe says of labelled rows: scores [n, O] and labels [n], for validation and test.

    O is 1 for two classes (the log-odds of the second), else the classes' log-probabilities. ``rows`` [n] are
    places in the test split, ``prior`` [C] the log-share of each class in training, ``scored`` [C] which
    classes occur in both training and test rows.
    """

    val_scores: Tensor
    val_labels: Tensor
    test_scores: Tensor
    test_labels: Tensor
    rows: Tensor
    prior: Tensor
    scored: Tensor


Labels = dict[str, Tensor]  # the classes of one attribute, -1 where missing: [N]
Probes = dict[str, Probe | NotApplicable]


def _probes(ev: Evaluation, view: str) -> Probes:
    """Fit the probes of all attributes that have classes, those of equally many classes together."""
    labels = _labels(ev)
    found: Probes = {}
    for a in with_classes(ev):
        reason = unfit(a, labels[a.name])
        if reason:
            found[a.name] = NotApplicable(reason)
    fit_for = [a for a in with_classes(ev) if a.name not in found]
    for classes in sorted({a.n_classes for a in fit_for}):
        group = [a.name for a in fit_for if a.n_classes == classes]
        found |= _fit_group(ev.shared(features, view=view), {name: labels[name] for name in group}, classes)
    return {a.name: found[a.name] for a in with_classes(ev)}


def _labels(ev: Evaluation) -> dict[str, Labels]:
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
    if int(_both(labels, attribute.n_classes).sum()) < 2:
        return "fewer than two classes occur in both training and test rows"
    return ""


def _both(labels: Labels, classes: int) -> Tensor:
    counts = [
        torch.bincount(labels[split][labels[split] >= 0], minlength=classes) for split in ("train", "test")
    ]
    return (counts[0] > 0) & (counts[1] > 0)


def _fit_group(x: Features, labels: dict[str, Labels], classes: int) -> Probes:
    train, val = (torch.stack([of[s] for of in labels.values()], dim=1) for s in ("train", "val"))
    counts = torch.stack([(train == c).sum(0) for c in range(classes)], dim=1)  # [T, C]
    learned = torch.where((val >= 0) & counts.T.gather(0, val.clamp(min=0)).bool(), val, -1)
    tried = fit(x.train, train, classes, STRENGTHS, TOLERANCE)
    loss = torch.stack([losses(logits(x.val, weights), learned).sum(0) for weights in tried])  # [S, T]
    weights = tried[loss.argmin(0), torch.arange(len(labels), device=loss.device)]
    val_scores, test_scores = logits(x.val, weights), logits(x.test, weights)
    return {
        name: _probe(val_scores[:, t], test_scores[:, t], of, counts[t])
        for t, (name, of) in enumerate(labels.items())
    }


def _probe(val_scores: Tensor, test_scores: Tensor, labels: Labels, counts: Tensor) -> Probe:
    if val_scores.shape[1] > 1:
        val_scores, test_scores = val_scores.log_softmax(1), test_scores.log_softmax(1)
    val, test = labels["val"] >= 0, labels["test"] >= 0
    return Probe(
        val_scores[val],
        labels["val"][val],
        test_scores[test],
        labels["test"][test],
        test.nonzero().flatten(),
        (counts / counts.sum()).log(),
        _both(labels, len(counts)),
    )


def _auroc(ev: Evaluation, probe: Probe | NotApplicable) -> Estimate | NotApplicable:
    if isinstance(probe, NotApplicable):
        return probe
    binary = probe.test_scores.shape[1] == 1
    one_versus_rest = [
        (probe.test_scores[:, 0 if binary else c], probe.test_labels == c)
        for c in ([1] if binary else probe.scored.nonzero().flatten().tolist())
    ]

    def under(weights: Tensor) -> Tensor:
        return torch.stack([rank.auroc(s, positive, weights) for s, positive in one_versus_rest]).nanmean(0)

    return _estimate(ev, probe, under)


def _balanced_accuracy(ev: Evaluation, probe: Probe | NotApplicable) -> Estimate | NotApplicable:
    if isinstance(probe, NotApplicable):
        return probe
    if probe.test_scores.shape[1] == 1:
        threshold = best_threshold(probe.val_scores[:, 0], probe.val_labels == 1)
        said = (probe.test_scores[:, 0] > threshold).long()
    else:
        said = (probe.test_scores - probe.prior).masked_fill(probe.prior.isinf(), -torch.inf).argmax(1)
    member = torch.nn.functional.one_hot(probe.test_labels, len(probe.prior)).float()[:, probe.scored]
    correct = (said == probe.test_labels)[:, None] * member

    def under(weights: Tensor) -> Tensor:
        right, all_ = weights @ correct, weights @ member  # whole numbers: exact in float32
        return (right.double() / all_).nanmean(1)

    return _estimate(ev, probe, under)


def _estimate(ev: Evaluation, probe: Probe, under: Callable[[Tensor], Tensor]) -> Estimate:
    """Return a score of a probe's test rows under equal weights, and under the bootstrap's."""
    weights = weights_of(ev, probe.rows)
    value = under(torch.ones_like(weights[:1]))
    return Estimate(float(value), replicates=under(weights), n=len(probe.rows))


def best_threshold(scores: Tensor, positive: Tensor) -> float:
    """Return the threshold with the best balanced accuracy, half-way between two scores: [n], bool [n]."""
    values, place = torch.unique(scores, return_inverse=True)
    counts = torch.stack(
        [torch.bincount(place[side], minlength=len(values)) for side in (positive, ~positive)]
    )
    share = (counts / counts.sum(1, keepdim=True)).double()
    gain = (share[1] - share[0]).cumsum(0)  # negatives rightly below, less positives wrongly so
    best = int(gain.argmax())
    above = values[min(best + 1, len(values) - 1)]
    return float((values[best] + above) / 2)


def _r2(ev: Evaluation, x: Features, column: int) -> Estimate | NotApplicable:
    y = {split: ev.labels(split)[:, column].double() for split in SPLITS}
    present = {split: ~values.isnan() for split, values in y.items()}
    for split, rows in present.items():
        if not rows.any() or y[split][rows].min() == y[split][rows].max():
            return NotApplicable(f"fewer than two different values among the {split} rows")
    train, val, test = (y[split][present[split]] for split in SPLITS)
    mean, spread = train.mean(), train.std(correction=0)
    weights = ridge(x.train[present["train"]], (train - mean) / spread, STRENGTHS)
    on_val = ((x.val[present["val"]] @ weights.T) * spread + mean - val[:, None]).square().sum(0)
    predicted = x.test[present["test"]] @ weights[on_val.argmin()] * spread + mean
    errors = torch.stack([(test - predicted).square(), (test - mean).square()], dim=1)

    def under(w: Tensor) -> Tensor:
        squares = w.double() @ errors
        return 1 - squares[:, 0] / squares[:, 1]

    boot = weights_of(ev, present["test"])
    return Estimate(float(under(torch.ones_like(boot[:1]))), replicates=under(boot), n=len(test))
