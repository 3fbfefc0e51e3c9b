"""How far bounds on log p(x) can be trusted: annealed importance sampling, in both directions.

A chain goes from q0(z|x) to p(x, z) over f_b = q0^(1-b) p(x, z)^b, held near each f_b by Hamiltonian Monte
Carlo. Its weight w has mean p(x), so that E[log w] is a lower bound on log p(x) (Neal 2001). On pictures that
the model itself drew, the same kernels in reverse order, from the z that a picture came from, give an upper
bound (bidirectional Monte Carlo, Grosse et al. 2015): what lies between is all that an estimate can err by.

Step sizes are learned on pilot chains and frozen for the chains that count. Learned from those, as in Wu et al.
2017, w would no longer have mean p(x), and the bounds would hold only approximately.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import Tensor
from torch.distributions import Distribution

from lvmbench import Estimate, Evaluation, NotApplicable, bounds, iwae_bound, metric

RADIUS = 4.0  # the temperatures are those of a sigmoid from -RADIUS to RADIUS
# Wu et al. take 10 and 0.65: on a VAE of 32×32 faces that leaves 45 nats between the bounds, this 5 at equal cost
LEAPFROGS = 5
ACCEPTANCE = 0.8
JITTER = 0.2  # trajectories of one length may close into orbits, and a step too long would stay so
PILOTS = 2
GAIN = 0.2  # by how much the log of a step grows for each whole acceptance beyond the one wanted
SPREAD = 64  # draws of q0 that tell how wide it is in each dimension

Start = Literal["posterior", "prior"]
Count = Annotated[int, Ge(1)]

_nats = partial(metric, unit="nats", needs=("density", "decoder"))
_simulated = partial(_nats, better="neither", paper="Grosse et al. 2015, arXiv 1511.02543; Wu et al. 2017")


@_nats(better="higher", paper="Neal 2001, arXiv physics/9803008; Wu et al. 2017, arXiv 1611.04273")
def ais(
    ev: Evaluation, *, steps: Count = 400, chains: Count = 4, rows: Count = 32, start: Start = "posterior"
) -> Estimate:
    """Return the annealed lower bound on log p(x) of the first test rows: nats."""
    return Estimate.of_rows(ev.shared(_lower, steps=steps, chains=chains, rows=rows, start=start))


@_simulated()
def ais_lower(
    ev: Evaluation, *, steps: Count = 400, chains: Count = 4, rows: Count = 32, start: Start = "posterior"
) -> Estimate:
    """Return the annealed lower bound on log p(x) of pictures that the model drew: nats."""
    return _mean(ev.shared(_sandwich, steps=steps, chains=chains, rows=rows, start=start).lower)


@_simulated()
def ais_upper(
    ev: Evaluation, *, steps: Count = 400, chains: Count = 4, rows: Count = 32, start: Start = "posterior"
) -> Estimate:
    """Return the annealed upper bound on log p(x) of the pictures of ``ais_lower``: nats."""
    return _mean(ev.shared(_sandwich, steps=steps, chains=chains, rows=rows, start=start).upper)


@_simulated()
def ais_importance(
    ev: Evaluation, *, steps: Count = 400, chains: Count = 4, rows: Count = 32, start: Start = "posterior"
) -> Estimate:
    """Return the importance-weighted bound, at the budget's draws, of the pictures of ``ais_lower``: nats."""
    return _mean(ev.shared(_sandwich, steps=steps, chains=chains, rows=rows, start=start).importance)


@dataclass(frozen=True)
class Sandwich:
    """What is known of log p(x) of pictures that the model drew, in nats: each [N]."""

    lower: Tensor
    importance: Tensor
    upper: Tensor


def _mean(simulated: Tensor) -> Estimate:
    # without rows: the pictures are the model's own, so that nothing pairs with those of another model
    return Estimate(float(simulated.double().mean()), n=len(simulated))


@torch.no_grad()
def _lower(ev: Evaluation, steps: int, chains: int, rows: int, start: Start) -> Tensor:
    betas = temperatures(steps)
    paths = [path(ev.model, x, start) for x in ev.batches("test", rows)]
    return torch.cat([forward(p, betas, tune(p, betas), chains) for p in paths])


