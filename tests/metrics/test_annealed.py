import functools
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategoricalStraightThrough,
    Uniform,
)

from lvmbench import VAE, NotApplicable, Schema, iwae_bound, log_weights
from lvmbench.testing import ToyData, check_metric
from lvmbench_metrics import annealed
from lvmbench_metrics.annealed import anneal, backward, forward, leapfrog, move, path, temperatures, tune

D, PIXELS = 2, 6
METRICS = [annealed.ais, annealed.ais_lower, annealed.ais_upper, annealed.ais_importance]
GREY = torch.full((10, 1, 2, 3), 128, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def without_gradients(test):
    """Run a test without gradients, as the metrics run their chains."""
    return functools.wraps(test)(torch.no_grad()(test))


def normal(mean, sd):
    return Independent(Normal(mean, sd), 1)


@dataclass
class LinearGaussian:
    """z ~ N(0, I), x|z ~ N(W z, s² I): log p(x) is known, and so is p(z|x), from which q may be off."""

    shift: float = 0.0  # of q, in standard deviations of p(z|x)
    blur: float = 0.0  # how much wider q is
    scale: float = 0.5
    decoded: int = 0

    def __post_init__(self):
        self.W = torch.linalg.qr(torch.randn(PIXELS, D, generator=torch.Generator().manual_seed(1))).Q * 1.5

    @property
    def precision(self):
        return torch.eye(D) + self.W.T @ self.W / self.scale**2

    def exact(self, x):
        return MultivariateNormal(
            x.flatten(1) @ self.W @ self.precision.inverse() / self.scale**2, precision_matrix=self.precision
        )

    def prior(self):
        return normal(torch.zeros(D), torch.ones(D))

    def decode(self, z):
        self.decoded += z.shape[:-1].numel()
        return Independent(Normal((z @ self.W.T).reshape(*z.shape[:-1], 1, 2, 3), self.scale), 3)

    def posterior(self, x):
        p = self.exact(x)
        return normal(p.mean + self.shift * p.stddev, p.stddev * (1 + self.blur))

    def log_prob(self, x):
        cov = self.W @ self.W.T + self.scale**2 * torch.eye(PIXELS)
        return MultivariateNormal(torch.zeros(PIXELS), cov).log_prob(x.flatten(1))


def drawn(model, n):
    z = model.prior().sample((n,))
    return z, model.decode(z).sample()


def sandwich(model, n=64, steps=50, chains=4, start="posterior"):
    z, x = drawn(model, n)
    p, betas = path(model, x, start), temperatures(steps)
    kernels = tune(p, betas)
    return forward(p, betas, kernels, chains), model.log_prob(x), backward(p, betas, kernels, z, chains)


def test_temperatures_rise_from_0_to_1_and_are_densest_at_both_ends():
    betas = torch.tensor(temperatures(8), dtype=torch.float64)
    assert betas[0] == 0
    assert betas[-1] == 1
    rises = betas.diff()
    torch.testing.assert_close(rises, rises.flip(0))
    assert (rises[:4].diff() > 0).all()
    # (sigmoid(0 + 1) - sigmoid(-4)) / (sigmoid(4) - sigmoid(-4))
    assert float(betas[5]) == pytest.approx(0.739689, abs=1e-5)


@without_gradients
def test_one_step_is_importance_sampling_from_the_posterior():
    model = LinearGaussian(shift=1.0, blur=0.5)
    x = drawn(model, 5)[1]
    p = path(model, x, "posterior")
    kernels = tune(p, [0.0, 1.0])
    torch.manual_seed(3)
    expected = iwae_bound(log_weights(model, x, 7))
    torch.manual_seed(3)
    torch.testing.assert_close(forward(p, [0.0, 1.0], kernels, 7).float(), expected, atol=1e-5, rtol=0)


@without_gradients
def test_from_the_exact_posterior_every_weight_is_log_p_of_x_wherever_the_chains_go():
    model = LinearGaussian()
    z, x = drawn(model, 6)
    p, betas = path(model, x, "posterior"), temperatures(20)
    wild = torch.rand(19, 6, D)
    expected = model.log_prob(x).double().expand(3, 6)
    for found in (
        anneal(p, betas, wild, p.draw(3)),
        anneal(p, betas, wild, 3 * torch.randn(3, 6, D)),
        -anneal(p, betas[::-1], wild.flip(0), z.expand(3, 6, D)),
    ):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)


