"""What the codes of all pictures together look like: the aggregate posterior q(z) = (1/N) sum_n q(z|x_n).

N is all test rows, never a batch, whose estimate would saturate at the log of its size. One z is drawn for
each row, and with it E[KL(q(z|x) || p(z))] falls into three parts (Chen et al. 2018, eq. 2), row by row:
index-code mutual information, total correlation and dimension-wise KL. A row's term is also its influence on
the mean: to first order, that q(z) moves with the rows as well changes none of the three.

Where z tells its row from all others, q(z) at a code is that row's own posterior over N, and says nothing of the
aggregate: the information stops at log N, and what is above it would be taken for total correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from lvmbench import Estimate, Evaluation, LvmbenchError, NotApplicable, metric
from lvmbench_metrics.codes import alive, finite_codes, single_codes
from lvmbench_metrics.influence import moved

CELLS = 2**19  # densities of one dimension in memory at one time
SATURATED = 2.0  # nats below log N: nearer, N rows are too few to show q(z)
SINGULAR = 1e-10  # least eigenvalue of a correlation matrix that is still one of full rank


@metric(
    better="lower",
    unit="nats",
    needs=("density",),
    paper="Chen et al. 2018, arXiv 1802.04942, eq. 2",
    family="latents",
    main=False,
)
def total_correlation(ev: Evaluation) -> Estimate:
    """Return KL(q(z) || prod_d q(z_d)), how far the dimensions of z hang together: nats."""
    terms = ev.shared(_terms)
    told = float((terms.own - terms.joint).mean())
    if told > math.log(len(terms.own)) - SATURATED:
        raise NotApplicable(
            f"z tells {len(terms.own)} rows apart: they are too few to show the aggregate q(z)"
        )
    return Estimate.of_rows(terms.joint - terms.product)


@metric(
    better="neither",
    unit="nats",
    needs=("density",),
    paper="Hoffman & Johnson 2016; Chen et al. 2018, arXiv 1802.04942, eq. 2",
    family="latents",
    main=False,
)
def index_code_mi(ev: Evaluation) -> Estimate:
    """Return E[KL(q(z|x_n) || q(z))], how well z tells which of N rows it came from: nats.

    It cannot exceed log N: a value near it says only that the rows are told apart, not how much z holds.
    """
    terms = ev.shared(_terms)
    told = Estimate.of_rows(terms.own - terms.joint)
    most = math.log(len(terms.own))
    note = (
        f"at least: {len(terms.own)} rows show at most log N = {most:.2f}"
        if told.value > most - SATURATED
        else ""
    )
    return Estimate(told.value, rows=told.rows, n=told.n, note=note)


@metric(
    better="neither",
    unit="nats",
    needs=("density",),
    paper="Chen et al. 2018, arXiv 1802.04942, eq. 2",
    family="latents",
    main=False,
)
def dimwise_kl(ev: Evaluation) -> Estimate:
    """Return sum_d KL(q(z_d) || p(z_d)), how far each dimension by itself is from its prior: nats."""
    terms = ev.shared(_terms)
    if terms.prior is None:
        raise NotApplicable("the prior is no product of Gaussians over the dimensions")
    return Estimate.of_rows(terms.product - terms.prior)


@metric(
    better="lower",
    unit="nats",
    needs=("codes",),
    bounds=(0, None),
    paper="Locatello et al. 2019, arXiv 1811.12359",
    family="latents",
    main=False,
)
def gaussian_tc(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return the total correlation of a Gaussian with the covariance of the test codes: nats.

    Dimensions that never change in training are left out. D independent dimensions score D (D - 1) / 4N, not 0.
    """
    varies = alive(single_codes(ev, "train", view))
    z = finite_codes(ev, "test", view)[:, varies]
    if not varies.any():
        raise NotApplicable("no dimension of the code ever changes")
    u = (z - z.mean(0)) / z.std(0, correction=0)
    value, precision = gaussian_total_correlation(u.T @ u / len(u))
    # TC = (sum_d log S_dd - log |S|) / 2, and S moves by x x' - S
    influence = (u.square().sum(1) - (u @ precision * u).sum(1)) / 2
    boot = moved(value[None], influence[:, None], ev.weights())[:, 0]
    return Estimate(float(value), replicates=boot, n=len(z))


def gaussian_total_correlation(correlation: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log |R| / 2 in nats, and the inverse of R: [D, D] -> [], [D, D].

    Raises:
        NotApplicable: if a dimension is a weighted sum of others, so that the total correlation has no end.
    """
    if not bool(correlation.isfinite().all()) or torch.linalg.eigvalsh(correlation)[0] < SINGULAR:
        raise NotApplicable("some dimension of the code is a weighted sum of the others")
    return -torch.linalg.slogdet(correlation).logabsdet / 2, torch.linalg.inv(correlation)


@dataclass(frozen=True)
class Terms:
    """Log-densities of one z for each test row, in nats, [N] each: log q(z|x_n), q(z), prod_d q(z_d) and p(z).

    The last is None where the prior is no product.
    """

    own: Tensor
    joint: Tensor
    product: Tensor
    prior: Tensor | None


@torch.no_grad()
def _terms(ev: Evaluation) -> Terms:
    posteriors = [_gaussian(ev.model.posterior(x)) for x in ev.batches("test")]
    mean, scale = (torch.cat([getattr(q, name).double() for q in posteriors]) for name in ("loc", "scale"))
    if not bool(mean.isfinite().all() and scale.isfinite().all()):
        raise LvmbenchError("the posterior of some test rows is not finite.")
    z = mean + scale * torch.randn_like(mean)
    own = Normal(mean, scale, validate_args=False).log_prob(z).sum(1)
    joint, product = mixture_log_density(z, mean, scale)
    prior = ev.model.prior()
    given = prior.log_prob(z).double() if _is_product(prior) else None
    return Terms(own, joint, product, given)


def mixture_log_density(z: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return log q(z) and sum_d log q(z_d), q = (1/N) sum_n N(mean_n, diag scale_n²), in nats.

    z is drawn from q, so that no density of one dimension is too small for a number: [M, D], [N, D] twice -> [M]
    twice.
    """
    centres, inverse = mean.T.contiguous(), (1 / scale).T.contiguous()
    height = inverse / math.sqrt(2 * math.pi)
    found = []
    for some in z.split(max(1, CELLS // len(mean))):
        exponent, product = height.log().sum(0).expand(len(some), -1).clone(), some.new_zeros(len(some))
        for d in range(z.shape[1]):  # one dimension at a time stays in the cache
            own = ((some[:, d, None] - centres[d]) * inverse[d]).square_().mul_(-0.5)
            exponent += own
            product += (own.exp_() @ height[d]).log()
        found.append(torch.stack([exponent.logsumexp(1), product]))
    joint, product = torch.cat(found, dim=1)
    log_n = math.log(len(mean))
    return joint - log_n, product - log_n * z.shape[1]


def _is_product(q: Distribution) -> bool:
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal) and len(q.event_shape) == 1


def _gaussian(q: Distribution) -> Normal:
    """Return the Gaussians of a posterior that is a product of them.

    Raises:
        NotApplicable: if it is not.
    """
    if not _is_product(q):
        raise NotApplicable(
            f"the posterior is no product of Gaussians over the dimensions ({type(q).__name__})"
        )
    return q.base_dist  # type: ignore[attr-defined,no-any-return]
