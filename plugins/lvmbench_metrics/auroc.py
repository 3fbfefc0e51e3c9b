"""The area under the ROC curve: the rank statistic that it is, under many weightings of the rows at once."""

from __future__ import annotations

import torch
from torch import Tensor


def auroc(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Return P(score of a positive > score of a negative), ties counting half: [n], bool [n], [R, n] -> [R].

    The weighted Mann-Whitney statistic: negatives are sorted once, and a positive beats the weight that lies
    before it. NaN where a weighting leaves a class empty.
    """
    order = scores[~positive].argsort()
    negatives, positives = scores[~positive][order], scores[positive]
    columns = (
        weights.T.contiguous()
    )  # rows first: sums over rows then run along memory, for all weightings at once
    below = torch.cat([columns.new_zeros(1, columns.shape[1]), columns[~positive][order].cumsum(0)])
    left = torch.searchsorted(negatives, positives)
    right = torch.searchsorted(negatives, positives, right=True)
    beaten = (below[left] + below[right]).double() / 2
    own = columns[positive].double()
    return (own * beaten).sum(0) / (own.sum(0) * below[-1].double())
