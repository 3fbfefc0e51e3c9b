"""The discrete contrast: separate categorical variables in place of one continuous vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.distributions import kl_divergence

import lvmbench
from lvmbench import Loss, Net, Schema, UsageError
from lvmbench_models.onehot import FlatOneHot

COOLING = (
    0.46  # the share of the steps after which the temperature is final: 23,100 of 50,000 in the paper's code
)


class Discrete(lvmbench.VAE):
    """Categorical VAE: ``groups`` variables of ``classes`` classes, trained straight-through.

    Every draw that it is trained or scored on is one-hot, so that its bounds are those of the discrete model.
    The temperature of the gradient's relaxation falls exponentially from ``temperature`` to ``coldest``.
    """

    paper: ClassVar[str] = "Jang et al. 2017, section 2.2; Maddison et al. 2017"
    outputs_per_dim: ClassVar[int] = 1  # a logit
    settled: ClassVar[float] = COOLING
    decoded_view: ClassVar[str] = "one-hot"  # the decoder has never seen a blend of symbols

    def __init__(
        self,
        schema: Schema,
        *,
        groups: Annotated[int, Ge(1)] = 30,
        classes: Annotated[int, Ge(2)] = 10,
        temperature: Annotated[float, Gt(0)] = 1.0,
        coldest: Annotated[float, Gt(0)] = 0.5,
        net: Net = "conv",
    ) -> None:
        if coldest > temperature:
            raise UsageError(f"coldest={coldest:g} is over temperature={temperature:g}, from which it falls.")
        super().__init__(schema, latent_dim=groups * classes, net=net)
        self.latents = groups
        self.groups, self.classes, self.temperature, self.coldest = groups, classes, temperature, coldest

    def prior(self) -> FlatOneHot:
        """Return p(z), uniform over the codes: batch [], event [G * C]."""
        return FlatOneHot(self.scale.raw.new_zeros(self.groups, self.classes), validate_args=False)

    def posterior(self, x: Tensor, progress: float = 1.0) -> FlatOneHot:
        """Return q(z|x), independent categorical variables: [B, C, H, W] -> batch [B], event [G * C]."""
        logits = self.encoder(x).unflatten(-1, (self.groups, self.classes))
        return FlatOneHot(logits, self.temperature_at(progress), validate_args=False)

    def temperature_at(self, progress: float) -> Tensor:
        """Return the temperature at a share of the steps: []."""
        cooled = torch.as_tensor(progress / COOLING, dtype=torch.float32).clamp(max=1)
        return self.temperature * (self.coldest / self.temperature) ** cooled

    def loss(self, x: Tensor, progress: float = 1.0) -> Loss:
        """Return -log p(x|z) + KL(q(z|x) || p(z)) at one draw, in nats: [B, C, H, W] -> [B] each."""
        q = self.posterior(x, progress)
        return {
            "distortion": -self.decode(q.rsample()).log_prob(x),
            "rate": kl_divergence(q, self.prior()),
        }

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return codes beside the probabilities: ``one-hot`` likeliest classes, ``sample`` drawn ones."""
        return {"one-hot": lambda x: self.posterior(x).mode, "sample": lambda x: self.posterior(x).sample()}