@torch.no_grad()
def _sandwich(ev: Evaluation, steps: int, chains: int, rows: int, start: Start) -> Sandwich:
    z = ev.model.prior().sample((rows,))
    x = ev.model.decode(z).sample()
    p, betas = path(ev.model, x, start), temperatures(steps)
    kernels = tune(p, betas)
    importance = bounds(ev.model, x, ev.budget.draws).iwae
    return Sandwich(forward(p, betas, kernels, chains), importance, backward(p, betas, kernels, z, chains))


def temperatures(steps: int) -> list[float]:
    """Return inverse temperatures from 0 to 1, densest at both ends: [steps + 1]."""
    s = torch.linspace(-RADIUS, RADIUS, steps + 1, dtype=torch.float64).sigmoid()
    return [float(b) for b in (s - s[0]) / (s[-1] - s[0])]


def forward(p: Path, betas: Sequence[float], kernels: Tensor, chains: int) -> Tensor:
    """Return log (1/K) sum_k w_k of chains from q0, a lower bound on log p(x) in nats: -> [B]."""
    return iwae_bound(anneal(p, betas, kernels, p.draw(chains)))


def backward(p: Path, betas: Sequence[float], kernels: Tensor, z: Tensor, chains: int) -> Tensor:
    """Return -log (1/K) sum_k 1/w_k of chains from the z that made x, an upper bound in nats: [B, D] -> [B]."""
    # z ~ p(z|x), so that each 1/w_k has mean 1/p(x), and their average too although they share z: by
    # Jensen's inequality E[-log average] >= -log E[average] = log p(x)
    return -iwae_bound(anneal(p, betas[::-1], kernels.flip(0), z.expand(chains, *z.shape)))


@dataclass(frozen=True)
class Path:
    """The densities from q0(z|x) to p(x, z), for the pictures x [B, C, H, W]."""

    model: Any
    x: Tensor
    start: Distribution
    prior: Distribution

    def draw(self, k: int) -> Tensor:
        """Return k draws of q0 for each picture: -> [K, B, D]."""
        return self.start.sample((k,) if self.start.batch_shape else (k, len(self.x)))

    @torch.enable_grad()
    def at(self, z: Tensor) -> Point:
        """Return both ends' log-densities and their gradients: [K, B, D] -> nats."""
        z = z.detach().requires_grad_()
        base = self.start.log_prob(z)
        joint = self.model.decode(z).log_prob(self.x) + self.prior.log_prob(z)
        # to z alone: the parameters are left without .grad
        slopes = [torch.autograd.grad(end.sum(), z)[0] for end in (base, joint)]
        return Point(z.detach(), base.detach(), joint.detach(), *slopes)


