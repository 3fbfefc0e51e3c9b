"""Ranks and their correlation, under many weightings of the rows at once."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 250  # weightings at a time


def midranks(values: Tensor, weights: Tensor) -> Tensor:
    """Return the weight below each value and half of that at it: [n], [R, n] -> float64 [R, n]."""
    ascending, order = values.sort()
    below = torch.nn.functional.pad(weights[:, order].double().cumsum(1), (1, 0))
    first, last = (torch.searchsorted(ascending, values, right=right) for right in (False, True))
    return (below[:, first] + below[:, last]) / 2


def spearman(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Return the rank correlation of two columns, ties sharing their mean rank: [n] twice, [R, n] -> [R].

    NaN where a weighting leaves no two different values.
    """
    return torch.cat([_correlation(midranks(a, w), midranks(b, w), w.double()) for w in weights.split(CHUNK)])


def _correlation(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(1, keepdim=True)
    a, b = (x - (weights * x).sum(1, keepdim=True) / total for x in (a, b))
    squares = (weights * a * a).sum(1) * (weights * b * b).sum(1)
    return torch.where(squares > 0, (weights * a * b).sum(1) / squares.sqrt(), torch.nan)
