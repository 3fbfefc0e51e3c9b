"""Sums over many rows in double precision, a block of rows at a time: codes are kept in single precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CELLS = 2**20  # numbers of a block: it stays in a core's cache, or nearly
GPU_CELLS = 2**26


def blocks(x: Tensor, columns: int = 0) -> Iterator[slice]:
    """Yield places of consecutive rows, as many as suit the device beside so many columns made of each: [N, ...]."""
    cells = GPU_CELLS if x.device.type == "cuda" else CELLS
    rows = max(1, cells // max(1, x.shape[1:].numel() + columns))
    for start in range(0, len(x), rows):
        yield slice(start, start + rows)


def mean_of(x: Tensor) -> Tensor:
    """Return the mean row: [N, D] -> float64 [D]."""
    total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
    for rows in blocks(x):
        total += x[rows].sum(0, dtype=torch.float64)
    return total / len(x)


def spread_of(x: Tensor, mean: Tensor) -> Tensor:
    """Return the standard deviation of each column about a mean: [N, D], [D] -> float64 [D]."""
    total = torch.zeros_like(mean)
    for rows in blocks(x):
        total += (x[rows] - mean).square().sum(0)
    return (total / len(x)).sqrt()


def gram(x: Tensor) -> Tensor:
    """Return the products of all columns, summed over rows: [N, D] -> float64 [D, D]."""
    total = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, device=x.device)
    for rows in blocks(x):
        part = x[rows].double()
        total.addmm_(part.T, part)
    return total


def times(x: Tensor, matrix: Tensor) -> Tensor:
    """Return a product whose sums are in double precision: [N, D], float64 [D, E] -> [N, E] as precise as x."""
    found = x.new_empty(len(x), matrix.shape[1])
    for rows in blocks(x, matrix.shape[1]):
        found[rows] = (x[rows].double() @ matrix).to(x)
    return found