@dataclass(frozen=True)
class Point:
    """Where chains are: z [K, B, D], log q0(z|x) and log p(x, z) [K, B] in nats, their gradients [K, B, D].

    With both ends at hand, the next temperature asks nothing of the decoder.
    """

    z: Tensor
    base: Tensor
    joint: Tensor
    base_slope: Tensor
    joint_slope: Tensor

    def log_f(self, beta: float) -> Tensor:
        """Return log f_b(z), in nats: [K, B]."""
        return torch.lerp(self.base, self.joint, beta)

    def slope(self, beta: float) -> Tensor:
        """Return the gradient of log f_b at z: [K, B, D]."""
        return torch.lerp(self.base_slope, self.joint_slope, beta)

    def where(self, accept: Tensor, other: Point) -> Point:
        """Return this point for chains that accept it, the other for the rest: bool [K, B]."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Point(*(torch.where(accept if a.dim() == 2 else accept[..., None], a, b) for a, b in pairs))


def path(model: Any, x: Tensor, start: Start) -> Path:
    """Return the path for pictures: [B, C, H, W].

    Raises:
        NotApplicable: where Hamiltonian dynamics cannot move z.
    """
    prior = model.prior()
    p = Path(model, x, model.posterior(x) if start == "posterior" else prior, prior)
    for name, end in {"prior": prior, start: p.start}.items():
        _require_real(name, end)
        _require_slope(name, end.log_prob, p.draw(1))
    _require_slope("decoder", lambda z: model.decode(z).log_prob(x), p.draw(1))
    return p


def _require_real(name: str, end: Distribution) -> None:
    z = end.sample()
    try:
        support = end.support
        real = support is not None and bool(support.check(100 * torch.randn(z.shape, device=z.device)).all())
    except NotImplementedError:  # a distribution need not tell its support
        support, real = None, end.has_rsample
    if not real:
        told = f"the {name} of z is discrete or bounded (support: {support or 'unknown'})"
        raise NotApplicable(f"{told}, and annealing moves z anywhere along a gradient")


@torch.enable_grad()
def _require_slope(name: str, log_density: Callable[[Tensor], Tensor], z: Tensor) -> None:
    z = z.detach().requires_grad_()
    out = log_density(z).sum()
    if not out.requires_grad or torch.autograd.grad(out, z, allow_unused=True)[0] is None:
        raise NotApplicable(f"the log-density of the {name} has no gradient in z, which annealing follows")


def tune(p: Path, betas: Sequence[float]) -> Tensor:
    """Return the step sizes that pilot chains learned, for the temperatures between both ends: -> [T - 1, B, D].

    They are as wide in each dimension as q0, times a number for each picture that aims at ``ACCEPTANCE``.
    """
    width = p.draw(SPREAD).std(0)
    point = p.at(p.draw(PILOTS))
    log_step = torch.zeros_like(width[:, :1])
    kernels = width.new_empty(len(betas) - 2, *width.shape)
    for kernel, beta in zip(kernels, betas[1:-1], strict=True):
        kernel.copy_(log_step.exp() * width)
        point, accepted = move(p, point, beta, kernel)
        log_step = log_step + GAIN * (accepted.mean(0)[:, None] - ACCEPTANCE)
    return kernels


def anneal(p: Path, betas: Sequence[float], kernels: Tensor, z: Tensor) -> Tensor:
    """Return the sum along a path of log f_next(z) - log f_now(z), in nats: [K, B, D] -> [K, B].

    It is log w from q0 to p(x, z), and -log w on the way back.
    """
    point = p.at(z)
    log_w = torch.zeros_like(point.joint, dtype=torch.float64)
    for i, (now, after) in enumerate(pairwise(betas)):
        log_w += (after - now) * (point.joint.double() - point.base.double())
        if i < len(kernels):
            point, _ = move(p, point, after, kernels[i])
    return log_w


def move(p: Path, point: Point, beta: float, step: Tensor) -> tuple[Point, Tensor]:
    """Return where a transition that leaves f_b invariant leads, and how likely it was accepted: -> [K, B]."""
    momentum = torch.randn_like(point.z)
    jitter = 1 + JITTER * (2 * torch.rand_like(point.z[..., :1]) - 1)
    new, end = leapfrog(p, point, momentum, beta, step * jitter)
    gained = new.log_f(beta) - point.log_f(beta)
    log_ratio = gained - 0.5 * (end.square().sum(-1) - momentum.square().sum(-1))
    accept = torch.rand_like(log_ratio).log() < log_ratio  # never where the dynamics overflowed to NaN
    return new.where(accept, point), log_ratio.clamp(max=0).exp().nan_to_num(0)


def leapfrog(p: Path, point: Point, momentum: Tensor, beta: float, step: Tensor) -> tuple[Point, Tensor]:
    """Return where Hamiltonian dynamics leads in ``LEAPFROGS`` steps: [K, B, D] -> point, momentum [K, B, D]."""
    momentum = momentum + 0.5 * step * point.slope(beta)
    for i in range(LEAPFROGS):
        # a momentum that overflowed stays so and is refused; z goes on, for decoders that will not take NaN
        point = p.at((point.z + step * momentum).nan_to_num(0, 0, 0))
        momentum = momentum + (1.0 if i < LEAPFROGS - 1 else 0.5) * step * point.slope(beta)
    return point, momentum
