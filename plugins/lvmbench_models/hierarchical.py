"""The hierarchical VAE: several stochastic layers, each generated from the one above it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, MinLen
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import lvmbench
from lvmbench import Loss, Net, Schema, Weights, diagonal, iwae_bound, weigher

HIDDEN = 100  # units of the two layers between one stochastic layer and the next


class HVAE(lvmbench.Autoencoder):
    """Hierarchical VAE: p(z_L) ... p(z_1|z_2) p(x|z_1), inferred upwards by q(z_1|x) q(z_2|z_1) ... q(z_L|z_L-1).

    ``latent_dims`` counts the dimensions of each layer, the one next to the picture first; the code is all of
    them side by side. With more than one draw, ``k``, it is fitted to their importance-weighted bound.
    """

    paper: ClassVar[str] = "Rezende, Mohamed & Wierstra 2014; Burda et al. 2016, eq. 1-4 and 8 (two layers)"
    outputs_per_dim: ClassVar[int] = 2  # mu and sigma of the layer next to the picture

    def __init__(
        self,
        schema: Schema,
        *,
        latent_dims: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(2)] = (12, 4),
        k: Annotated[int, Ge(1)] = 1,
        net: Net = "conv",
    ) -> None:
        super().__init__(schema, latent_dim=latent_dims[0], net=net)
        self.latent_dims, self.k = tuple(latent_dims), k
        self.upward = nn.ModuleList(_between(a, b) for a, b in pairwise(latent_dims))
        self.downward = nn.ModuleList(_between(b, a) for a, b in pairwise(latent_dims))

    def weigher(self, x: Tensor) -> Callable[[int], Weights]:
        """Return a function to the terms of log p(x, z_1..z_L) / q(z_1..z_L|x): k -> [K, B] each."""
        bottom = diagonal(self.encoder(x))

        def weigh(k: int) -> Weights:
            z = [bottom.rsample((k,))]
            log_q = bottom.log_prob(z[0])
            for layer in self.upward:  # q(z_l+1|z_l)
                q = diagonal(layer(z[-1]))
                z.append(q.rsample())
                log_q = log_q + q.log_prob(z[-1])
            log_p = _standard(z[-1]).log_prob(z[-1])
            for layer, (below, above) in zip(self.downward, pairwise(z), strict=True):  # p(z_l|z_l+1)
                log_p = log_p + diagonal(layer(above)).log_prob(below)
            return Weights(self.decode(z[0]).log_prob(x), log_p, log_q)

        return weigh

    def loss(self, x: Tensor) -> Loss:
        """Return -log p(x|z_1) and log q(z|x) - log p(z) at one draw, or minus the bound of k, in nats: [B] each."""
        w = weigher(self, x)(self.k)
        if self.k > 1:
            return -iwae_bound(w.log_w)
        return {"distortion": -w.log_likelihood[0], "rate": (w.log_posterior - w.log_prior)[0]}

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of each layer at the mean of the one below it, side by side: [B, C, H, W] -> [B, sum D]."""
        means = [diagonal(self.encoder(x)).mean]
        for layer in self.upward:
            means.append(diagonal(layer(means[-1])).mean)
        return torch.cat(means, dim=-1)

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z_1), of which the first dimensions are what counts: [..., sum D] -> event [C, H, W]."""
        return super().decode(z[..., : self.latent_dims[0]])

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``sample`` is one draw of all layers, ``top`` the mean of the highest."""

        def sample(x: Tensor) -> Tensor:
            z = [diagonal(self.encoder(x)).sample()]
            for layer in self.upward:
                z.append(diagonal(layer(z[-1])).sample())
            return torch.cat(z, dim=-1)

        return {"sample": sample, "top": lambda x: self.encode(x)[:, -self.latent_dims[-1] :]}


def _between(inputs: int, outputs: int) -> nn.Sequential:
    """Return the layers from one latent to mu and sigma of its neighbour (Burda et al. 2016, section 5)."""
    layers = [nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN, 2 * outputs))


def _standard(like: Tensor) -> Independent[Normal]:
    zero = torch.zeros_like(like)
    return Independent(Normal(zero, zero + 1, validate_args=False), 1, validate_args=False)