@without_gradients
@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_both_bounds_close_in_on_log_p_of_x_where_q_is_poor(start):
    lower, exact, upper = sandwich(LinearGaussian(shift=2.0), n=200, steps=120, start=start)
    for gap in (exact - lower, upper - exact):
        error = float(gap.std()) / len(gap) ** 0.5
        assert -3 * error < float(gap.mean()) < 0.1
        assert error < 0.025


@without_gradients
def test_as_many_importance_weights_are_far_off_there():
    model = LinearGaussian(shift=2.0)
    x = drawn(model, 64)[1]
    assert float((iwae_bound(log_weights(model, x, 4)) - model.log_prob(x)).mean()) < -1


@without_gradients
@pytest.mark.parametrize("steps", [1, 2, 8, 24])
def test_the_gaps_of_chains_that_mix_have_a_closed_form(steps):
    # q0 is p(z|x) moved by s standard deviations, so that log p(x, z)/q0(z) is linear in z, and its mean under
    # f_b is log p(x) + D s² (b - 1/2): each bound is off by D s²/2 times the sum of the squared rises of b
    shift, n = 2.0, 2000
    model = LinearGaussian(shift=shift)
    z, x = drawn(model, n)
    p, betas = path(model, x, "posterior"), temperatures(steps)
    # five steps that turn z by a right angle: what comes out has forgotten what went in
    kernels = (0.31 * model.exact(x).stddev).expand(steps - 1, n, D)
    gap = D * shift**2 / 2 * float(torch.tensor(betas).diff().square().sum())
    exact = model.log_prob(x)
    error = 4 * (2 * gap / n) ** 0.5 + 0.05 * gap
    assert float((exact - forward(p, betas, kernels, 1)).mean()) == pytest.approx(gap, abs=error)
    assert float((backward(p, betas, kernels, z, 1) - exact).mean()) == pytest.approx(gap, abs=error)


@without_gradients
def test_an_average_of_more_chains_tightens_the_upper_bound_and_never_passes_log_p_of_x():
    gaps = []
    for chains in (1, 8):
        _, exact, upper = sandwich(LinearGaussian(shift=2.0), n=300, steps=4, chains=chains)
        gaps.append(float((upper - exact).mean()))
    assert 0 < gaps[1] < gaps[0]


@without_gradients
def test_a_weight_has_mean_p_of_x_even_where_the_steps_are_few():
    # what makes the bound a true one: E[w] = p(x) for any kernels that do not look at the chain
    model = LinearGaussian(shift=1.0)
    x = drawn(model, 4)[1]
    p, betas = path(model, x, "posterior"), temperatures(4)
    log_w = anneal(p, betas, tune(p, betas), p.draw(20_000)) - model.log_prob(x)
    torch.testing.assert_close(log_w.exp().mean(0), torch.ones(4, dtype=torch.float64), atol=0.05, rtol=0)


@without_gradients
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_transition_leaves_its_density_invariant(beta):
    model = LinearGaussian(shift=2.0, blur=1.0)
    x = drawn(model, 1)[1]
    p, q = path(model, x, "posterior"), model.posterior(x)
    # f_b is a product of powers of two Gaussians: precisions add, and so do precisions times means
    ends = [(torch.diag_embed(1 / q.variance[0]), q.mean[0]), (model.precision, model.exact(x).mean[0])]
    precision = (1 - beta) * ends[0][0] + beta * ends[1][0]
    mean = precision.inverse() @ ((1 - beta) * ends[0][0] @ ends[0][1] + beta * ends[1][0] @ ends[1][1])
    f = MultivariateNormal(mean, precision_matrix=precision)
    point = p.at(f.sample((20_000, 1)))
    step = 1.3 * f.stddev  # so long that a good part is refused
    shares = []
    for _ in range(5):
        point, accepted = move(p, point, beta, step)
        shares.append(float(accepted.mean()))
    z = (point.z[:, 0] - mean) / f.stddev
    assert 0.3 < sum(shares) / 5 < 0.9
    torch.testing.assert_close(z.mean(0), torch.zeros(D), atol=0.03, rtol=0)
    torch.testing.assert_close(z.T.cov(), torch.eye(D), atol=0.04, rtol=0)


