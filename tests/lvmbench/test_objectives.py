import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence

from lvmbench import bounds, elbo, iwae_bound, log_weights, rate_distortion
from lvmbench.objectives import VALUES, decoded_at_once, log_density

D, PIXELS = 2, 6


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@dataclass
class LinearGaussian:
    """z ~ N(0, I), x|z ~ N(W z, s² I): log p(x) and p(z|x) have closed forms."""

    blur: float = 0.0  # how much wider than the exact posterior q is
    scale: float = 0.5
    decoded: list = field(default_factory=list)

    def __post_init__(self):
        self.W = torch.linalg.qr(torch.randn(PIXELS, D, generator=torch.Generator().manual_seed(1))).Q * 1.5

    def prior(self):
        return Independent(Normal(torch.zeros(D), torch.ones(D)), 1)

    def decode(self, z):
        self.decoded.append(z.shape[:-1].numel())
        mean = (z @ self.W.T).reshape(*z.shape[:-1], 1, 2, 3)
        return Independent(Normal(mean, self.scale), 3)

    def posterior(self, x):
        precision = torch.eye(D) + self.W.T @ self.W / self.scale**2
        cov = torch.linalg.inv(precision)
        mean = x.flatten(1) @ self.W @ cov / self.scale**2
        return Independent(Normal(mean, cov.diagonal().sqrt() * (1 + self.blur)), 1)

    def log_prob(self, x):
        cov = self.W @ self.W.T + self.scale**2 * torch.eye(PIXELS)
        return MultivariateNormal(torch.zeros(PIXELS), cov).log_prob(x.flatten(1))


def pictures(n):
    model = LinearGaussian()
    return model.decode(model.prior().sample((n,))).sample()


class PointFive:
    """Reference values of z ~ N(0, 1), x|z ~ N(z, 1) at x = 1, with the prior as q."""

    def __init__(self, exact=False):
        self.exact = exact

    def prior(self):
        return Independent(Normal(torch.zeros(1), 1.0), 1)

    def posterior(self, x):
        mean, scale = (0.5, math.sqrt(0.5)) if self.exact else (0.0, 1.0)
        return Independent(Normal(torch.full((len(x), 1), mean), scale), 1)

    def decode(self, z):
        return Independent(Normal(z[..., None, None], 1.0), 3)


ONE = torch.ones(1, 1, 1, 1)


