"""Mixtures of diagonal Gaussians: EM for rows of any kind, and the model of pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from lvmbench import Budget, LvmbenchError, NotApplicable, Schema, Split, gaussian
from lvmbench_models.onehot import FlatOneHot
from lvmbench_models.rows import GREY_LEVEL, Square, height, rows_of, square_of, take
from lvmbench_models.spectrum import Chunks

ITERATIONS = 100
TOLERANCE = 1e-3  # nats a row: the iteration that gains less is the last
PICTURE_TOLERANCE = 0.1  # nats a picture, whose log-likelihood is some thousands
FLOOR = 1e-6  # of a variance
EMPTY = 0.5  # rows: a component that explains less has none of its own

Explain = Callable[[Tensor], tuple[Tensor, Tensor]]  # rows [n, d] -> responsibilities [n, C], log p(x) [n]


@dataclass(frozen=True)
class Mixture:
    """p(x) = sum_c pi_c N(x; mu_c, diag s_c²): ``log_weights`` [C], ``means`` and ``variances`` [C, d]."""

    log_weights: Tensor
    means: Tensor
    variances: Tensor

    def log_joint(self, x: Tensor, square: Square = torch.square) -> Tensor:
        """Return log pi_c N(x; mu_c, diag s_c²) in nats, of double precision: [N, d] -> [N, C].

        Where x is a mean E[x] over a noise, and ``square`` its E[x²], it is the mean of that logarithm.
        """
        x, means, precision = x.double(), self.means.double(), 1 / self.variances.double()
        # sum_i (x_i - mu_ci)² / s_ci², by products of matrices: in single precision they would not cancel
        constant = (means.square() * precision).sum(1)
        distance = square(x) @ precision.T - 2 * x @ (means * precision).T + constant
        return self.log_weights.double() - 0.5 * (distance + (2 * math.pi / precision).log().sum(1))


def fit_mixture(
    rows: Tensor | Chunks,
    components: int,
    generator: torch.Generator,
    *,
    floor: float = FLOOR,
    square: Square = torch.square,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
) -> Mixture:
    """Return a mixture of maximum likelihood by EM from k-means++, of double precision: [N, d] or chunks of it.

    No variance is under ``floor``. No component is empty: one that would be starts anew at the row that the
    mixture explains worst. Rows may be means E[x] over a noise, ``square`` giving their E[x²].
    """
    chunks = (lambda: iter(rows.split(height(rows.shape[1])))) if isinstance(rows, Tensor) else rows
    mixture, before = start(chunks, components, generator, floor, square), -math.inf
    for _ in range(iterations):
        found = moments(chunks, lambda x: _responsibilities(mixture, x, square), square)  # noqa: B023
        mixture, log_p = maximised(chunks, found, floor), float(found.log_p.mean())
        if found.empty.any():
            before = -math.inf  # what starts anew may first lose
        elif log_p - before < tolerance:
            break
        else:
            before = log_p
    return mixture


def start(
    chunks: Chunks, components: int, generator: torch.Generator, floor: float, square: Square
) -> Mixture:
    """Return the mixture of the rows nearest to each of the centres that k-means++ draws."""
    centres = plus_plus(chunks, components, generator)
    return maximised(chunks, moments(chunks, lambda x: _nearest(centres, x), square), floor)


def _responsibilities(mixture: Mixture, x: Tensor, square: Square) -> tuple[Tensor, Tensor]:
    joint = mixture.log_joint(x, square)
    return joint.softmax(1), joint.logsumexp(1)


def _nearest(centres: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    distance, nearest = torch.cdist(x, centres).min(1)
    return one_hot(nearest, len(centres)).double(), -distance


def plus_plus(chunks: Chunks, components: int, generator: torch.Generator) -> Tensor:
    """Return rows, each drawn by its squared distance to those before it: -> [C, d].

    Arthur & Vassilvitskii 2007, section 2.2.
    """
    n = sum(len(x) for x in chunks())
    if components > n:
        raise LvmbenchError(f"mixture: components={components} must not be over the {n} rows.")
    centres = take(chunks, torch.randint(n, (1,), generator=generator))
    nearest = torch.full((n,), math.inf, dtype=torch.float64)
    for uniform in torch.rand(components - 1, generator=generator, dtype=torch.float64):
        distance = torch.cat([(x - centres[-1]).square().sum(1) for x in chunks()])
        nearest = torch.minimum(nearest, distance.cpu())
        mass = nearest.cumsum(0)
        drawn = torch.searchsorted(mass, uniform * mass[-1:])
        centres = torch.cat([centres, take(chunks, drawn)])
    return centres


@dataclass(frozen=True)
class Moments:
    """What each component explains: rows [C], sums of x and of x² [C, d]; and log p(x) of every row [N]."""

    rows: Tensor
    sums: Tensor
    squares: Tensor
    log_p: Tensor

    @property
    def empty(self) -> Tensor:
        """Whether a component explains too little to have moments: [C]."""
        return self.rows < EMPTY


def moments(chunks: Chunks, explain: Explain, square: Square) -> Moments:
    """Return what the components explain of all rows: chunks of [n, d]."""
    rows = sums = squares = torch.zeros((), dtype=torch.float64)
    log_p = []
    for x in (x.double() for x in chunks()):
        responsible, told = explain(x)
        rows = rows + responsible.sum(0)
        sums = sums + responsible.T @ x
        squares = squares + responsible.T @ square(x)
        log_p.append(told)
    return Moments(rows, sums, squares, torch.cat(log_p))


def maximised(chunks: Chunks, found: Moments, floor: float) -> Mixture:
    """Return the mixture of these moments (Bishop 2006, eq. 9.24-9.26), no component of which is empty."""
    live, rows = ~found.empty, found.rows.clamp(min=EMPTY)
    means = found.sums / rows[:, None]
    variances = (found.squares / rows[:, None] - means.square()).clamp(min=floor)
    if found.empty.any():
        worst = found.log_p.topk(int(found.empty.sum()), largest=False).indices
        means[found.empty] = take(chunks, worst)
        variances[found.empty] = rows[live] @ variances[live] / rows[live].sum()
    return Mixture((rows / rows.sum()).log(), means, variances)


class GaussianMixture(nn.Module):
    """Mixture of diagonal Gaussians, fitted by EM: z is the component, log p(x) is exact."""

    paper: ClassVar[str] = "Dempster, Laird & Rubin 1977, section 4.3; Bishop 2006, section 9.2"
    decoded_view: ClassVar[str] = "one-hot"  # responsibilities are a continuous code, z is not

    def __init__(self, schema: Schema, *, components: Annotated[int, Ge(1)] = 16) -> None:
        super().__init__()
        self.schema, self.components = schema, components
        self.latents = 1  # one categorical variable
        self.log_pi: Tensor
        self.means: Tensor
        self.variances: Tensor
        self.register_buffer("log_pi", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, schema.dims))
        self.register_buffer("variances", torch.ones(components, schema.dims))

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Take EM from the centres of k-means++ to where it gains nothing more."""
        rows, generator = rows_of(self.schema, train, self.means.device), torch.Generator().manual_seed(seed)
        found = fit_mixture(
            rows,
            self.components,
            generator,
            floor=GREY_LEVEL**2,
            square=square_of(self.schema),
            tolerance=PICTURE_TOLERANCE,
        )
        self.log_pi, self.means, self.variances = (
            t.float() for t in (found.log_weights, found.means, found.variances)
        )

    def prior(self) -> Distribution:
        """Return p(z), the weights of the components: batch [], event [C]."""
        return FlatOneHot(self.log_pi[None], validate_args=False)

    def posterior(self, x: Tensor) -> Distribution:
        """Return p(z|x), exactly: [B, C, H, W] -> batch [B], event [C]."""
        self._require_density()
        return self._posterior(x)

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) = N(z' mu, z' s²), also of a soft z: [..., K] -> batch [...], event [C, H, W]."""
        self._require_density()
        mean, variance = (
            (z @ t).reshape(*z.shape[:-1], *self.schema.shape) for t in (self.means, self.variances)
        )
        return gaussian(mean, variance.sqrt())

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log sum_c pi_c N(x; mu_c, diag s_c²) in nats: [B, C, H, W] -> [B]."""
        self._require_density()
        return self._mixture.log_joint(x.flatten(1)).logsumexp(1).float()

    def encode(self, x: Tensor) -> Tensor:
        """Return the responsibilities, the mean of p(z|x): [B, C, H, W] -> [B, C]."""
        return self._posterior(x).mean

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return codes beside the responsibilities: ``one-hot`` the likeliest component, ``sample`` a drawn one."""
        return {"one-hot": lambda x: self._posterior(x).mode, "sample": lambda x: self._posterior(x).sample()}

    @property
    def _mixture(self) -> Mixture:
        return Mixture(self.log_pi, self.means, self.variances)

    def _posterior(self, x: Tensor) -> FlatOneHot:
        # normalised before it loses precision: log p(x, z) may be far from 0 where log p(z|x) is not
        logits = self._mixture.log_joint(x.flatten(1)).log_softmax(1).float()
        return FlatOneHot(logits[:, None], validate_args=False)

    def _require_density(self) -> None:
        if self.schema.pixels != "gaussian":
            raise NotApplicable("a mixture of Gaussians has a density of gaussian pixels only")
