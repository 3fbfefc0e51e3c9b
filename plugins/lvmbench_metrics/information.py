"""Mutual information of binned codes and labels, of all dimensions and attributes from one product of indicators.

Estimates are plug-in, in nats: that of a dimension without information is (bins - 1) (classes - 1) / (2 N)
on average, not 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

CHUNK = 4096  # rows whose indicators are in memory at one time


def quantile_edges(sample: Tensor, bins: int) -> Tensor:
    """Return the first value of each bin but the lowest, of equally many rows: [N, D] -> [D, bins - 1]."""
    first = torch.arange(1, bins, device=sample.device) * len(sample) // bins
    return sample.sort(dim=0).values[first].T.contiguous()


def width_edges(sample: Tensor, bins: int) -> Tensor:
    """Return the lower ends of bins of equal width over the range, but the lowest: [N, D] -> [D, bins - 1]."""
    low, high = sample.amin(0)[:, None], sample.amax(0)[:, None]
    return low + (high - low) * torch.arange(1, bins, device=sample.device) / bins


def digitise(values: Tensor, edges: Tensor) -> Tensor:
    """Return the bin of every value, the number of edges not above it: [N, D], [D, B - 1] -> [N, D]."""
    return torch.searchsorted(edges, values.T.contiguous(), right=True).T


def mutual(counts: Tensor) -> Tensor:
    """Return the mutual information of rows and columns of tables, in nats: [..., B, C] -> [...]."""
    total = counts.sum((-2, -1))
    return (counts * _log_ratio(counts)).sum((-2, -1)) / total.clamp(min=1)


def entropy(counts: Tensor) -> Tensor:
    """Return the entropy of counts, in nats: [..., C] -> [...]."""
    share = counts / counts.sum(-1, keepdim=True).clamp(min=1)
    terms: Tensor = torch.special.entr(share)
    return terms.sum(-1)


def _log_ratio(counts: Tensor) -> Tensor:
    """Return log p(b, c) / (p(b) p(c)) of every cell, 0 where it is empty: [..., B, C] -> [..., B, C]."""
    total = counts.sum((-2, -1), keepdim=True)
    product = counts.sum(-1, keepdim=True) * counts.sum(-2, keepdim=True)
    return torch.where(counts > 0, total * counts / product, 1).log()


def indicators(values: Tensor, size: int) -> Tensor:
    """Return columns as indicators side by side, -1 as none: [N, K] in -1..size - 1 -> float32 [N, K * size]."""
    column = torch.arange(values.shape[1], device=values.device) * size
    flat = torch.zeros(len(values), values.shape[1] * size, device=values.device)
    return flat.scatter_(1, column + values.clamp(min=0), (values >= 0).float())


@dataclass(frozen=True)
class Information:
    """What binned dimensions tell of labels: ``bins`` [N, D] in 0..b - 1, ``labels`` [N, A] in -1..c - 1.

    -1 is a missing label: its row counts for the other attributes only.
    """

    bins: Tensor
    labels: Tensor
    b: int
    c: int

    @cached_property
    def counts(self) -> Tensor:
        """Rows by dimension, attribute, bin and class: float64 [D, A, B, C]."""
        (_, d), a = self.bins.shape, self.labels.shape[1]
        total = torch.zeros(d * self.b, a * self.c, dtype=torch.float64, device=self.bins.device)
        for codes, labels in self._chunks():  # whole numbers below 2^24: exact in float32
            total += indicators(codes, self.b).T @ indicators(labels, self.c)
        return total.view(d, self.b, a, self.c).transpose(1, 2)

    @cached_property
    def mutual(self) -> Tensor:
        """The mutual information of every dimension and attribute, in nats: [D, A]."""
        return mutual(self.counts)

    @cached_property
    def entropy(self) -> Tensor:
        """The entropy of every attribute, in nats: [A]."""
        return entropy(self._classes)

    @property
    def _classes(self) -> Tensor:
        return self.counts[0].sum(1)

    def influence(self, by_mutual: Tensor, by_entropy: Tensor) -> Tensor:
        """Return each row's influence through each attribute on a score with these slopes: [D, A], [A] -> [N, A].

        A row adds to I(z_d; a) the log-ratio of its cell, and to H(a) minus the log-share of its class.
        """
        labelled = self._classes.sum(1)
        slopes = (by_mutual[..., None, None] * _log_ratio(self.counts)).transpose(1, 2)
        surprise = (labelled[:, None] / self._classes.clamp(min=1)).log() * by_entropy[:, None]
        mean = (by_mutual * self.mutual).sum(0) + by_entropy * self.entropy
        found = []
        for codes, labels in self._chunks():
            cells = indicators(codes, self.b).double() @ slopes.flatten(0, 1).flatten(1) + surprise.flatten()
            of_class = cells.view(len(codes), -1, self.c).gather(2, labels.clamp(min=0)[..., None])[..., 0]
            found.append(torch.where(labels >= 0, of_class - mean, 0) * len(self.labels) / labelled)
        return torch.cat(found)

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self.bins.split(CHUNK), self.labels.split(CHUNK), strict=True)


def best_two(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest and the second largest of each column, 0 where there is no second: [D, A] -> [A] twice."""
    most = pad(values, (0, 0, 0, 1)).topk(2, dim=0).values
    return most[0], most[1]
