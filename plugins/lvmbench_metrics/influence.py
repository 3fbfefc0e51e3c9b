"""The first-order bootstrap: a score moved along its influence function.

A row's influence is the slope of the score as the row gains weight, n times over; it has a mean of 0. Every
replicate then costs one dot product, whatever the score, and what was chosen at the sample (the best dimension,
the edges of bins) is held. Counting anew would be biased: a row that is drawn twice agrees with itself.
"""

from __future__ import annotations

from torch import Tensor


def moved(value: Tensor, influence: Tensor, weights: Tensor) -> Tensor:
    """Return scores under weightings of the rows, to first order: [K], [N, K], [R, N] -> [R, K]."""
    mean = (weights @ influence.to(weights)).double() / weights.sum(1, keepdim=True).double()
    return value + mean
