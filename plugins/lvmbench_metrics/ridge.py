"""Linear regression with an L2 penalty, in closed form for several strengths at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ridge(x: Tensor, y: Tensor, strengths: Sequence[float]) -> Tensor:
    """Return the weights of least |w|² + strength × (sum of squared errors): [N, D + 1], [N] -> [S, D + 1].

    The last column of x is 1 and its weight, the intercept, is free.
    """
    penalty = torch.diag(torch.cat([x.new_ones(x.shape[1] - 1), x.new_zeros(1)]))
    strength = x.new_tensor(strengths)[:, None, None]
    weights: Tensor = torch.linalg.solve(strength * (x.T @ x) + penalty, strength * (x.T @ y)[:, None])
    return weights.squeeze(2)