@without_gradients
def test_transitions_forget_where_they_began():
    model = LinearGaussian()
    x = drawn(model, 1)[1]
    p, exact = path(model, x, "posterior"), model.exact(x)
    point = p.at(exact.mean + 5 * exact.stddev + torch.zeros(4000, 1, D))
    for _ in range(20):
        point, _ = move(p, point, 1.0, 0.5 * exact.stddev)
    z = (point.z - exact.mean) / exact.stddev
    torch.testing.assert_close(z.mean((0, 1)), torch.zeros(D), atol=0.06, rtol=0)
    torch.testing.assert_close(z.std((0, 1)), torch.ones(D), atol=0.05, rtol=0)


@without_gradients
def test_a_trajectory_runs_back_to_where_it_began():
    model = small_vae()
    p = path(model, drawn(model, 3)[1], "posterior")
    point, momentum = p.at(p.draw(2)), torch.randn(2, 3, D)
    step = torch.full((3, D), 0.02)
    there, onward = leapfrog(p, point, momentum, 0.7, step)
    back, inward = leapfrog(p, there, -onward, 0.7, step)
    assert float((there.z - point.z).abs().mean()) > 0.01
    torch.testing.assert_close(back.z, point.z, atol=1e-4, rtol=0)
    torch.testing.assert_close(-inward, momentum, atol=1e-4, rtol=0)


@without_gradients
def test_energy_drifts_with_the_square_of_the_step():
    model = LinearGaussian(shift=1.0)
    p = path(model, drawn(model, 50)[1], "posterior")
    point, momentum = p.at(p.draw(20)), torch.randn(20, 50, D)
    drift = []
    for step in (0.04, 0.02):
        end, out = leapfrog(p, point, momentum, 1.0, torch.tensor(step))
        energy = end.log_f(1.0) - point.log_f(1.0) - 0.5 * (out.square() - momentum.square()).sum(-1)
        drift.append(float(energy.abs().mean()))
    # the drift over a time t is about c t step², and half the step goes half as far
    assert drift[1] < drift[0] / 4


@without_gradients
def test_where_the_dynamics_overflow_a_chain_stays():
    model = LinearGaussian()  # torch's validation is on: a decoder of NaN would raise
    p = path(model, drawn(model, 3)[1], "posterior")
    point = p.at(p.draw(2))
    for step in (1e10, 1e38):
        new, accepted = move(p, point, 1.0, torch.tensor(step))
        assert torch.equal(new.z, point.z)
        assert not accepted.any()


@without_gradients
def test_pilots_find_steps_of_the_acceptance_wanted_whatever_the_picture():
    model = LinearGaussian(shift=1.0)
    x = drawn(model, 8)[1]
    model.posterior = lambda x: normal(
        torch.zeros(len(x), D), torch.logspace(-2, 0, len(x))[:, None].expand(-1, D)
    )
    p = path(model, x, "posterior")
    kernels = tune(p, [0.0, *[0.5] * 200, 1.0])
    point, accepted = p.at(p.draw(200)), []
    for kernel in kernels[-40:]:
        point, share = move(p, point, 0.5, kernel)
        accepted.append(share.mean(0))
    torch.testing.assert_close(
        torch.stack(accepted).mean(0), torch.full((8,), annealed.ACCEPTANCE), atol=0.12, rtol=0
    )


@without_gradients
def test_steps_are_as_wide_in_each_dimension_as_q():
    model = LinearGaussian()
    widths = torch.tensor([0.01, 1.0])
    model.posterior = lambda x: normal(torch.zeros(len(x), D), widths.expand(len(x), D))
    kernels = tune(path(model, drawn(model, 500)[1], "posterior"), [0.0, 0.1, 0.2, 1.0])
    assert kernels.shape == (2, 500, D)
    ratio = (kernels[..., 1] / kernels[..., 0]).mean(1)
    torch.testing.assert_close(ratio, torch.full((2,), 100.0), atol=3.0, rtol=0)


def discrete():
    return Independent(Bernoulli(torch.full((D,), 0.5), validate_args=False), 1, validate_args=False)


class Blocked(Independent):
    def log_prob(self, value):
        return super().log_prob(value.detach())


