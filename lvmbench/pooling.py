"""Scores of several seeds and attributes as one number: what a matrix of them says, and how sure that is.

Definitions are those of rliable (Agarwal et al. 2021, arXiv 2108.13264), with attributes in place of tasks and
seeds in place of runs. The bootstrap draws seeds anew for every attribute. Attributes of one fit are held for
independent by that; where a seed moves all of them together, the interval is too narrow.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lvmbench.randomness import stream
from lvmbench.statistics import Interval, percentile_interval

REPLICATES = 2000
TRIMMED = 0.25  # of the scores, at either end


def mean(scores: Tensor) -> Tensor:
    """Return the mean over seeds and attributes: [..., S, A] -> [...]."""
    return scores.flatten(-2).mean(-1)


def interquartile_mean(scores: Tensor) -> Tensor:
    """Return the mean of the middle half of all scores, seeds and attributes together: [..., S, A] -> [...].

    A quarter at either end is left out, rounded down to whole scores.
    """
    ordered = scores.flatten(-2).sort(-1).values
    cut = int(TRIMMED * ordered.shape[-1])
    return ordered[..., cut : ordered.shape[-1] - cut].mean(-1)


def probability_of_improvement(x: Tensor, y: Tensor) -> Tensor:
    """Return P(a score of x > one of y), its mean over attributes: [..., S, A], [..., T, A] -> [...].

    Ties count half. For each attribute this is the statistic of Mann and Whitney 1947 over all pairs of seeds.
    """
    above = (x[..., :, None, :] - y[..., None, :, :]).sign()
    return (above.mean((-3, -2, -1)) + 1) / 2


def pooled(statistic: Callable[..., Tensor], *scores: Tensor, seed: int = 0) -> Interval:
    """Return a statistic of one or more matrices, and its 95 % percentile interval over seeds: [S, A] each.

    Each matrix draws its seeds apart from the others, and anew for every attribute. Where each has one seed
    there is nothing to draw from, and no interval.
    """
    value = float(statistic(*(of.double() for of in scores)))
    if max(len(of) for of in scores) == 1:
        return Interval(value)
    boots = [resampled(of.double(), stream(seed, f"pooled/{i}")) for i, of in enumerate(scores)]
    return Interval(value, *percentile_interval(statistic(*boots)))


def resampled(scores: Tensor, seed: int, replicates: int = REPLICATES) -> Tensor:
    """Return bootstrap samples of the seeds of each attribute, stratified by attribute: [S, A] -> [R, S, A]."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(scores), (replicates, *scores.shape), generator=generator)
    return scores.expand(replicates, -1, -1).gather(1, drawn)
