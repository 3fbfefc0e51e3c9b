"""The leading eigenvectors of a covariance that is never formed: it is only multiplied with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

OVERSAMPLING = 10
PASSES = 8  # over the data, each of which sharpens the subspace

Chunks = Callable[[], Iterator[Tensor]]


@dataclass(frozen=True)
class Spectrum:
    """Mean [d], leading eigenvectors [d, q], their eigenvalues [q] in falling order, the sum of them all."""

    mean: Tensor
    axes: Tensor
    variances: Tensor
    total: Tensor


def leading(chunks: Chunks, q: int, generator: torch.Generator) -> Spectrum:
    """Return the q leading eigenvectors of the covariance of rows that come in chunks of [n, d].

    Subspace iteration from a random start (Halko et al. 2011, algorithm 4.4): d x (2 q + 10) numbers are
    kept, never d x d. Sums over chunks are of double precision.
    """
    rows = sum(len(x) for x in chunks())
    mean = (_sum(chunks, lambda x: x.sum(0, dtype=torch.float64)) / rows).float()
    total = _sum(chunks, lambda x: (x - mean).square().sum(dtype=torch.float64)) / rows
    start = torch.randn(len(mean), min(len(mean), rows, 2 * q + OVERSAMPLING), generator=generator)
    basis = torch.linalg.qr(start.to(mean.device)).Q
    for _ in range(PASSES):
        basis = torch.linalg.qr(_sum(chunks, lambda x: _times(x - mean, basis))).Q.float()  # noqa: B023
    within = _sum(chunks, lambda x: _gram((x - mean) @ basis)) / rows
    variances, vectors = torch.linalg.eigh(within)  # in rising order
    return Spectrum(mean, basis @ vectors.flip(1)[:, :q].float(), variances.flip(0)[:q], total)


def _times(x: Tensor, basis: Tensor) -> Tensor:
    return x.T @ (x @ basis)


def _gram(x: Tensor) -> Tensor:
    return x.T @ x


def _sum(chunks: Chunks, term: Callable[[Tensor], Tensor]) -> Tensor:
    return sum((term(x).double() for x in chunks()), start=torch.zeros((), dtype=torch.float64))
