"""VAEs that weigh the total correlation of z, KL(q(z) || prod_d q(z_d)): how far its dimensions hang together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import Parameter
from torch.nn.functional import softplus

import lvmbench
from lvmbench import Batch, Loss, ParameterGroup, Schema, Split

Estimator = Literal["mws", "mss"]
SLOPE = 0.2  # of the discriminator's leaky units
DISCRIMINATOR = (1000,) * 6


class BetaTCVAE(lvmbench.VAE):
    """beta-TCVAE: the rate taken apart into information, total correlation and the rest, each with its weight.

    q(z) is estimated from the batch by weighted (``mws``) or stratified (``mss``) sampling of the training
    pictures. Either serves to train by; a total correlation to be reported needs all of the data.
    """

    paper: ClassVar[str] = "Chen et al. 2018, eq. 4, appendix C"

    def __init__(
        self,
        schema: Schema,
        *,
        alpha: Annotated[float, Ge(0)] = 1.0,
        beta: Annotated[float, Ge(0)] = 6.0,
        gamma: Annotated[float, Ge(0)] = 1.0,
        estimator: Estimator = "mws",
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        self.alpha, self.beta, self.gamma, self.estimator = alpha, beta, gamma, estimator
        self.rows: Tensor
        self.register_buffer("rows", torch.ones((), dtype=torch.int64))

    def start(self, train: Split) -> None:
        """Take note of the number of training pictures, of which a batch is a sample."""
        super().start(train)
        self.rows.fill_(len(train))

    def loss(self, x: Tensor) -> Loss:
        """Return the weighted parts of -ELBO at one draw, in nats: [B, C, H, W] -> [B] each."""
        q = self.posterior(x)
        z = q.rsample()
        # log q(z_id | x_j): [B, B, D]
        each = Normal(q.mean, q.stddev, validate_args=False).log_prob(z[:, None])
        log_weights = self._log_weights(len(x))
        joint = (each.sum(2) + log_weights).logsumexp(1)
        product = (each + log_weights[..., None]).logsumexp(1).sum(1)
        return {
            "distortion": -self.decode(z).log_prob(x),
            # I(z; n) = E[log q(z|n) - log q(z)]
            "weighted information": self.alpha * (q.log_prob(z) - joint),
            # TC = E[log q(z) - sum_d log q(z_d)]
            "weighted total correlation": self.beta * (joint - product),
            # sum_d KL(q(z_d) || p(z_d))
            "weighted dimension-wise rate": self.gamma * (product - self.prior().log_prob(z)),
        }

    def _log_weights(self, batch: int) -> Tensor:
        """Return the log weight of the posterior of picture j in the estimate of q(z_i): [B, B]."""
        rows = self.rows.clamp(min=batch)
        weights = weighted if self.estimator == "mws" else stratified
        return weights(batch, rows).log()


def weighted(batch: int, rows: Tensor) -> Tensor:
    """Return 1/(N B) everywhere: minibatch weighted sampling (Chen et al. 2018, eq. S3): [] -> [B, B]."""
    return (1 / (rows * batch)).expand(batch, batch)


def stratified(batch: int, rows: Tensor) -> Tensor:
    """Return the weights of minibatch stratified sampling (Chen et al. 2018, appendix C.2): [] -> [B, B].

    A picture is sure to be in its own batch, and weighs 1/N there; of the M = B - 1 others all but one weigh
    1/M, and that one (N - M)/(N M), so that a row sums to 1.
    """
    others = batch - 1
    weights = torch.full((batch, batch), 1 / max(others, 1), device=rows.device)
    weights = weights + torch.eye(batch, device=rows.device) * (1 / rows - weights)
    last = torch.eye(batch, device=rows.device).roll(1, dims=1)  # for row i it is picture i + 1
    return weights + last * ((rows - others) / (rows * max(others, 1)) - weights) if others else weights


class FactorVAE(lvmbench.VAE):
    """FactorVAE: the total correlation of z as a discriminator sees it, which tells z from z with shuffled dimensions.

    The second batch of the paper's algorithm is a second draw of z for the same pictures.
    """

    paper: ClassVar[str] = "Kim & Mnih 2018, eq. 2 and 3, algorithm 2"

    def __init__(self, schema: Schema, *, gamma: Annotated[float, Ge(0)] = 10.0, **options: Any) -> None:
        super().__init__(schema, **options)
        self.gamma = gamma
        widths = (self.latent_dim, *DISCRIMINATOR)
        layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.LeakyReLU(SLOPE))]
        self.discriminator = nn.Sequential(*layers, nn.Linear(DISCRIMINATOR[-1], 1), nn.Flatten(0))

    def parameter_groups(self) -> Mapping[str, Iterable[Parameter] | ParameterGroup]:
        """Return the weights of the VAE and those of the discriminator."""
        vae = [*self.encoder.parameters(), *self.decoder.parameters(), *self.scale.parameters()]
        return {
            "vae": vae,
            "discriminator": ParameterGroup(self.discriminator.parameters(), betas=(0.5, 0.9)),
        }

    def losses(self, batch: Batch, progress: float) -> Mapping[str, Loss]:
        """Return the VAE's loss with gamma TC, and the discriminator's cross-entropy, in nats: [B] each."""
        q = self.posterior(batch.x)
        z, other = q.rsample(), q.rsample().detach()
        # log D(z) - log (1 - D(z)) estimates log q(z) - sum_d log q(z_d)
        vae = {
            "distortion": -self.decode(z).log_prob(batch.x),
            "rate": kl_divergence(q, self.prior()),
            "weighted total correlation": self.gamma * self.discriminator(z),
        }
        real, shuffled = self.discriminator(z.detach()), self.discriminator(permuted(other))
        return {"vae": vae, "discriminator": (softplus(-real) + softplus(shuffled)) / 2}


def permuted(z: Tensor) -> Tensor:
    """Return z with each dimension shuffled over the batch by itself: [B, D] -> [B, D]."""
    return z.gather(0, torch.rand_like(z).argsort(0))
