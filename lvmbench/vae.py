"""The autoencoder and the variational autoencoder with a diagonal Gaussian posterior: the bases of many others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from lvmbench.data import Schema, Split
from lvmbench.nets import Net, centre_at, decoder, encoder, start_at
from lvmbench.objectives import rate_distortion
from lvmbench.pixels import likelihood, mean_picture
from lvmbench.protocols import Loss

FIRST_SCALE = 0.25  # about the spread of pixels before anything is learned
SCALE_GAIN = 10.0  # Adam moves any number one learning rate a step; the scale has furthest to go
SIGMA_FLOOR = 1e-6  # keeps log q(z|x) finite where softplus underflows


class Autoencoder(nn.Module):
    """Autoencoder: a code z = f(x) and the likelihood p(x|z) of the schema, fitted together; no density of z."""

    paper: ClassVar[str] = "Rumelhart, Hinton & Williams 1986; Hinton & Salakhutdinov 2006"
    outputs_per_dim: ClassVar[int] = 1  # what the encoder says of each dimension

    def __init__(self, schema: Schema, *, latent_dim: Annotated[int, Ge(1)] = 16, net: Net = "conv") -> None:
        super().__init__()
        self.schema = schema
        self.latent_dim = latent_dim
        self.encoder = encoder(schema, self.outputs_per_dim * latent_dim, net)
        self.decoder = decoder(schema, latent_dim, net)
        self.scale = Scale(schema)

    def start(self, train: Split) -> None:
        """Take the mean picture from what the encoder sees, and let the decoder begin there."""
        mean = mean_picture(self.schema, train)
        centre_at(self.encoder, mean)
        start_at(self.decoder, mean)

    def encode(self, x: Tensor) -> Tensor:
        """Return the code: [B, C, H, W] -> [B, D]."""
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z): [..., D] -> batch [...], event [C, H, W]."""
        return likelihood(self.schema, self.decoder(z), self.scale())

    def loss(self, x: Tensor) -> Loss:
        """Return -log p(x|f(x)) in nats: [B, C, H, W] -> [B]."""
        return {"distortion": -self.decode(self.encode(x)).log_prob(x)}


class VAE(Autoencoder):
    """Variational autoencoder: p(z) = N(0, I), q(z|x) = N(mu(x), diag sigma(x)²), p(x|z) of the schema."""

    paper: ClassVar[str] = "Kingma & Welling 2014, eq. 3 and 10"
    outputs_per_dim: ClassVar[int] = 2  # mu and sigma

    def prior(self) -> Distribution:
        """Return p(z): batch [], event [D]."""
        zero = self.scale.raw.new_zeros(self.latent_dim)
        # p(z) = N(0, I)
        return Independent(Normal(zero, zero + 1, validate_args=False), 1, validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z|x): [B, C, H, W] -> batch [B], event [D]."""
        # q(z|x) = N(mu(x), diag sigma(x)²)
        return diagonal(self.encoder(x))

    def loss(self, x: Tensor) -> Loss:
        """Return E_q[-log p(x|z)] + KL(q(z|x) || p(z)) at one draw, in nats: [B, C, H, W] -> [B]."""
        rate, distortion = rate_distortion(self, x)
        return {"distortion": distortion, "rate": rate}

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean: [B, C, H, W] -> [B, D]."""
        return self.posterior(x).mean

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``sample`` is one draw of z."""
        return {"sample": lambda x: self.posterior(x).sample()}


def diagonal(outputs: Tensor) -> Independent[Normal]:
    """Return N(mu, diag sigma²) from mu and a raw sigma side by side: [..., 2 D] -> batch [...], event [D]."""
    mu, raw = outputs.chunk(2, dim=-1)
    return Independent(Normal(mu, softplus(raw) + SIGMA_FLOOR, validate_args=False), 1, validate_args=False)


class Scale(nn.Module):
    """The one number that a model learns of its likelihood: the log of the gaussian scale.

    Bernoulli pixels have no scale; for them it is a constant.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        start = torch.tensor(math.log(FIRST_SCALE) / SCALE_GAIN)
        self.raw = nn.Parameter(start, requires_grad=schema.pixels == "gaussian")

    def forward(self) -> Tensor:
        """Return ``raw_scale`` for ``lvmbench.likelihood``: []."""
        return SCALE_GAIN * self.raw
