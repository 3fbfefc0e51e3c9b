"""Factor analysis: the linear model that gives every pixel a noise of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from lvmbench import Budget, LvmbenchError, NotApplicable, Schema, Split, gaussian
from lvmbench_models.rows import GREY_LEVEL, Square, rows_of, square_of, total
from lvmbench_models.spectrum import Chunks, leading

ITERATIONS = 50
TOLERANCE = 0.1  # nats a row: the iteration that gains less is the last


@dataclass(frozen=True)
class Covariance:
    """The covariance S of n rows, which is never formed: it is only multiplied with.

    ``mean`` and ``diagonal`` are [d]; ``unseen`` [d] is the part of the diagonal that is noise around the rows.
    """

    rows: Chunks
    n: int
    mean: Tensor
    diagonal: Tensor
    unseen: Tensor

    @classmethod
    def of(cls, rows: Chunks, square: Square = torch.square) -> Covariance:
        """Return the covariance of x from rows of E[x], whose E[x²] is ``square``: chunks of [n, d]."""
        n = sum(len(x) for x in rows())
        mean = total(x.sum(0, dtype=torch.float64) for x in rows()) / n
        seen = total((x - mean).square().sum(0) for x in rows()) / n
        unseen = total((square(x.double()) - x.double().square()).sum(0) for x in rows()) / n
        return cls(rows, n, mean, seen + unseen, unseen)

    def times(self, v: Tensor) -> Tensor:
        """Return S v: [d, D] -> [d, D]."""
        centred = (x - self.mean for x in self.rows())  # of double precision, as the mean is
        return total(x.T @ (x @ v) for x in centred) / self.n + self.unseen[:, None] * v


@dataclass(frozen=True)
class Factors:
    """What is learned beside the mean, of double precision: W [d, D] and the diagonal of Psi [d]."""

    loadings: Tensor
    noise: Tensor

    @cached_property
    def scaled(self) -> Tensor:
        """Psi^-1 W: [d, D]."""
        return self.loadings / self.noise[:, None]

    @cached_property
    def precision(self) -> Tensor:
        """The inverse covariance of p(z|x), I + W' Psi^-1 W: [D, D]."""
        inner = self.loadings.T @ self.scaled
        return inner + torch.eye(len(inner)).to(inner)

    @cached_property
    def projection(self) -> Tensor:
        """What takes x - mean to E[z|x], Psi^-1 W (I + W' Psi^-1 W)^-1: [d, D]."""
        solved: Tensor = torch.linalg.solve(self.precision, self.scaled.T)
        return solved.T

    @cached_property
    def log_det(self) -> Tensor:
        """The log of |W W' + Psi|, by the determinant lemma: []."""
        return self.noise.log().sum() + torch.logdet(self.precision)


def start(rows: Chunks, s: Covariance, q: int, floor: float, generator: torch.Generator) -> Factors:
    """Return the factors of probabilistic PCA, the noise of each pixel being what they leave of its variance."""
    found = leading(rows, q, generator)
    sigma2 = (found.total - found.variances.sum()) / (len(s.mean) - q)
    loadings = found.axes.double() * (found.variances - sigma2).clamp(min=0).sqrt()
    return Factors(loadings, (s.diagonal - loadings.square().sum(1)).clamp(min=floor))


def improve(s: Covariance, old: Factors, floor: float) -> tuple[Factors, Tensor]:
    """Return better factors by one step of EM, and the mean log-likelihood of the old ones: nats a row."""
    # E[(x - mean) z'] and E[z z'] under p(z|x) (Ghahramani & Hinton 1996, section 2)
    cross = s.times(old.projection)
    within = torch.linalg.inv(old.precision) + old.projection.T @ cross
    loadings = torch.linalg.solve(within, cross.T).T
    noise = (s.diagonal - (loadings * cross).sum(1)).clamp(min=floor)
    # tr((W W' + Psi)^-1 S), by Woodbury
    distance = (s.diagonal / old.noise).sum() - (old.scaled * cross).sum()
    log_p = -0.5 * (len(s.mean) * math.log(2 * math.pi) + old.log_det + distance)
    return Factors(loadings, noise), log_p


