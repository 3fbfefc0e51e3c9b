"""Logistic regression with an L2 penalty, for many attributes of equally many classes at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lvmbench_metrics.lbfgs import minimise


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """Return the scores of every task: [N, D + 1] or each its own [T, N, D + 1], [T, D + 1, O] -> [N, T, O].

    O is 1 for two classes (the log-odds of the second), else the number of classes.
    """
    if x.dim() == 3:
        return (x @ weights).transpose(0, 1)
    tasks, inputs, outputs = weights.shape
    return (x @ weights.transpose(0, 1).reshape(inputs, -1)).view(len(x), tasks, outputs)


def pulled_back(x: Tensor, errors: Tensor) -> Tensor:
    """Return the gradient of every task's weights from that of its scores: [N, T, O] -> [T, D + 1, O]."""
    if x.dim() == 3:
        return x.transpose(1, 2) @ errors.transpose(0, 1)
    _, tasks, outputs = errors.shape
    return (x.T @ errors.flatten(1)).view(-1, tasks, outputs).transpose(0, 1)


def losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of every row, 0 where its label is -1: [N, T, O], [N, T] -> [N, T], nats."""
    known = labels.clamp(min=0)
    if scores.shape[2] == 1:
        z = scores[:, :, 0]
        loss = softplus(z) - known * z
    else:
        loss = scores.logsumexp(2) - scores.gather(2, known[:, :, None])[:, :, 0]
    return torch.where(labels >= 0, loss, 0)


def fit(
    x: Tensor, labels: Tensor, classes: int, strengths: Sequence[float], tolerance: float = 1e-5
) -> Tensor:
    """Return the weights of least |w|²/2 + strength × total loss: [N, D + 1], [N, T] -> [S, T, D + 1, O].

    The last column of x is 1 and its weight, the intercept, is free, as in scikit-learn. Labels of -1 are
    missing. The columns of x should be uncorrelated: the search is scaled by their mean squares. Tasks may have
    rows of their own, [T, N, D + 1], and then one strength.
    """
    tasks, outputs = labels.shape[1], 1 if classes == 2 else classes
    counted = labels >= 0
    n = counted.sum(0).clamp(min=1).to(x).repeat(len(strengths))[:, None]
    # each strength is one more problem: wide GEMMs, few of them
    penalty = 1 / (x.new_tensor(strengths).repeat_interleave(tasks)[:, None] * n) * x.new_ones(x.shape[-1])
    penalty[:, -1] = 0
    # an upper bound (Böhning 1992)
    curvature = x.square().mean(-2) * (0.25 if outputs == 1 else 0.5) + penalty
    scale = curvature.clamp(min=1e-12).rsqrt()[:, :, None]
    # of the loss, what is linear in the scores needs a look at the rows only once
    told = pulled_back(x, _targets(labels, classes).to(x)).repeat(len(strengths), 1, 1) / n[:, :, None]
    mask = None if counted.all() else counted.to(x).repeat(1, len(strengths))
    shape = (len(n), x.shape[-1], outputs)

    def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
        w = flat.view(shape) * scale
        total, share = _partition(logits(x, w))
        if mask is not None:
            total, share = total * mask, share * mask[:, :, None]
        pull = penalty[:, :, None] * w
        gradient = pulled_back(x, share) / n[:, :, None] - told + pull
        value = total.sum(0) / n[:, 0] + ((pull / 2 - told) * w).sum((1, 2))
        return value, (gradient * scale).flatten(1)

    start = _prior(labels, x, classes).repeat(len(strengths), 1, 1) / scale
    found = minimise(objective, start.flatten(1), tolerance=tolerance).view(shape) * scale
    return found.view(len(strengths), tasks, *shape[1:])


def _targets(labels: Tensor, classes: int) -> Tensor:
    """Return what each score is of, 0 where a label is missing: [N, T] -> [N, T, O]."""
    ones = [1] if classes == 2 else range(classes)
    return torch.stack([labels == c for c in ones], dim=2)


def _partition(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the sum over classes, and its slope, their probabilities: [N, T, O] -> [N, T], [N, T, O]."""
    if scores.shape[2] == 1:
        return softplus(scores[:, :, 0]), scores.sigmoid()
    total = scores.logsumexp(2)
    return total, (scores - total[:, :, None]).exp()


def _prior(labels: Tensor, x: Tensor, classes: int) -> Tensor:
    """Return weights that know only how common each class is: -> [T, D + 1, O]."""
    share = torch.stack([(labels == c).sum(0) + 1.0 for c in range(classes)], dim=1).to(x).log()
    intercept = share[:, 1:] - share[:, :1] if classes == 2 else share - share.mean(1, keepdim=True)
    weights = x.new_zeros(len(share), x.shape[-1], intercept.shape[1])
    weights[:, -1] = intercept
    return weights
