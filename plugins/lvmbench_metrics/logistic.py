"""Logistic regression with an L2 penalty, for many attributes of equally many classes at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from lvmbench_metrics.lbfgs import minimise


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """Return the scores of every task: [N, D + 1], [T, D + 1, O] -> [N, T, O].

    O is 1 for two classes (the log-odds of the second), else the number of classes.
    """
    tasks, inputs, outputs = weights.shape
    return (x @ weights.transpose(0, 1).reshape(inputs, -1)).view(len(x), tasks, outputs)


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
    missing. The columns of x should be uncorrelated: the search is scaled by their mean squares.
    """
    tasks, outputs = labels.shape[1], 1 if classes == 2 else classes
    labels = labels.repeat(1, len(strengths))  # each strength is one more problem: wide GEMMs, few of them
    strength = x.new_tensor(strengths).repeat_interleave(tasks)[:, None]
    present = labels >= 0
    n = present.sum(0).clamp(min=1).to(x)
    penalty = x.new_ones(len(n), x.shape[1]) / (strength * n[:, None])
    penalty[:, -1] = 0
    # an upper bound (Böhning 1992)
    curvature = x.square().mean(0) * (0.25 if outputs == 1 else 0.5) + penalty
    scale = curvature.clamp(min=1e-12).rsqrt()[:, :, None]
    targets = (labels == 1)[:, :, None].to(x) if outputs == 1 else one_hot(labels.clamp(min=0), classes).to(x)
    each = (present / n)[:, :, None]
    shape = (len(n), x.shape[1], outputs)

    def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
        w = flat.view(shape) * scale
        z = logits(x, w)
        error = ((z.sigmoid() if outputs == 1 else z.softmax(2)) - targets) * each
        pull = penalty[:, :, None] * w
        gradient = (x.T @ error.flatten(1)).view(-1, len(n), outputs).transpose(0, 1) + pull
        value = (losses(z, labels) / n).sum(0) + (pull * w).sum((1, 2)) / 2
        return value, (gradient * scale).flatten(1)

    found = (
        minimise(objective, (_prior(labels, x, classes) / scale).flatten(1), tolerance=tolerance).view(shape)
        * scale
    )
    return found.view(len(strengths), tasks, *shape[1:])


def _prior(labels: Tensor, x: Tensor, classes: int) -> Tensor:
    """Return weights that know only how common each class is: -> [T, D + 1, O]."""
    share = torch.stack([(labels == c).sum(0) + 1.0 for c in range(classes)], dim=1).to(x).log()
    intercept = share[:, 1:] - share[:, :1] if classes == 2 else share - share.mean(1, keepdim=True)
    weights = x.new_zeros(len(share), x.shape[1], intercept.shape[1])
    weights[:, -1] = intercept
    return weights
