"""Average precision, under many weightings of the rows at once."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over positives of the precision at their score: [n], bool [n], [R, n] -> [R].

    The area under the steps of precision over recall: rows of one score enter together. NaN where a weighting
    leaves no positive.
    """
    order = (-scores).argsort()
    falling, columns = -scores[order], weights.T[order]
    # all rows of one score count at the place of the last of them
    last = torch.searchsorted(falling, falling[positive[order]], right=True) - 1
    hits = columns * positive[order][:, None]
    precision = hits.cumsum(0)[last].double() / columns.cumsum(0)[last].double().clamp(min=1e-300)
    own = hits[positive[order]].double()
    return (own * precision).sum(0) / own.sum(0)
