"""Counter-based random numbers: what a row draws depends on its number alone."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
WORDS = 4  # Philox-4x64 gives four words at each step of its counter: one step is one row


def uniforms(seed: int, name: str, rows: Rows) -> Floats:
    """Return four uniforms for each row, keyed by (seed, row, name): [N] -> [N, 4] in [0, 1)."""
    drawn = np.empty((len(rows), WORDS))
    if len(rows) == 0:
        return drawn
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        stream = _stream(seed, name).advance(int(rows[start]))
        drawn[start:stop] = np.random.Generator(stream).random((stop - start, WORDS))
    return drawn


def _stream(seed: int, name: str) -> np.random.Philox:
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Philox(key=np.array([seed, int.from_bytes(digest[:8], "big")], dtype=np.uint64))


def pick(u: Floats, weights: Floats) -> Floats:
    """Return the class that a uniform falls into: u [N], weights [N, K] or [K], rows that sum to 1 -> [N]."""
    edges = np.cumsum(np.broadcast_to(weights, (len(u), weights.shape[-1])), axis=1)[:, :-1]
    return np.asarray((u[:, None] >= edges).sum(axis=1), dtype=np.float64)


def between(u: Floats, low: float, high: float) -> Floats:
    """Return uniforms stretched to an interval: [N] -> [N]."""
    return low + (high - low) * u


def truncated_normal(u: Floats, sd: float, limit: float) -> Floats:
    """Return draws of N(0, sd²) given |x| < limit, rising in u: [N] -> [N]."""
    inside = math.erf(limit / sd / math.sqrt(2))
    return np.asarray(sd * ndtri(0.5 + (u - 0.5) * inside))


def kumaraswamy(u: Floats, a: float, b: float) -> Floats:
    """Return draws with density a b x^(a-1) (1 - x^a)^(b-1) on [0, 1], rising in u: [N] -> [N]."""
    return (1 - (1 - u) ** (1 / b)) ** (1 / a)