def test_under_the_exact_posterior_every_weight_is_log_p_of_x():
    model, x = LinearGaussian(), pictures(5)
    log_w = log_weights(model, x, 7)
    torch.testing.assert_close(log_w, model.log_prob(x).expand(7, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(iwae_bound(log_w), model.log_prob(x), atol=1e-4, rtol=0)


def test_bounds_rise_with_the_number_of_draws_and_never_pass_log_p_of_x():
    model, x = LinearGaussian(blur=1.0), pictures(20)
    log_w = log_weights(model, x, 4_096)
    values = [float(elbo(log_w).mean())]
    values += [float(iwae_bound(log_w.reshape(k, -1)).mean()) for k in (2, 16, 512)]
    assert values == sorted(values)
    exact = float(model.log_prob(x).mean())
    assert values[0] < exact - 0.2
    assert exact - 0.02 < values[-1] <= exact + 0.005


def test_the_bound_of_many_draws_meets_log_p_of_x():
    model, x = LinearGaussian(blur=1.0), pictures(3)
    torch.testing.assert_close(
        iwae_bound(log_weights(model, x, 50_000)), model.log_prob(x), atol=0.02, rtol=0
    )


def test_one_draw_makes_the_importance_bound_the_elbo():
    log_w = torch.randn(1, 9)
    torch.testing.assert_close(iwae_bound(log_w), elbo(log_w), atol=0, rtol=0)


def test_the_bound_is_the_log_of_the_mean_and_not_the_weighted_mean_of_logs():
    log_w = 3 * torch.randn(50, 20_000)
    assert float(iwae_bound(log_w).mean()) == pytest.approx(3.627, abs=0.05)  # the other is 5.854


def test_weights_far_under_the_smallest_float_do_not_vanish():
    assert float(iwae_bound(torch.full((4, 1), -10_000.0))) == -10_000.0


def test_rate_and_distortion_make_the_elbo():
    model, x = LinearGaussian(blur=1.0), pictures(4)
    rate, distortion = torch.stack([torch.stack(rate_distortion(model, x)) for _ in range(500)]).mean(0)
    torch.testing.assert_close(-(rate + distortion), elbo(log_weights(model, x, 500)), atol=0.5, rtol=0)
    torch.testing.assert_close(rate, kl_divergence(model.posterior(x), model.prior()), atol=1e-4, rtol=0)


def test_the_unit_example_has_its_published_values():
    exact = bounds(PointFive(exact=True), ONE, 10)
    assert float(exact.elbo) == pytest.approx(-1.5155121, abs=1e-5)
    assert float(exact.iwae) == pytest.approx(-1.5155121, abs=1e-5)
    crude = bounds(PointFive(), ONE.expand(4_000, 1, 1, 1), 5)
    assert float(crude.elbo.mean()) == pytest.approx(-1.9189385, abs=0.03)
    assert float(crude.iwae.mean()) == pytest.approx(-1.5575, abs=0.02)
    assert float(crude.rate.abs().max()) == 0


@pytest.mark.parametrize("max_decoded", [1, 7, 10_000])
def test_streamed_bounds_are_those_of_the_same_draws_at_once(max_decoded):
    model, x = LinearGaussian(blur=1.0), pictures(3)
    q = model.posterior(x)
    kept = q.sample((12,))
    draws = iter(kept)

    class Replayed(Independent):
        def rsample(self, shape):
            return torch.stack([next(draws) for _ in range(shape[0])])

    model.posterior = lambda x: Replayed(q.base_dist, 1)
    model.decoded.clear()
    found = bounds(model, x, 12, max_decoded)
    assert sum(model.decoded) == 12 * 3
    assert max(model.decoded) <= max(max_decoded, 3)
    log_lik, log_prior, log_q = model.decode(kept).log_prob(x), model.prior().log_prob(kept), q.log_prob(kept)
    log_w = log_lik + log_prior - log_q
    torch.testing.assert_close(found.elbo, elbo(log_w), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.iwae, iwae_bound(log_w), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.rate, (log_q - log_prior).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.distortion, -log_lik.mean(0), atol=1e-5, rtol=0)


def test_a_model_with_weights_of_its_own_has_bounds_without_their_parts():
    class Whole:
        def log_weights(self, x, k):
            return torch.full((k, len(x)), -3.0)

    found = bounds(Whole(), ONE.expand(2, 1, 1, 1), 5)
    assert found.elbo.tolist() == found.iwae.tolist() == [-3.0, -3.0]
    assert found.rate.isnan().all()
    assert found.distortion.isnan().all()


def test_a_bound_keeps_no_gradient():
    assert not bounds(LinearGaussian(), pictures(2).requires_grad_(), 2).elbo.requires_grad


@pytest.mark.parametrize("max_decoded", [None, 1, 40])
def test_pictures_are_encoded_once_however_many_draws_are_asked_for(max_decoded):
    model, x, encoded = LinearGaussian(), pictures(3), []
    posterior = model.posterior
    model.posterior = lambda x: encoded.append(len(x)) or posterior(x)
    bounds(model, x, 100, max_decoded)
    assert encoded == [3]


def test_unless_told_otherwise_a_core_decodes_a_million_pixel_values_at_once():
    model, x = LinearGaussian(), pictures(4)
    model.decoded.clear()
    bounds(model, x, 100_000)
    assert max(model.decoded) == VALUES // PIXELS // 4 * 4
    assert sum(model.decoded) == 400_000
    assert decoded_at_once(torch.empty(1, 3, 2_000, 2_000)) == 1


@pytest.mark.parametrize(("rows", "free"), [(2**16, 2**40), (2**15, 2**15 * 64 * 784), (1, 1)])
def test_a_gpu_decodes_as_many_pictures_as_its_free_memory_holds(monkeypatch, rows, free):
    monkeypatch.setattr("lvmbench.objectives._free", lambda device: free)
    x = SimpleNamespace(shape=torch.Size((9, 1, 28, 28)), device=torch.device("cuda"), element_size=lambda: 4)
    assert decoded_at_once(x) == rows


def test_the_log_density_of_gaussians_is_that_of_torch_and_so_is_its_gradient():
    z, mean = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, 3, 4), (3, 4)))
    scale = (torch.rand(3, 4, dtype=torch.float64) + 0.1).requires_grad_()
    q = Independent(Normal(mean, scale), 1)
    ours, theirs = log_density(q, z), q.log_prob(z)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    weight = torch.randn(5, 3, dtype=torch.float64)
    slopes = [torch.autograd.grad(of, (z, mean, scale), weight) for of in (ours, theirs)]
    for own, reference in zip(*slopes, strict=True):
        torch.testing.assert_close(own, reference, atol=1e-11, rtol=0)


def test_the_log_density_of_what_is_no_vector_of_gaussians_is_its_own():
    z = torch.rand(2, 3, 4)
    for p in (
        Independent(Normal(0.0, torch.ones(3, 4)), 2),
        Normal(0.0, 2.0),
        Independent(Laplace(z, 1.0), 1),
    ):
        assert torch.equal(log_density(p, z), p.log_prob(z))
