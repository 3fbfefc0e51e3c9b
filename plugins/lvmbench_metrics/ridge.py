"""Linear regression with an L2 penalty, in closed form for several strengths at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lvmbench_metrics.blocks import blocks, gram


def ridge(x: Tensor, y: Tensor, strengths: Sequence[float]) -> Tensor:
    """Return the weights of least |w|² + strength × (sum of squared errors): [N, D + 1], [N] -> float64 [S, D + 1].

    The last column of x is 1 and its weight, the intercept, is free.
    """
    penalty = torch.ones(x.shape[1], dtype=torch.float64, device=x.device).diag()
    penalty[-1] = 0
    strength = penalty.new_tensor(strengths)[:, None, None]
    told = torch.stack([x[rows].T.double() @ y[rows].double() for rows in blocks(x)]).sum(0)
    weights: Tensor = torch.linalg.solve(strength * gram(x) + penalty, strength * told[:, None])
    return weights.squeeze(2)
