"""Mixtures of Gaussians of diagonal covariance, for many sets of rows at once, in coordinates of unit spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench_metrics.codes import RESOLUTION

ITERATIONS = 50
TOLERANCE = 1e-3  # nats a row, as in scikit-learn
LEAST_ROWS = 1e-9  # keeps a component that no row belongs to from dividing by zero
LEAST_VARIANCE = 1e-3  # of a component, where the codes have 1


@dataclass(frozen=True)
class Space:
    """Codes turned to their principal axes and scaled to unit spread; axes that never vary are left out."""

    mean: Tensor  # [D]
    axes: Tensor  # [D, E]
    spread: Tensor  # [E]

    @classmethod
    def of(cls, z: Tensor) -> Space:
        """Return the space of some codes: [N, D]."""
        mean = z.mean(0)
        variances, axes = torch.linalg.eigh((z - mean).T @ (z - mean) / len(z))
        alive = variances > (RESOLUTION**2) * z.square().sum(1).mean()
        return cls(mean, axes[:, alive], variances[alive].sqrt())

    def into(self, z: Tensor) -> Tensor:
        """Return codes in this space: [N, D] -> [N, E]."""
        return (z.double() - self.mean) @ self.axes / self.spread

    def out(self, u: Tensor) -> Tensor:
        """Return the codes of points in this space: [N, E] -> [N, D]."""
        return u * self.spread @ self.axes.T + self.mean


@dataclass(frozen=True)
class Mixtures:
    """V mixtures of K components: log-shares [V, K], means and variances [V, K, E]."""

    log_shares: Tensor
    means: Tensor
    variances: Tensor

    def joint(self, u: Tensor) -> Tensor:
        """Return log p(u, component) in nats: [V, N, E] -> [V, N, K]."""
        precision = 1 / self.variances
        # |u - m|² / s² = u² / s² - 2 u m / s² + m² / s²: two GEMMs for all components
        square = u.square() @ precision.mT - 2 * u @ (self.means * precision).mT
        constant = (self.means.square() * precision + (2 * math.pi * self.variances).log()).sum(2)
        return self.log_shares[:, None] - 0.5 * (square + constant[:, None])


def start(means: Tensor) -> Mixtures:
    """Return mixtures of equal shares and unit variances about some means: [V, K, E]."""
    return Mixtures(means.new_full(means.shape[:2], -math.log(means.shape[1])), means, torch.ones_like(means))


def fit(u: Tensor, known: Tensor, found: Mixtures) -> Mixtures:
    """Return mixtures of the rows of each set, by expectation-maximisation (Dempster et al. 1977).

    [V, N, E], [V, N] of which rows count 1 and others 0, the mixtures to start from -> V mixtures.
    """
    size = known.sum(1)
    before = torch.full_like(size, -math.inf)
    for _ in range(ITERATIONS):
        joint = found.joint(u)
        now = (joint.logsumexp(2) * known).sum(1) / size
        if bool((now - before < TOLERANCE).all()):
            break
        before = now
        found = _maximised(u, joint.softmax(2) * known[:, :, None])
    return found


def _maximised(u: Tensor, belongs: Tensor) -> Mixtures:
    size = belongs.sum(1) + LEAST_ROWS  # [V, K]
    means = belongs.mT @ u / size[:, :, None]
    variances = belongs.mT @ u.square() / size[:, :, None] - means.square()
    return Mixtures((size / size.sum(1, keepdim=True)).log(), means, variances.clamp(min=LEAST_VARIANCE))
