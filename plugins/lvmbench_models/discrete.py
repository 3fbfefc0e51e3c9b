"""The discrete contrast: separate categorical variables in place of one continuous vector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt
from torch import Tensor
from torch.distributions import Distribution

import lvmbench
from lvmbench import Net, Schema
from lvmbench_models.onehot import FlatOneHot


class Discrete(lvmbench.VAE):
    """Categorical VAE: ``groups`` variables of ``classes`` classes, trained straight-through.

    Every draw that it is trained or scored on is one-hot, so that its bounds are those of the discrete model.
    """

    paper: ClassVar[str] = "Jang et al. 2017, section 2.2; Maddison et al. 2017"
    outputs_per_dim: ClassVar[int] = 1  # a logit

    def __init__(
        self,
        schema: Schema,
        *,
        groups: Annotated[int, Ge(1)] = 32,
        classes: Annotated[int, Ge(2)] = 8,
        temperature: Annotated[float, Gt(0)] = 1.0,
        net: Net = "conv",
    ) -> None:
        super().__init__(schema, latent_dim=groups * classes, net=net)
        self.groups, self.classes, self.temperature = groups, classes, temperature

    def prior(self) -> Distribution:
        """Return p(z), uniform over the codes: batch [], event [G * C]."""
        return FlatOneHot(self.scale.raw.new_zeros(self.groups, self.classes), validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z|x), independent categorical variables: [B, C, H, W] -> batch [B], event [G * C]."""
        logits = self.encoder(x).unflatten(-1, (self.groups, self.classes))
        return FlatOneHot(logits, self.temperature, validate_args=False)

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return codes beside the probabilities: ``one-hot`` is the likeliest class of each variable."""
        return {"one-hot": lambda x: self.posterior(x).mode}