class Untold(OneHotCategoricalStraightThrough):
    has_rsample = False

    @property
    def support(self):
        raise NotImplementedError


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("prior", "reason"),
    [
        (discrete(), "prior of z is discrete or bounded"),
        (OneHotCategoricalStraightThrough(torch.ones(D)), "prior of z is discrete"),
        (Untold(torch.ones(D)), "support: unknown"),
        (Categorical(torch.ones(D)), "prior of z is discrete"),
        (Independent(Uniform(torch.zeros(D), torch.ones(D)), 1), "bounded"),
        (Blocked(Normal(torch.zeros(D), 1.0), 1), "prior has no gradient"),
    ],
)
def test_a_prior_that_gives_no_slope_is_not_applicable(pictured, metric, prior, reason):
    model = LinearGaussian()
    model.prior = lambda: prior
    model.decode = lambda z: Independent(Normal(torch.zeros(*z.shape[:-1], 1, 2, 3), 1.0), 3)
    with pytest.raises(NotApplicable, match=reason):
        metric.compute(pictured(model, GREY), steps=2, chains=1, rows=2)


def test_a_discrete_posterior_or_a_decoder_without_slope_is_not_applicable(pictured):
    model = LinearGaussian()
    model.posterior = lambda x: discrete().expand((len(x),))
    with pytest.raises(NotApplicable, match="posterior of z is discrete"):
        annealed.ais.compute(pictured(model, GREY), steps=2)
    model = LinearGaussian()
    decode = model.decode
    model.decode = lambda z: decode(z.detach())
    with pytest.raises(NotApplicable, match="decoder has no gradient"):
        annealed.ais.compute(pictured(model, GREY), steps=2)


def test_a_mixture_is_a_fine_prior_though_it_has_no_rsample(pictured):
    model = LinearGaussian()
    parts = normal(torch.tensor([[-1.0, 0.0], [1.0, 0.0]]), torch.ones(2, D))
    model.prior = lambda: MixtureSameFamily(Categorical(torch.ones(2)), parts)
    for start in ("posterior", "prior"):
        assert annealed.ais.compute(pictured(model, GREY), steps=20, rows=2, start=start).n == 2


def small_vae(pixels="gaussian"):
    torch.manual_seed(0)
    return VAE(Schema((1, 4, 4), pixels), latent_dim=2, net="mlp").eval()


@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
def test_no_estimate_of_a_network_leaves_its_bounds(pictured, pixels):
    ev = pictured(small_vae(pixels), torch.zeros(1, 1, 4, 4, dtype=torch.uint8), pixels, draws=64)
    lower, upper, importance = (
        m.compute(ev, steps=30, rows=64).value
        for m in (annealed.ais_lower, annealed.ais_upper, annealed.ais_importance)
    )
    assert lower < upper < lower + 1.5
    assert importance < upper


def test_the_bounds_of_simulated_pictures_are_made_once_and_pair_with_no_test_row(pictured):
    model = LinearGaussian(shift=1.0)
    ev = pictured(model, GREY, draws=5)
    found = annealed.ais_lower.compute(ev, steps=10, rows=20)
    decoded = model.decoded
    assert found.n == 20
    assert found.rows is None
    assert found.replicates is None
    for metric in (annealed.ais_upper, annealed.ais_importance):
        metric.compute(ev, steps=10, rows=20)
    assert model.decoded == decoded


def test_the_bound_is_of_the_first_test_rows_as_they_are_observed(pictured):
    ev = pictured(LinearGaussian(), GREY)
    found = annealed.ais.compute(ev, steps=5, rows=7)
    x = next(ev.batches("test", 7))
    assert found.n == 7
    torch.testing.assert_close(found.rows.float(), LinearGaussian().log_prob(x), atol=1e-4, rtol=0)
    assert annealed.ais.compute(ev, steps=5, rows=50).n == 10


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_meets_the_contract(metric):
    model = VAE(ToyData().schema, latent_dim=4, net="mlp").eval()
    check_metric(metric, model, steps=4, chains=2, rows=3)
    check_metric(metric, model, steps=1, chains=1, rows=1, start="prior")


def test_grad_mode_random_state_and_parameters_are_left_alone(pictured):
    model = small_vae()
    before = torch.get_rng_state()
    values = []
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            ev = pictured(model, torch.zeros(4, 1, 4, 4, dtype=torch.uint8))
            found = [m.compute(ev, steps=4, chains=2, rows=3) for m in METRICS]
            assert torch.is_grad_enabled() == grad
        values.append([e.value for e in found])
        assert not found[0].rows.requires_grad
    assert values[0] == values[1]
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None and p.requires_grad for p in model.encoder.parameters())
    assert all(p.grad is None for p in model.parameters())
