"""The autoencoder, the Gaussian VAE, and those that differ from it by a line of the objective."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt, Le
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

import lvmbench
from lvmbench import Loss, NotApplicable, Schema, likelihood, rate_distortion

Autoencoder = lvmbench.Autoencoder
VAE = lvmbench.VAE
TINY = 1e-12  # a reconstruction without error would leave log sigma without a gradient
FIRST_VARIANCE = 0.25**2  # about that of pixels before anything is learned


class BetaVAE(VAE):
    """beta-VAE: the VAE whose rate weighs ``beta`` in training; its ELBO is reported unweighted."""

    paper: ClassVar[str] = "Higgins et al. 2017, eq. 4"

    def __init__(self, schema: Schema, *, beta: Annotated[float, Gt(0)] = 4.0, **options: Any) -> None:
        super().__init__(schema, **options)
        self.beta = beta

    def loss(self, x: Tensor) -> Loss:
        """Return E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)) in nats: [B, C, H, W] -> [B]."""
        rate, distortion = rate_distortion(self, x)
        return {"distortion": distortion, "weighted rate": self.beta * rate}


class AnnealedVAE(VAE):
    """beta-VAE with annealed capacity: the mean rate is held at C, which grows from 0 to ``capacity`` nats.

    C grows linearly with the steps, over the share ``anneal`` of them, and stays where it ends.
    """

    paper: ClassVar[str] = "Burgess et al. 2018, eq. 8"
    constraints: ClassVar[tuple[str, ...]] = ("distance from capacity",)

    def __init__(
        self,
        schema: Schema,
        *,
        capacity: Annotated[float, Gt(0)] = 25.0,
        gamma: Annotated[float, Gt(0)] = 1000.0,
        anneal: Annotated[float, Gt(0), Le(1)] = 1 / 3,
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        self.capacity, self.gamma, self.anneal = capacity, gamma, anneal
        self.settled = anneal

    def capacity_at(self, progress: float) -> Tensor:
        """Return C in nats at a share of the steps: []."""
        return self.capacity * torch.as_tensor(progress / self.anneal).clamp(max=1)

    def loss(self, x: Tensor, progress: float = 1.0) -> Loss:
        """Return E_q[-log p(x|z)] + gamma |mean KL - C| in nats: [B, C, H, W] -> [B] and []."""
        rate, distortion = rate_distortion(self, x)
        off = (rate.mean() - self.capacity_at(progress)).abs()
        return {"distortion": distortion, "distance from capacity": self.gamma * off}


class SigmaVAE(VAE):
    """sigma-VAE: the scale of the pixels is its maximum-likelihood value for each batch, not a parameter.

    Afterwards, decoding uses a moving average of what the batches had.
    """

    paper: ClassVar[str] = "Rybkin, Daniilidis & Levine 2021, section 3.2 (optimal sigma)"
    memory: ClassVar[float] = 0.9

    def __init__(self, schema: Schema, **options: Any) -> None:
        super().__init__(schema, **options)
        if schema.pixels != "gaussian":
            raise NotApplicable(f"{schema.pixels} pixels have no scale")
        self.scale.raw.requires_grad_(False)
        self.variance: Tensor
        self.register_buffer("variance", torch.full((), FIRST_VARIANCE))

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) under the scale that training found: [..., D] -> batch [...], event [C, H, W]."""
        return self._likelihood(self.decoder(z), self.variance)

    def loss(self, x: Tensor) -> Loss:
        """Return E_q[-log p(x|z)] + KL(q(z|x) || p(z)) in nats, p at the batch's best scale: [B, C, H, W] -> [B]."""
        q = self.posterior(x)
        outputs = self.decoder(q.rsample())
        # sigma*² = mean over batch and pixels of (x - mu)², where D log sigma + |x - mu|² / (2 sigma²) is least
        best = (x - torch.sigmoid(outputs)).square().mean().clamp(min=TINY)
        if self.training:
            self._best = best.detach()
        distortion = -self._likelihood(outputs, best).log_prob(x)
        return {"distortion": distortion, "rate": kl_divergence(q, self.prior())}

    def after_step(self) -> None:
        """Let the scale that decoding uses follow the batches."""
        self.variance.lerp_(self._best, 1 - self.memory)

    def _likelihood(self, outputs: Tensor, variance: Tensor) -> Distribution:
        return likelihood(self.schema, outputs, variance.log() / 2)
