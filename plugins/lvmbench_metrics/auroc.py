"""The area under the ROC curve: the rank statistic that it is, of many weightings or many dimensions at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def auroc(scores: Tensor, positive: Tensor, weights: Tensor) -> Tensor:
    """Return P(score of a positive > score of a negative), ties counting half: [n], bool [n], [R, n] -> [R].

    The weighted Mann-Whitney statistic: negatives are sorted once, and a positive beats the weight that lies
    before it. NaN where a weighting leaves a class empty.
    """
    yes, no = positive.nonzero().flatten(), (~positive).nonzero().flatten()
    negatives, order = scores[no].sort()
    columns = (
        weights.T.contiguous()
    )  # rows first: sums over rows then run along memory, for all weightings at once
    below = torch.cat([columns.new_zeros(1, columns.shape[1]), columns[no[order]].cumsum(0)])
    left, right = (torch.searchsorted(negatives, scores[yes], right=side) for side in (False, True))
    beaten = below[left].double()
    if (left != right).any():
        beaten = (beaten + below[right].double()) / 2
    own = columns[yes].double()
    return (own * beaten).sum(0) / (own.sum(0) * below[-1].double())


def auroc_matrix(z: Tensor, positive: Tensor, present: Tensor) -> Tensor:
    """Return the area under the ROC curve of every dimension for every attribute: [N, D], bool [N, A] twice -> [D, A].

    Rows that are not ``present`` count for nothing. NaN where an attribute lacks a class. Dimensions are sorted
    once; attributes that are present in the same rows share their ranks.
    """
    dims = Ranked.of(z)
    found = z.new_empty(z.shape[1], positive.shape[1], dtype=torch.float64)
    masks, group = torch.unique(present, dim=1, return_inverse=True)
    for i in range(masks.shape[1]):
        columns = group == i
        own = (positive[:, columns] & masks[:, i, None]).double()
        n = own.sum(0)
        # the ranks of n positives among themselves sum to n² / 2, whatever their order
        beaten = dims.ranks(masks[:, i, None]).T @ own - n.square() / 2
        found[:, columns] = beaten / (n * (masks[:, i].sum() - n))
    return found


def placements(scores: Tensor, positive: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the area under the ROC curve of column k for attribute k, and every row's influence on it.

    [N, K], bool [N, K] twice -> [K], [N, K]. The influence of a row is how far the share of the other class that
    it is on the right side of departs from the mean, over its own class's share of all rows (DeLong et al. 1988).
    """
    columns = Ranked.of(scores)
    sides = positive & present, ~positive & present
    among = columns.ranks(present)
    influence = torch.zeros_like(among)
    for own, other in (sides, sides[::-1]):
        share = (among - columns.ranks(own)) / other.sum(0)
        right = share if own is sides[0] else 1 - share
        area = (right * own).sum(0) / own.sum(0)
        influence += torch.where(own, right - area, 0) * len(scores) / own.sum(0)
    return area, influence


@dataclass(frozen=True)
class Ranked:
    """Columns sorted once, to be ranked among any rows: ``order``, and where the ties of a row begin and end.

    [N, D] each.
    """

    order: Tensor
    first: Tensor
    last: Tensor

    @classmethod
    def of(cls, z: Tensor) -> Ranked:
        """Sort columns: [N, D]."""
        values, order = z.T.contiguous().sort(dim=1)
        rows = z.T.contiguous()
        first = torch.searchsorted(values, rows)
        last = torch.searchsorted(values, rows, right=True)
        return cls(order.T, first.T, last.T)

    def ranks(self, among: Tensor) -> Tensor:
        """Return how many of some rows lie below each row, ties counting half: bool [N, D or 1] -> [N, D]."""
        counted = among.expand_as(self.order).gather(0, self.order).double().cumsum(0)
        below = torch.nn.functional.pad(counted, (0, 0, 1, 0))
        return (below.gather(0, self.first) + below.gather(0, self.last)) / 2
