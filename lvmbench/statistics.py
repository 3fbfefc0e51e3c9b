"""Intervals: the bootstrap over test rows, and how seeds and rows combine.

Two things make a number uncertain: which rows happened to be tested, and which seeds happened to be trained.
The first is told by replicates, the value under each bootstrap of the rows; the second by the spread over
seeds. A mean over seeds has the variance of both, and a t interval with Satterthwaite's degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import pdtr, stdtr, stdtrit
from torch import Tensor

from lvmbench.api import Estimate

REPLICATES = 1000
LEVEL = 0.95

_POISSON = pdtr(np.arange(16), 1.0)  # Poisson's distribution function; 16 and more have a chance of 2e-14
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval and the p-value of its being 0, None where nothing tells them."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def bootstrap_weights(keys: Sequence[int] | NDArray[np.int64], replicates: int = REPLICATES) -> Tensor:
    """Return Poisson(1) bootstrap weights keyed by row or identity: [N] keys -> float32 [R, N].

    Rows of one key share their weights (a clustered bootstrap), and a key has the same weights in every data
    set and for every model, which makes replicates paired (Chamandy et al. 2012). Replicate r of a key is a
    hash of (key, r), sent through the inverse of Poisson's distribution.
    """
    key = np.asarray(keys, dtype=np.int64)
    counter = np.arange(1, replicates + 1, dtype=np.uint64) * _ODD
    weights = np.empty((replicates, len(key)), dtype=np.float32)
    for r, c in enumerate(counter):  # one replicate at a time fits the cache
        weights[r] = np.searchsorted(_POISSON, hashed_uniform(key, c), side="right")
    return torch.from_numpy(weights)


def hashed_uniform(keys: NDArray[np.int64], counter: np.uint64) -> NDArray[np.float64]:
    """Return the uniform number in [0, 1) of each key under a counter, the same wherever it is asked: [N] -> [N]."""
    bits = _mixed(keys.astype(np.uint64) + counter) >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a hash of 64-bit words, the finaliser of SplitMix64 (Steele et al. 2014): [N] -> [N]."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def replicates(estimate: Estimate, weights: Tensor) -> Tensor | None:
    """Return the estimate under each bootstrap, NaN where it drew no row: [R, N] weights -> [R]."""
    if estimate.rows is None:
        return estimate.replicates
    w = weights[:, : len(estimate.rows)].double()
    return (w @ estimate.rows.double()) / w.sum(1)


def percentile_interval(replicates: Tensor) -> tuple[float, float] | tuple[None, None]:
    """Return the bounds of the middle 95 % of replicates that are numbers, if any are: [R] -> low, high."""
    numbers = replicates[~replicates.isnan()].double()
    if not len(numbers):
        return None, None
    low, high = np.quantile(numbers.cpu().numpy(), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def across_seeds(values: Tensor, replicates: Tensor | None = None) -> Interval:
    """Return the mean over seeds with its interval: [S] values, [S, R] replicates.

    One seed has the percentile interval of its rows, seeds without replicates that of the seeds alone.
    """
    return _interval([(values, replicates)])


def paired_difference(
    a: Tensor, a_replicates: Tensor | None, b: Tensor, b_replicates: Tensor | None, *, paired: bool = True
) -> Interval:
    """Return mean(a) - mean(b) with its interval and p-value: [S] values, [S, R] replicates, of two models.

    Rows are always paired, through equal bootstrap weights. Seeds are paired where both models have the same
    ones in the same order; else the spreads of both add up (Welch 1947).
    """
    if paired:
        known = a_replicates is not None and b_replicates is not None
        return _interval([(a - b, a_replicates - b_replicates if known else None)])  # type: ignore[operator]
    return _interval([(a, a_replicates), (-b, None if b_replicates is None else -b_replicates)])


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being a family (Holm 1979): [M] -> [M]."""
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, raised)
    return [float(q) for q in adjusted]


Group = tuple[Tensor, Tensor | None]  # values over seeds [S], and their replicates [S, R]


def _interval(groups: Sequence[Group]) -> Interval:
    """Return the sum of the groups' means over seeds, with what seeds and rows say of it."""
    value = sum(float(values.double().mean()) for values, _ in groups)
    rows = _replicates_of_sum([replicates for _, replicates in groups])
    parts = [(float(v.double().var()) / len(v), len(v) - 1.0) for v, _ in groups if len(v) > 1]
    if not parts:
        return Interval(value) if rows is None else _from_rows(value, rows)
    if rows is not None:
        parts.append((float(rows.var()), len(rows) - 1.0))
    return _from_variances(value, parts)


def _replicates_of_sum(replicates: Sequence[Tensor | None]) -> Tensor | None:
    """Return the replicates of the sum of means over seeds that are numbers: [S, R] each -> [R]."""
    means = [of.double().mean(0) for of in replicates if of is not None]
    if len(means) < len(replicates):
        return None
    total = torch.stack(means).sum(0)
    total = total[~total.isnan()]
    return total if len(total) > 1 else None


def _from_rows(value: float, rows: Tensor) -> Interval:
    beyond = min(int((rows <= 0).sum()), int((rows >= 0).sum()))
    low, high = percentile_interval(rows)
    return Interval(value, low, high, min(1.0, 2 * (beyond + 1) / (len(rows) + 1)))


def _from_variances(value: float, parts: Sequence[tuple[float, float]]) -> Interval:
    """Return a t interval from independent (variance, degrees of freedom), by Satterthwaite (1946)."""
    variance = sum(v for v, _ in parts)
    if variance == 0:
        return Interval(value, value, value, 1.0 if value == 0 else 0.0)
    freedom = variance**2 / sum(v**2 / df for v, df in parts)
    error = math.sqrt(variance)
    reach = error * float(stdtrit(freedom, (1 + LEVEL) / 2))
    return Interval(value, value - reach, value + reach, 2 * float(stdtr(freedom, -abs(value) / error)))
