"""Linear and logistic regression with an L1 penalty, for many targets and several strengths at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

ITERATIONS = 500


def fit(
    x: Tensor, y: Tensor, strengths: Sequence[float], *, logistic: bool, tolerance: float = 1e-4
) -> Tensor:
    """Return the weights of least mean loss + strength × spread of y × |w|: [N, D + 1], [N, T] -> [S, T, D + 1].

    The loss is cross-entropy in nats where ``logistic``, y in {0, 1}, else half the squared error. Missing
    targets are NaN. The last column of x is 1 and its weight, the intercept, is free. FISTA (Beck & Teboulle
    2009), its momentum begun anew where it points uphill (O'Donoghue & Candès 2015).
    """
    tasks, present = y.shape[1], ~y.isnan()
    n, known = present.sum(0).clamp(min=1), y.nan_to_num()
    mean = known.sum(0) / n
    spread = ((known - mean).square() * present).sum(0).div(n).sqrt()
    threshold = x.new_tensor(strengths)[:, None, None] * spread[:, None]  # [S, T, 1]
    threshold = threshold.expand(-1, -1, x.shape[1]).flatten(0, 1).T.clone()
    threshold[-1] = 0
    times = len(strengths)
    each, known = (present / n).repeat(1, times), known.repeat(1, times)
    # an upper bound, of which missing rows are a part
    size = n.repeat(times) / torch.linalg.eigvalsh(x.T @ x)[-1] * (4 if logistic else 1)
    w = x.new_zeros(x.shape[1], times * tasks)
    w[-1] = (mean.logit(1e-6) if logistic else mean).repeat(times)
    v, t = w, torch.ones_like(size)
    for _ in range(ITERATIONS):
        score = x @ v
        error = ((score.sigmoid() if logistic else score) - known) * each
        stepped = v - size * (x.T @ error)
        moved = stepped.sign() * (stepped.abs() - size * threshold).clamp(min=0)
        uphill = ((v - moved) * (moved - w)).sum(0) > 0
        t = torch.where(uphill, 1, t)
        faster = (1 + (1 + 4 * t.square()).sqrt()) / 2
        v, change = moved + (t - 1) / faster * (moved - w), (moved - w).abs().amax()
        w, t = moved, faster
        if change < tolerance:
            break
    return w.T.reshape(times, tasks, -1)