def maximise(
    s: Covariance, factors: Factors, floor: float, tolerance: float = TOLERANCE, iterations: int = ITERATIONS
) -> Factors:
    """Return factors of maximum likelihood by EM, which ends with a gain under ``tolerance`` nats a row."""
    before = -math.inf
    for _ in range(iterations):
        factors, log_p = improve(s, factors, floor)
        if float(log_p) - before < tolerance:
            break
        before = float(log_p)
    return factors


class FactorAnalysis(nn.Module):
    """Factor analysis: x = W z + mean + noise of one variance per pixel, fitted by EM; log p(x) is exact."""

    paper: ClassVar[str] = "Rubin & Thayer 1982; Ghahramani & Hinton 1996, section 2"

    def __init__(self, schema: Schema, *, latent_dim: Annotated[int, Ge(1)] = 16) -> None:
        super().__init__()
        self.schema, self.latent_dim = schema, latent_dim
        self.centre: Tensor
        self.loadings: Tensor
        self.noise: Tensor
        self.register_buffer("centre", torch.zeros(schema.dims))
        self.register_buffer("loadings", torch.eye(schema.dims, latent_dim))
        self.register_buffer("noise", torch.ones(schema.dims))

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Take EM from the principal components to where it gains nothing more."""
        d, q, n = self.schema.dims, self.latent_dim, len(train)
        if q >= min(d, n):
            raise LvmbenchError(
                f"factor-analysis: latent_dim={q} must be under the {n} training rows and {d} pixel values."
            )
        rows, floor = rows_of(self.schema, train, self.centre.device), GREY_LEVEL**2
        s = Covariance.of(rows, square_of(self.schema))
        factors = maximise(s, start(rows, s, q, floor, torch.Generator().manual_seed(seed)), floor)
        self.centre, self.loadings, self.noise = (
            t.float() for t in (s.mean, factors.loadings, factors.noise)
        )

    def prior(self) -> Distribution:
        """Return p(z) = N(0, I): batch [], event [D]."""
        one = torch.eye(self.latent_dim, device=self.centre.device)
        return MultivariateNormal(one.new_zeros(self.latent_dim), scale_tril=one, validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """Return p(z|x), exactly: [B, C, H, W] -> batch [B], event [D]."""
        self._require_density()
        # p(z|x) = N(G W' Psi^-1 (x - mean), G) with G = (I + W' Psi^-1 W)^-1, the same for every x
        scale = torch.linalg.cholesky(torch.linalg.inv(self._factors.precision))
        return MultivariateNormal(self.encode(x), scale_tril=scale.float(), validate_args=False)

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) = N(W z + mean, Psi): [..., D] -> batch [...], event [C, H, W]."""
        self._require_density()
        mean = self.centre + z @ self.loadings.T
        scale = self.noise.sqrt().reshape(self.schema.shape)
        return gaussian(mean.reshape(*mean.shape[:-1], *self.schema.shape), scale)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(x; mean, W W' + Psi) in nats: [B, C, H, W] -> [B]."""
        self._require_density()
        z = self.encode(x)
        error = x.flatten(1) - self.centre - z @ self.loadings.T
        # (x - mean)' (W W' + Psi)^-1 (x - mean), by Woodbury: at z = E[z|x] it is a sum of two squares
        distance = (error.square() / self.noise).sum(1) + z.square().sum(1)
        constant = self.schema.dims * math.log(2 * math.pi) + self._factors.log_det.float()
        return -0.5 * (constant + distance)

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean: [B, C, H, W] -> [B, D]."""
        return (x.flatten(1) - self.centre) @ self._factors.projection.float()

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``sample`` is one draw of z, where there is a density to draw from."""
        return {"sample": lambda x: self.posterior(x).sample()} if self._has_density else {}

    @property
    def _factors(self) -> Factors:
        return Factors(self.loadings.double(), self.noise.double())

    @property
    def _has_density(self) -> bool:
        return self.schema.pixels == "gaussian"

    def _require_density(self) -> None:
        if not self._has_density:
            raise NotApplicable("factor analysis has a density of gaussian pixels only")
