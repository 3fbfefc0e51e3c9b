"""One quantity, log w = log p(x|z) + log p(z) - log q(z|x); everything else is a way to average it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from lvmbench.protocols import HasLogWeights, HasWeigher

VALUES = 2**20  # of pixels that a core decodes at once: fewer cost a call each, more only memory
GPU_VALUES = 2**28
GPU_ROWS = 2**16
COPIES = 16  # of a picture that its decoder's layers may take up together


class Latent(Protocol):
    """A model with a prior, a posterior and a decoder."""

    def prior(self) -> Distribution:
        """Return p(z)."""
        ...

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z|x)."""
        ...

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z)."""
        ...


@dataclass(frozen=True)
class Weights:
    """The terms of log w for K draws, in nats: each [K, B]."""

    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor

    @property
    def log_w(self) -> Tensor:
        """Return log p(x|z) + log p(z) - log q(z|x): [K, B]."""
        return self.log_likelihood + self.log_prior - self.log_posterior


def draw(q: Distribution, k: int) -> Tensor:
    """Return k draws of z, differentiable where q allows: -> [K, B, D]."""
    return q.rsample((k,)) if q.has_rsample else q.sample((k,))


def log_density(p: Distribution, z: Tensor) -> Tensor:
    """Return log p(z) in nats, of independent Gaussians in half the passes that torch takes: [..., D] -> [...]."""
    if type(p) is not Independent or type(p.base_dist) is not Normal or len(p.event_shape) != 1:
        return p.log_prob(z)
    mean, scale = p.base_dist.loc, p.base_dist.scale
    # log N = -|(z - mu) / s|² / 2 - sum_d log s_d - D log sqrt(2 pi); what needs no z is not done for each draw
    apart = (z - mean) * scale.reciprocal()
    constant = scale.log().sum(-1) + 0.5 * math.log(2 * math.pi) * z.shape[-1]
    return -0.5 * apart.square().sum(-1) - constant


def weigher(model: Latent | HasWeigher, x: Tensor) -> Callable[[int], Weights]:
    """Return a function from k to the terms of log w of k draws, in nats: [B, C, H, W] -> (k -> [K, B] each).

    x is encoded once, and the prior made once, however many draws are asked for.
    """
    if isinstance(model, HasWeigher):
        return model.weigher(x)
    p, q = model.prior(), model.posterior(x)

    def weigh(k: int) -> Weights:
        z = draw(q, k)
        return Weights(model.decode(z).log_prob(x), log_density(p, z), log_density(q, z))

    return weigh


def log_weights(model: Latent | HasWeigher | HasLogWeights, x: Tensor, k: int) -> Tensor:
    """Return log w of k draws z ~ q(z|x), in nats: [B, C, H, W] -> [K, B]."""
    if isinstance(model, HasLogWeights):
        return model.log_weights(x, k)
    return weigher(model, x)(k).log_w


def elbo(log_w: Tensor) -> Tensor:
    """Return the mean of log w, a lower bound on log p(x), in nats (Kingma & Welling 2014): [K, B] -> [B]."""
    return log_w.mean(dim=0)


def iwae_bound(log_w: Tensor) -> Tensor:
    """Return the log of the mean of w, tighter as K grows, in nats (Burda et al. 2016, eq. 8): [K, B] -> [B]."""
    return log_w.logsumexp(dim=0) - math.log(len(log_w))


def rate_distortion(model: Latent, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(q(z|x) || p(z)) and -log p(x|z) at one draw, in nats (Alemi et al. 2018): [B], [B]."""
    q = model.posterior(x)
    return kl_divergence(q, model.prior()), -model.decode(draw(q, 1)[0]).log_prob(x)


@dataclass(frozen=True)
class Bounds:
    """What K draws say of each picture, in nats: each [N].

    ``rate`` and ``distortion`` are NaN where a model gives only whole log weights.
    """

    elbo: Tensor
    iwae: Tensor
    rate: Tensor
    distortion: Tensor


@torch.no_grad()
def bounds(
    model: Latent | HasWeigher | HasLogWeights, x: Tensor, k: int, max_decoded: int | None = None
) -> Bounds:
    """Return the bounds of each picture from the same k draws: [B, C, H, W] -> [B] each, in nats.

    x is encoded once; draws are decoded ``max_decoded`` pictures at a time, as many as suit the device where None,
    and only sums are kept, so that memory does not grow with k.
    """
    nan = torch.full((len(x),), math.nan, device=x.device)
    chunk = max(1, (max_decoded or decoded_at_once(x)) // len(x))
    weigh = None if isinstance(model, HasLogWeights) else weigher(model, x)
    total, rate, distortion = (torch.zeros(len(x), device=x.device, dtype=torch.float64) for _ in range(3))
    log_sum = torch.full_like(total, -math.inf)
    for start in range(0, k, chunk):
        n = min(chunk, k - start)
        if weigh is None:
            log_w = log_weights(model, x, n)
        else:
            w = weigh(n)
            log_w = w.log_w
            rate += (w.log_posterior - w.log_prior).double().sum(0)
            distortion -= w.log_likelihood.double().sum(0)
        total += log_w.double().sum(0)
        log_sum = torch.logaddexp(log_sum, log_w.double().logsumexp(0))
    parts = (nan, nan) if weigh is None else ((rate / k).float(), (distortion / k).float())
    return Bounds((total / k).float(), (log_sum - math.log(k)).float(), *parts)


def decoded_at_once(x: Tensor) -> int:
    """Return how many pictures of this size keep a device busy, and leave room in its memory: [B, C, H, W]."""
    dims = x.shape[1:].numel()
    if x.device.type != "cuda":
        return max(1, VALUES // dims)
    rows, room = min(GPU_ROWS, GPU_VALUES // dims), _free(x.device) // (COPIES * dims * x.element_size())
    while rows > max(1, room):  # in halves: what another process takes seldom moves a draw
        rows //= 2
    return max(1, rows)


def _free(device: torch.device) -> int:
    """Return the bytes of a GPU that can be had, with those that torch holds back for itself."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
