import math
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from lvmbench import LvmbenchError, NotApplicable
from lvmbench_metrics import likelihood

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def normal(mean, sd):
    return Independent(Normal(mean, sd), 1)


class Gaussian:
    """z ~ N(0, 1), x|z ~ N(z, 1): log p(x) = log N(x; 0, 2), and the posterior is N(x/2, 1/2)."""

    def __init__(self, exact=True):
        self.exact = exact

    def encode(self, x):
        return x.flatten(1) / 2

    def prior(self):
        return normal(torch.zeros(1), torch.ones(1))

    def posterior(self, x):
        z = x.flatten(1)
        return (
            normal(z / 2, torch.full_like(z, 0.5**0.5)) if self.exact else normal(0 * z, torch.ones_like(z))
        )

    def decode(self, z):
        return Independent(Normal(z[..., None, None], 1.0), 3)


def at_one(pictured, model, rows=2000, **budget):
    """Return an evaluation in which every observed pixel is exactly 1."""
    ev = pictured(model, torch.zeros(rows, 1, 1, 1, dtype=torch.uint8), density_rows=rows, **budget)
    ev.batches = lambda split, limit: iter([torch.ones(min(rows, limit), 1, 1, 1)])
    return ev


@pytest.mark.parametrize("metric", [likelihood.elbo, likelihood.iw_bound])
@pytest.mark.parametrize("k", [1, 7])
def test_with_the_exact_posterior_every_bound_is_log_p(pictured, metric, k):
    found = metric.compute(at_one(pictured, Gaussian(), rows=20, draws=k))
    assert found.rows.tolist() == pytest.approx([-1.5155121] * 20, abs=1e-5)


def test_with_the_prior_as_posterior_the_elbo_is_its_closed_form_and_the_rate_is_zero(pictured):
    ev = at_one(pictured, Gaussian(exact=False), draws=50)
    assert likelihood.elbo.compute(ev).value == pytest.approx(-1.9189385, abs=0.02)
    assert likelihood.rate.compute(ev).value == 0


@pytest.mark.parametrize(("k", "expected"), [(1, -1.920), (5, -1.5575), (50, -1.518)])
def test_the_bound_tightens_with_k_as_the_reference_does(pictured, k, expected):
    ev = at_one(pictured, Gaussian(exact=False), rows=20_000 // k + 2000, draws=3)
    assert likelihood.iw_bound.compute(ev, k=k).value == pytest.approx(expected, abs=0.02)


def test_one_sample_is_one_sample(pictured):
    # others silently take as many as fit a batch, which makes the bound of one draw too good
    ev = at_one(pictured, Gaussian(exact=False), rows=4000)
    one = likelihood.iw_bound.compute(ev, k=1).rows
    assert float(one.mean()) < -1.8
    assert len(one.unique()) > 1000


def test_rate_is_the_kl_of_two_normals(pictured):
    model = Gaussian()
    model.posterior = lambda x: normal(torch.ones(len(x), 1), torch.ones(len(x), 1))
    ev = at_one(pictured, model, draws=64)
    assert likelihood.rate.compute(ev).value == pytest.approx(0.5, abs=0.01)
    assert likelihood.distortion.compute(ev).value == pytest.approx(HALF_LOG_2PI + 0.5, abs=0.02)


def test_the_elbo_is_minus_rate_minus_distortion_and_never_above_the_bound(pictured):
    ev = at_one(pictured, Gaussian(exact=False), rows=50, draws=8)
    elbo, rate, distortion, bound = (
        m.compute(ev).rows
        for m in (likelihood.elbo, likelihood.rate, likelihood.distortion, likelihood.iw_bound)
    )
    assert torch.allclose(elbo, -(rate + distortion), atol=1e-5)
    assert (bound >= elbo).all()


def test_the_draws_are_made_once_for_all_metrics_of_one_k(pictured):
    model = Gaussian()
    calls = []
    decode = model.decode
    model.decode = lambda z: calls.append(z.shape[:-1].numel()) or decode(z)
    ev = pictured(model, torch.zeros(10, 1, 1, 1, dtype=torch.uint8), draws=3)
    for metric in (likelihood.elbo, likelihood.iw_bound, likelihood.rate, likelihood.distortion):
        metric.compute(ev)
    assert sum(calls) == 30


def test_only_the_first_rows_of_the_budget_are_scored_all_of_them(pictured):
    images = torch.randint(0, 256, (600, 1, 1, 1), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    ev = pictured(Gaussian(), images, density_rows=520, draws=2)  # more than one batch
    x = torch.cat(list(ev.batches("test", 520)))
    expected = Normal(0.0, 2**0.5).log_prob(x).flatten()
    found = likelihood.elbo.compute(ev)
    assert found.n == 520
    assert torch.allclose(found.rows, expected, atol=1e-4)


def test_exact_likelihood_is_told_in_nats_and_in_bits(pictured):
    model = SimpleNamespace(log_prob=lambda x: x.flatten(1).sum(1) - 3)
    ev = pictured(model, torch.full((4, 1, 2, 2), 255, dtype=torch.uint8), pixels="bernoulli")
    assert likelihood.log_likelihood.compute(ev).value == pytest.approx(1)
    assert likelihood.bits_per_dim.compute(ev).value == pytest.approx(-1 / (4 * math.log(2)))


def test_a_uniform_density_of_8_bit_pixels_costs_8_bits(pictured):
    ev = pictured(
        SimpleNamespace(log_prob=lambda x: torch.zeros(len(x))), torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    )
    assert likelihood.bits_per_dim.compute(ev).value == 8


def test_bits_come_from_the_bound_at_k_where_nothing_is_exact(pictured):
    class Coin:
        def log_weights(self, x, k):
            return Bernoulli(0.5).log_prob(x).flatten(1).sum(1).expand(k, -1)

    ev = pictured(Coin(), torch.zeros(3, 1, 4, 4, dtype=torch.uint8), pixels="bernoulli")
    assert likelihood.bits_per_dim.compute(ev, k=2).value == pytest.approx(1)


def test_whole_log_weights_tell_no_rate(pictured):
    class Whole(Gaussian):
        def log_weights(self, x, k):
            return torch.zeros(k, len(x))

    ev = pictured(Whole(), torch.zeros(3, 1, 1, 1, dtype=torch.uint8))
    assert likelihood.elbo.compute(ev).value == 0
    with pytest.raises(NotApplicable, match="no rate"):
        likelihood.rate.compute(ev)


def test_a_model_without_a_density_has_no_bits(pictured):
    with pytest.raises(NotApplicable, match="no density"):
        likelihood.bits_per_dim.compute(
            pictured(SimpleNamespace(), torch.zeros(3, 1, 1, 1, dtype=torch.uint8))
        )


def test_a_density_that_is_not_a_number_is_an_error_that_counts_the_rows(pictured):
    model = SimpleNamespace(log_prob=lambda x: torch.tensor([0.0, math.nan, -math.inf]))
    with pytest.raises(LvmbenchError, match="2 of 3"):
        likelihood.log_likelihood.compute(pictured(model, torch.zeros(3, 1, 1, 1, dtype=torch.uint8)))
