"""The importance-weighted family: one log w, averaged in different ways, and different gradients of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn import Parameter

import lvmbench
from lvmbench import Batch, Loss, Schema, elbo, iwae_bound, log_weights

Gradient = Literal["iwae", "dreg", "stl"]


class IWAE(lvmbench.VAE):
    """Importance-weighted autoencoder: the VAE fitted to the tighter bound of ``k`` draws.

    The encoder's gradient is the bound's own (``iwae``), its doubly reparameterised form of the same
    expectation and less variance (``dreg``: Tucker et al. 2019), or that without the score of q
    (``stl``: Roeder et al. 2017), which is biased where k > 1. The value is the bound in each case.
    """

    paper: ClassVar[str] = "Burda, Grosse & Salakhutdinov 2016, eq. 8"

    def __init__(
        self, schema: Schema, *, k: Annotated[int, Ge(1)] = 5, gradient: Gradient = "iwae", **options: Any
    ) -> None:
        super().__init__(schema, **options)
        self.k, self.gradient = k, gradient

    def loss(self, x: Tensor) -> Loss:
        """Return -log (1/k) sum_i p(x, z_i) / q(z_i|x) in nats: [B, C, H, W] -> [B]."""
        if self.gradient == "iwae":
            return -iwae_bound(log_weights(self, x, self.k))
        q = self.posterior(x)
        z = q.rsample((self.k,))
        # q's own parameters are held: its gradient goes through z alone
        log_w = self.decode(z).log_prob(x) + self.prior().log_prob(z) - _held(q).log_prob(z)
        if self.gradient == "dreg" and z.requires_grad:
            # d bound / dz_i is w~_i d log w_i / dz_i; the encoder is to get w~_i² d log w_i / dz_i
            share = log_w.detach().softmax(0)
            z.register_hook(lambda gradient: gradient * share[..., None])
        return -iwae_bound(log_w)


class MIWAE(lvmbench.VAE):
    """MIWAE: the mean of ``m`` importance-weighted bounds of ``k`` draws each."""

    paper: ClassVar[str] = "Rainforth et al. 2018 (MIWAE)"

    def __init__(
        self, schema: Schema, *, m: Annotated[int, Ge(1)] = 8, k: Annotated[int, Ge(1)] = 8, **options: Any
    ) -> None:
        super().__init__(schema, **options)
        self.m, self.k = m, k

    def loss(self, x: Tensor) -> Loss:
        """Return -(1/m) sum_m log (1/k) sum_k w_mk in nats: [B, C, H, W] -> [B]."""
        return -self.mean_bound(log_weights(self, x, self.m * self.k))

    def mean_bound(self, log_w: Tensor) -> Tensor:
        """Return the mean of the bounds of m sets of k draws: [m k, B] -> [B]."""
        return iwae_bound(log_w.unflatten(0, (self.m, self.k)).transpose(0, 1)).mean(0)


class PIWAE(MIWAE):
    """PIWAE: the encoder climbs the bound of MIWAE, the decoder the tighter one of all ``m k`` draws."""

    paper: ClassVar[str] = "Rainforth et al. 2018 (PIWAE)"

    def parameter_groups(self) -> Mapping[str, Iterable[Parameter]]:
        """Return the decoder's weights and the encoder's."""
        return {
            "decoder": [*self.decoder.parameters(), *self.scale.parameters()],
            "encoder": self.encoder.parameters(),
        }

    def losses(self, batch: Batch, progress: float) -> Mapping[str, Loss]:
        """Return minus the bound of all draws for the decoder, minus MIWAE's for the encoder, in nats: [B] each."""
        log_w = log_weights(self, batch.x, self.m * self.k)
        return {"decoder": -iwae_bound(log_w), "encoder": -self.mean_bound(log_w)}


class CIWAE(lvmbench.VAE):
    """CIWAE: ``beta`` of the ELBO and 1 - beta of the importance-weighted bound of the same ``k`` draws."""

    paper: ClassVar[str] = "Rainforth et al. 2018 (CIWAE)"

    def __init__(
        self,
        schema: Schema,
        *,
        beta: Annotated[float, Ge(0), Le(1)] = 0.05,
        k: Annotated[int, Ge(1)] = 64,
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        self.beta, self.k = beta, k

    def loss(self, x: Tensor) -> Loss:
        """Return -[beta ELBO + (1 - beta) L_k] in nats: [B, C, H, W] -> [B]."""
        log_w = log_weights(self, x, self.k)
        return {
            "weighted -elbo": -self.beta * elbo(log_w),
            "weighted -bound": -(1 - self.beta) * iwae_bound(log_w),
        }


def _held(q: Distribution) -> Distribution:
    """Return the same diagonal Gaussian, through whose parameters no gradient goes."""
    held = Normal(q.mean.detach(), q.stddev.detach(), validate_args=False)
    return Independent(held, 1, validate_args=False)
