"""The VAE with a cluster above z: p(y) p(z|y) p(x|z)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

import lvmbench
from lvmbench import Loss, Net, Schema, Weights, diagonal, encoder
from lvmbench_models.onehot import FlatOneHot

FEATURES = 128  # what q(z|x, y) knows of x


class GMVAE(lvmbench.Autoencoder):
    """GMVAE: a categorical y, a Gaussian z whose place depends on y, and q(y|x) q(z|x, y).

    y is drawn one-hot, with the gradient of its relaxation at ``temperature``.
    """

    paper: ClassVar[str] = "Dilokthanakul et al. 2016; Shu 2016 (model M2 with p(z|y))"

    def __init__(
        self,
        schema: Schema,
        *,
        components: Annotated[int, Ge(2)] = 10,
        temperature: Annotated[float, Gt(0)] = 1.0,
        latent_dim: Annotated[int, Ge(1)] = 16,
        net: Net = "conv",
    ) -> None:
        super().__init__(schema, latent_dim=latent_dim, net=net)
        self.components, self.temperature = components, temperature
        self.encoder = encoder(schema, components + FEATURES, net)
        self.inference = nn.Sequential(
            nn.Linear(FEATURES + components, FEATURES), nn.SiLU(), nn.Linear(FEATURES, 2 * latent_dim)
        )
        self.clusters = nn.Linear(components, 2 * latent_dim)

    def weigher(self, x: Tensor) -> Callable[[int], Weights]:
        """Return a function to the terms of log p(x|z) p(z|y) p(y) / q(y|x) q(z|x, y): k -> [K, B] each."""
        q_y, features = self._categories(x)
        p_y = self._uniform()

        def weigh(k: int) -> Weights:
            y = q_y.rsample((k,))
            p, q = self._given(y), self._inferred(features, y)
            z = q.rsample()
            return Weights(
                self.decode(z).log_prob(x),
                p_y.log_prob(y) + p.log_prob(z),
                q_y.log_prob(y) + q.log_prob(z),
            )

        return weigh

    def loss(self, x: Tensor) -> Loss:
        """Return -log p(x|z) + KL(q(y|x) || p(y)) + KL(q(z|x, y) || p(z|y)) at one draw: [B, C, H, W] -> [B] each."""
        q_y, features = self._categories(x)
        y = q_y.rsample()
        q = self._inferred(features, y)
        return {
            "distortion": -self.decode(q.rsample()).log_prob(x),
            "rate of the cluster": kl_divergence(q_y, self._uniform()),
            "rate within the cluster": kl_divergence(q, self._given(y)),
        }

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean, E[z|x] = sum_y q(y|x) mu(x, y): [B, C, H, W] -> [B, D]."""
        q_y, features = self._categories(x)
        each = torch.eye(self.components, device=x.device)[:, None].expand(-1, len(x), -1)
        means = self._inferred(features, each).mean  # [C, B, D]
        return (q_y.mean.T[..., None] * means).sum(0)

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``sample`` is one draw of z, ``cluster`` is q(y|x)."""

        def sample(x: Tensor) -> Tensor:
            q_y, features = self._categories(x)
            return self._inferred(features, q_y.sample()).sample()

        return {"sample": sample, "cluster": lambda x: self._categories(x)[0].mean}

    def _categories(self, x: Tensor) -> tuple[FlatOneHot, Tensor]:
        """Return q(y|x), and what q(z|x, y) is to know of x: [B, C, H, W] -> batch [B], [B, FEATURES]."""
        logits, features = self.encoder(x).split([self.components, FEATURES], dim=-1)
        return FlatOneHot(logits[:, None], self.temperature, validate_args=False), features

    def _uniform(self) -> FlatOneHot:
        return FlatOneHot(self.clusters.weight.new_zeros(1, self.components), validate_args=False)

    def _inferred(self, features: Tensor, y: Tensor) -> Distribution:
        # q(z|x, y) = N(mu(x, y), diag sigma(x, y)²)
        inputs = torch.cat([features.expand(*y.shape[:-1], -1), y], dim=-1)
        return diagonal(self.inference(inputs))

    def _given(self, y: Tensor) -> Distribution:
        # p(z|y) = N(mu_y, diag sigma_y²)
        return diagonal(self.clusters(y))
