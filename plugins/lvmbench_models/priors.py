"""VAEs whose prior is learned: a mixture of posteriors, or a mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal
from torch.nn.functional import softplus

import lvmbench
from lvmbench import Loss, Schema, Split, expected, weigher
from lvmbench_models.mixture import fit_mixture

CODES = 10_000  # training pictures whose codes a mixture starts from
CHUNK = 256  # of them, encoded at one time
SIGMA_FLOOR = 1e-3  # a component narrower than this has a density that grows without end


class VampVAE(lvmbench.VAE):
    """VampPrior: p(z) is the mean of the posteriors of ``pseudo_inputs`` pictures, which are learned.

    They begin as training pictures.
    """

    paper: ClassVar[str] = "Tomczak & Welling 2018, eq. 9"

    def __init__(self, schema: Schema, *, pseudo_inputs: Annotated[int, Ge(1)] = 500, **options: Any) -> None:
        super().__init__(schema, **options)
        self.pseudo_inputs = nn.Parameter(torch.rand(pseudo_inputs, *schema.shape))

    def start(self, train: Split) -> None:
        """Take training pictures as the first pseudo-inputs."""
        super().start(train)
        rows = torch.randint(len(train), self.pseudo_inputs.shape[:1])
        with torch.no_grad():
            self.pseudo_inputs.copy_(expected(self.schema, train.images[rows]))

    def prior(self) -> Distribution:
        """Return p(z) = (1/K) sum_k q(z|u_k): batch [], event [D]."""
        u = self.pseudo_inputs.clamp(0, 1)
        components = Categorical(logits=u.new_zeros(len(u)), validate_args=False)
        return MixtureSameFamily(components, self.posterior(u), validate_args=False)

    def loss(self, x: Tensor) -> Loss:
        """Return -log p(x|z) and log q(z|x) - log p(z) at one draw, in nats: [B, C, H, W] -> [B] each."""
        w = weigher(self, x)(1)
        return {"distortion": -w.log_likelihood[0], "rate": (w.log_posterior - w.log_prior)[0]}


class VaDE(lvmbench.VAE):
    """VaDE: p(z) is a mixture of Gaussians, of which a picture's cluster is one.

    For the share ``pretrain`` of the steps it is a plain autoencoder; the mixture is then fitted to the codes
    of the training pictures, and from there all of it is learned together.
    """

    paper: ClassVar[str] = "Jiang et al. 2017, eq. 9-12 and 16"

    def __init__(
        self,
        schema: Schema,
        *,
        components: Annotated[int, Ge(1)] = 10,
        pretrain: Annotated[float, Ge(0), Lt(1)] = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        self.pretrain = self.settled = pretrain
        self.pretrains = pretrain > 0
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, self.latent_dim))
        self.raw_scales = nn.Parameter(_unsoftplus(torch.ones(components, self.latent_dim)))

    def milestones(self) -> Mapping[float, Callable[[Split], None]]:
        """Return what ends the pretraining."""
        return {self.pretrain: self.place}

    @torch.no_grad()
    def place(self, train: Split) -> None:
        """Fit the mixture to the codes of training pictures."""
        self.pretrains = False
        chunks = train.images[:CODES].to(self.logits.device).split(CHUNK)
        z = torch.cat([self.encode(expected(self.schema, images)) for images in chunks])
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        found = fit_mixture(z, len(self.logits), generator)
        self.logits.copy_(found.log_weights)
        self.means.copy_(found.means)
        self.raw_scales.copy_(_unsoftplus(found.variances.sqrt() - SIGMA_FLOOR))

    def prior(self) -> Distribution:
        """Return p(z) = sum_c pi_c N(mu_c, diag sigma_c²): batch [], event [D]."""
        return MixtureSameFamily(self._categories(), self._components(), validate_args=False)

    def loss(self, x: Tensor) -> Loss:
        """Return -log p(x|z) + KL(q(c|x) || pi) + E_c KL(q(z|x) || p(z|c)) in nats: [B, C, H, W] -> [B] each.

        While it pretrains, return -log p(x|mu(x)) alone.
        """
        if self.training and self.pretrains:
            return {"distortion": -self.decode(self.encode(x)).log_prob(x)}
        q = self.posterior(x)
        z = q.rsample()
        log_shares = self.log_shares(z)
        shares = log_shares.exp()
        log_pi = self.logits.log_softmax(0)
        return {
            "distortion": -self.decode(z).log_prob(x),
            "rate of the cluster": (shares * (log_shares - log_pi)).sum(1),
            "rate within the cluster": (shares * self._rates(q.mean, q.stddev)).sum(1),
        }

    def log_shares(self, z: Tensor) -> Tensor:
        """Return log p(c|z), in nats: [B, D] -> [B, C]."""
        joint: Tensor = self._components().log_prob(z[:, None]) + self.logits
        return joint.log_softmax(1)

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``cluster`` is p(c|z) at the posterior mean."""
        return {**super().views(), "cluster": lambda x: self.log_shares(self.encode(x)).exp()}

    def _rates(self, mean: Tensor, scale: Tensor) -> Tensor:
        """Return KL(q(z|x) || p(z|c)) of every component: [B, D] twice -> [B, C]."""
        p = self._components().base_dist
        ratio = (scale[:, None] / p.scale).square()
        shift = ((mean[:, None] - p.loc) / p.scale).square()
        return 0.5 * (ratio + shift - 1 - ratio.log()).sum(-1)

    def _categories(self) -> Categorical:
        return Categorical(logits=self.logits, validate_args=False)

    def _components(self) -> Independent[Normal]:
        scales = softplus(self.raw_scales) + SIGMA_FLOOR
        return Independent(Normal(self.means, scales, validate_args=False), 1, validate_args=False)


def _unsoftplus(value: Tensor) -> Tensor:
    """Return the numbers whose softplus these are."""
    return value.clamp(min=SIGMA_FLOOR).expm1().log()
