"""k-means from several seeds at once: all points count, no cluster stays empty, a seed gives one answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench_metrics.blocks import blocks


@dataclass(frozen=True)
class Clustering:
    """Centres [S, K, D] of S independent runs, and the Lloyd iterations that each took: [S]."""

    centres: Tensor
    iterations: Tensor


def kmeans(
    x: Tensor, k: int, seeds: int, generator: torch.Generator, iterations: int = 50, tolerance: float = 1e-4
) -> Clustering:
    """Return k centres per seed by k-means++ and Lloyd's iteration: [N, D] -> [S, K, D].

    A seed stops when its centres move by less than ``tolerance`` times the variance of a dimension (in
    squares, as in scikit-learn); what 50 iterations leave undone is a thousandth of the inertia. Random
    numbers come from the CPU, so that every device clusters alike.
    """
    uniform = torch.rand(seeds, k, generator=generator, dtype=torch.float64).to(x)
    centres = plus_plus(x, uniform)
    took = torch.full((seeds,), iterations)
    enough = tolerance * x.var(0, correction=0).mean()
    running = torch.arange(seeds, device=x.device)
    for i in range(1, iterations + 1):
        moved = step(x, centres[running])
        still = (moved - centres[running]).square().sum((1, 2)) > enough
        centres[running] = moved
        took[running[~still].cpu()] = i
        running = running[still]
        if not len(running):
            break
    return Clustering(centres, took)


def plus_plus(x: Tensor, uniform: Tensor) -> Tensor:
    """Return centres, each drawn by squared distance to those before it: [N, D], [S, K] -> [S, K, D].

    Arthur & Vassilvitskii 2007, algorithm 1.
    """
    seeds, k = uniform.shape
    nearest = torch.ones(seeds, len(x), dtype=x.dtype, device=x.device)
    centres = x.new_empty(seeds, k, x.shape[1])
    for j in range(k):
        mass = nearest.cumsum(1)
        drawn = torch.searchsorted(mass, uniform[:, j : j + 1] * mass[:, -1:], right=True).squeeze(1)
        centres[:, j] = x[drawn.clamp(max=len(x) - 1)]
        distance = distances(x, centres[:, j : j + 1]).squeeze(2).T
        nearest = distance if j == 0 else torch.minimum(nearest, distance)
    return centres


def distances(x: Tensor, centres: Tensor) -> Tensor:
    """Return squared Euclidean distances: [N, D], [S, K, D] -> [N, S, K]."""
    return (_relative(x, centres) + x.square().sum(1)[:, None, None]).clamp_(min=0)


def _relative(x: Tensor, centres: Tensor) -> Tensor:
    """Return squared distances less |x|², which tells no two centres apart: one GEMM for all seeds."""
    flat = centres.flatten(0, 1)
    return torch.addmm(flat.square().sum(1), x, flat.T, alpha=-2).view(len(x), *centres.shape[:2])


def assign(x: Tensor, centres: Tensor) -> Tensor:
    """Return the nearest centre of every point: [N, D], [S, K, D] -> [S, N]."""
    return torch.cat([_nearest(x[rows], centres) for rows in _blocks(x, centres)]).T


def _nearest(x: Tensor, centres: Tensor) -> Tensor:
    return _relative(x, centres).argmin(2)


def _blocks(x: Tensor, centres: Tensor) -> Iterator[slice]:
    return blocks(x, 2 * centres.shape[:2].numel())


def step(x: Tensor, centres: Tensor) -> Tensor:
    """Return the means of the points nearest to each centre (one Lloyd iteration): -> [S, K, D]."""
    flat = centres.flatten(0, 1)
    total, size = torch.zeros_like(flat), torch.zeros_like(flat[:, 0])
    for rows in _blocks(x, centres):
        part = x[rows]
        nearest = _nearest(part, centres)[:, :, None]
        members = part.new_zeros(len(part), *centres.shape[:2]).scatter_(2, nearest, 1.0).flatten(1)
        total.addmm_(members.T, part)
        size += members.sum(0)
    means = (total / size.clamp(min=1)[:, None]).view_as(centres)
    empty = (size == 0).view(centres.shape[:2])
    if empty.any():
        _refill(x, means, empty)
    return means


def _refill(x: Tensor, means: Tensor, empty: Tensor) -> None:
    """Move each empty cluster onto the point that the others serve worst, in place."""
    for s in empty.any(1).nonzero().flatten().tolist():
        live = means[s : s + 1, ~empty[s]]
        for j in empty[s].nonzero().flatten().tolist():
            farthest = distances(x, live).amin(2).argmax()
            means[s, j] = x[farthest]
            live = torch.cat([live, x[farthest][None, None]], dim=1)
