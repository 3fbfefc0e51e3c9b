"""The Gaussian VAE and the two that differ from it by one line."""

from __future__ import annotations

from typing import Annotated, ClassVar

from annotated_types import Ge, Gt
from torch import Tensor

import lvmbench
from lvmbench import Net, Schema, iwae_bound, log_weights, rate_distortion

VAE = lvmbench.VAE


class BetaVAE(VAE):
    """beta-VAE: the VAE whose rate weighs ``beta`` in training; its ELBO is reported unweighted."""

    paper: ClassVar[str] = "Higgins et al. 2017, eq. 4"

    def __init__(
        self,
        schema: Schema,
        *,
        beta: Annotated[float, Gt(0)] = 4.0,
        latent_dim: Annotated[int, Ge(1)] = 16,
        net: Net = "conv",
    ) -> None:
        super().__init__(schema, latent_dim=latent_dim, net=net)
        self.beta = beta

    def loss(self, x: Tensor) -> Tensor:
        """Return E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) in nats: [B, C, H, W] -> [B]."""
        rate, distortion = rate_distortion(self, x)
        return distortion + self.beta * rate


class IWAE(VAE):
    """Importance-weighted autoencoder: the VAE fitted to the tighter bound of ``k`` draws."""

    paper: ClassVar[str] = "Burda, Grosse & Salakhutdinov 2016, eq. 8"

    def __init__(
        self,
        schema: Schema,
        *,
        k: Annotated[int, Ge(1)] = 5,
        latent_dim: Annotated[int, Ge(1)] = 16,
        net: Net = "conv",
    ) -> None:
        super().__init__(schema, latent_dim=latent_dim, net=net)
        self.k = k

    def loss(self, x: Tensor) -> Tensor:
        """Return -log (1/k) sum_i p(x, z_i) / q(z_i|x) in nats: [B, C, H, W] -> [B]."""
        return -iwae_bound(log_weights(self, x, self.k))
