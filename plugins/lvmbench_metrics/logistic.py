"""Logistic regression with an L2 penalty, for many attributes of equally many classes at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from lvmbench_metrics.blocks import blocks
from lvmbench_metrics.lbfgs import Objective, minimise

NOISE = {torch.float32: 1e-8, torch.float64: 1e-13}  # of a mean loss, by the precision of the codes


def logits(x: Tensor, weights: Tensor) -> Tensor:
    """Return the scores of every task: [N, D + 1] or each its own [T, N, D + 1], [T, D + 1, O] -> [N, T, O].

    O is 1 for two classes (the log-odds of the second), else the number of classes. Scores are as precise as weights.
    """
    if x.dim() == 3:
        return _scores(x.to(weights), weights)
    columns = weights[:, 0].numel()
    return torch.cat([_scores(x[rows].to(weights), weights) for rows in blocks(x, columns)])


def _scores(x: Tensor, weights: Tensor) -> Tensor:
    if x.dim() == 3:
        return (x @ weights).transpose(0, 1)
    tasks, inputs, outputs = weights.shape
    return (x @ weights.transpose(0, 1).reshape(inputs, -1)).view(len(x), tasks, outputs)


def pulled_back(x: Tensor, errors: Tensor) -> Tensor:
    """Return the gradient of every task's weights from that of its scores: [N, T, O] -> [T, D + 1, O]."""
    if x.dim() == 3:
        return x.transpose(1, 2) @ errors.transpose(0, 1)
    _, tasks, outputs = errors.shape
    return (errors.flatten(1).T @ x).view(tasks, outputs, -1).transpose(1, 2)


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
    n = (labels >= 0).sum(0).clamp(min=1).double().repeat(len(strengths))[:, None]
    # each strength is one more problem: wide GEMMs, few of them
    strength = n.new_tensor(strengths).repeat_interleave(tasks)[:, None]
    penalty = (1 / (strength * n)).repeat(1, x.shape[-1])
    penalty[:, -1] = 0
    # an upper bound (Böhning 1992)
    curvature = _mean_squares(x) * (0.25 if outputs == 1 else 0.5) + penalty
    scale = curvature.clamp(min=1e-12).rsqrt()[:, :, None]
    # of the loss, what is linear in the scores needs a look at the rows only once
    told = _told(x, labels, classes).repeat(len(strengths), 1, 1) / n[:, :, None]

    def problems(which: Tensor) -> Objective:
        task = which % tasks
        asked = labels[:, task]
        mask = None if (asked >= 0).all() else asked >= 0
        rows = x[task] if x.dim() == 3 else x
        own = [of[which] for of in (scale, penalty[:, :, None], told, n)]

        def objective(flat: Tensor) -> tuple[Tensor, Tensor]:
            scale, penalty, told, n = own
            # rounded once, so that what is linear in the scores is of the same weights as what is not
            w = (flat.view(scale.shape[0], -1, outputs) * scale).to(x).double()
            total, slope = _total(rows, w, mask)
            pull = penalty * w
            value = total / n[:, 0] + ((pull / 2 - told) * w).sum((1, 2))
            return value, ((slope / n[:, :, None] - told + pull) * scale).flatten(1)

        return objective

    start = _prior(labels, classes, x.shape[-1]).repeat(len(strengths), 1, 1) / scale
    noise = NOISE[x.dtype]
    found = minimise(problems, start.flatten(1), tolerance=tolerance, noise=noise).view_as(start) * scale
    return found.view(len(strengths), tasks, *found.shape[1:])


def _mean_squares(x: Tensor) -> Tensor:
    """Return the mean square of each column: [..., N, D + 1] -> float64 [..., D + 1]."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-2, dtype=torch.float64)
    return length.square() / x.shape[-2]


def _told(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the sum of each task's rows by what their scores are of: -> float64 [T, D + 1, O]."""
    if x.dim() == 3:
        return pulled_back(x, _targets(labels, classes).to(x)).double()
    parts = [
        pulled_back(x[rows], _targets(labels[rows], classes).to(x)).double()
        for rows in blocks(x, labels.shape[1] * classes)
    ]
    return torch.stack(parts).sum(0)


def _total(x: Tensor, weights: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sum over rows of the log of the sum over classes, and its slope: -> float64 [P], [P, D + 1, O].

    A block of rows is read twice while it is in the cache; ``mask`` [N, P] says which rows count.
    """
    w, total, slope = weights.to(x), weights.new_zeros(len(weights)), torch.zeros_like(weights)
    for rows in [slice(None)] if x.dim() == 3 else blocks(x, 2 * weights[:, 0].numel()):
        part = x if x.dim() == 3 else x[rows]
        partition, share = _partition(_scores(part, w))
        if mask is not None:
            partition, share = partition * mask[rows], share * mask[rows, :, None]
        total += partition.sum(0, dtype=torch.float64)
        slope += pulled_back(part, share)
    return total, slope


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


def _prior(labels: Tensor, classes: int, inputs: int) -> Tensor:
    """Return weights that know only how common each class is: -> [T, D + 1, O]."""
    share = torch.stack([(labels == c).sum(0) + 1.0 for c in range(classes)], dim=1).double().log()
    intercept = share[:, 1:] - share[:, :1] if classes == 2 else share - share.mean(1, keepdim=True)
    weights = share.new_zeros(len(share), inputs, intercept.shape[1])
    weights[:, -1] = intercept
    return weights
