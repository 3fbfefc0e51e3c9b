"""Probabilistic PCA: the linear model whose likelihood, posterior and optimum are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from lvmbench import Budget, NotApplicable, Schema, Split, gaussian
from lvmbench_models.rows import DEQUANTISATION, GREY_LEVEL, rows_of
from lvmbench_models.spectrum import leading


class PCA(nn.Module):
    """Probabilistic PCA: x = W z + mean + noise, fitted by maximum likelihood; log p(x) is exact.

    The columns of W are orthogonal, so that the exact posterior has a diagonal covariance.
    """

    paper: ClassVar[str] = "Tipping & Bishop 1999, eq. 4-8"
    seedless: ClassVar[bool] = True  # the seed starts an iteration that ends in the same axes

    def __init__(self, schema: Schema, *, latent_dim: Annotated[int, Ge(1)] = 16) -> None:
        super().__init__()
        self.schema, self.latent_dim = schema, latent_dim
        self.centre: Tensor
        self.axes: Tensor
        self.variances: Tensor
        self.noise: Tensor
        self.register_buffer("centre", torch.zeros(schema.dims))
        self.register_buffer("axes", torch.eye(schema.dims, latent_dim))
        self.register_buffer("variances", torch.ones(latent_dim))
        self.register_buffer("noise", torch.ones(()))

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Take the leading eigenvectors of the pictures' covariance, and the mean of the eigenvalues left."""
        d, q, n = self.schema.dims, self.latent_dim, len(train)
        if q >= min(d, n):
            raise NotApplicable(f"{q} components of {n} training rows and {d} pixel values")
        rows = rows_of(self.schema, train, self.centre.device)
        found = leading(rows, q, torch.Generator().manual_seed(seed))
        extra = DEQUANTISATION if self.schema.pixels == "gaussian" else 0.0
        # sigma² = mean of the eigenvalues that W leaves out (Tipping & Bishop 1999, eq. 8)
        noise = (found.total - found.variances.sum()) / (d - q) + extra
        self.noise = noise.clamp(min=GREY_LEVEL**2).float()
        self.variances = (found.variances + extra).float().clamp(min=self.noise)
        self.centre, self.axes = found.mean, found.axes

    def prior(self) -> Distribution:
        """Return p(z) = N(0, I): batch [], event [D]."""
        zero = self.centre.new_zeros(self.latent_dim)
        return Independent(Normal(zero, zero + 1, validate_args=False), 1, validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """Return p(z|x), exactly: [B, C, H, W] -> batch [B], event [D]."""
        self._require_density()
        # p(z|x) = N(M^-1 W' (x - mean), sigma² M^-1) with M = W'W + sigma² I, which is diagonal here
        q = Normal(self.encode(x), (self.noise / self.variances).sqrt(), validate_args=False)
        return Independent(q, 1, validate_args=False)

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) = N(W z + mean, sigma² I): [..., D] -> batch [...], event [C, H, W]."""
        self._require_density()
        mean = self.centre + (z * self._lengths) @ self.axes.T
        return gaussian(mean.reshape(*mean.shape[:-1], *self.schema.shape), self.noise.sqrt())

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(x; mean, WW' + sigma² I) in nats: [B, C, H, W] -> [B]."""
        self._require_density()
        centred = x.flatten(1) - self.centre
        along = centred @ self.axes  # [B, D]
        across = centred - along @ self.axes.T
        # the covariance has eigenvalues l_1..l_D along the axes and sigma² across them
        d, rest = self.schema.dims, self.schema.dims - self.latent_dim
        log_det = self.variances.log().sum() + rest * self.noise.log()
        distance = (along**2 / self.variances).sum(1) + across.square().sum(1) / self.noise
        return -0.5 * (d * math.log(2 * math.pi) + log_det + distance)

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean: [B, C, H, W] -> [B, D]."""
        return (x.flatten(1) - self.centre) @ self.axes * (self._lengths / self.variances)

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``sample`` is one draw of z, where there is a density to draw from."""
        return {"sample": lambda x: self.posterior(x).sample()} if self._has_density else {}

    @property
    def _lengths(self) -> Tensor:
        """The lengths of the columns of W = U (L - sigma² I)^(1/2): [D]."""
        return (self.variances - self.noise).sqrt()

    @property
    def _has_density(self) -> bool:
        return self.schema.pixels == "gaussian"

    def _require_density(self) -> None:
        if not self._has_density:
            raise NotApplicable("probabilistic PCA has a density of gaussian pixels only")
