import pytest
import torch
from torch.distributions import kl_divergence

from lvmbench import Schema, bounds, build
from lvmbench.options import resolve
from lvmbench_models.vae import IWAE, VAE, BetaVAE

SCHEMA = Schema((1, 16, 16), "bernoulli")


def x():
    return torch.rand(4, *SCHEMA.shape).round()


def losses(model, rows, n):
    torch.manual_seed(5)
    with torch.no_grad():
        return torch.stack([model.loss(rows) for _ in range(n)])


def test_beta_of_one_is_the_vae_bit_for_bit():
    rows = x()
    a, b = build(VAE, SCHEMA, {}, 0), build(BetaVAE, SCHEMA, {"beta": 1.0}, 0)
    assert torch.equal(losses(a, rows, 2), losses(b, rows, 2))


def test_beta_weighs_the_rate_and_nothing_else():
    rows = x()
    four, one = (build(BetaVAE, SCHEMA, {"beta": beta}, 0) for beta in (4.0, 1.0))
    rate = kl_divergence(one.posterior(rows), one.prior())
    torch.testing.assert_close((losses(four, rows, 1) - losses(one, rows, 1))[0], 3 * rate)


def test_a_beta_vae_is_by_default_not_a_vae():
    assert build(BetaVAE, SCHEMA, {}, 0).beta == 4


def test_an_iwae_of_one_draw_is_the_vae_in_expectation():
    rows = x()
    a, b = build(VAE, SCHEMA, {}, 0), build(IWAE, SCHEMA, {"k": 1}, 0)
    a, b = losses(a, rows, 300).mean(1), losses(b, rows, 300).mean(1)
    assert abs(a.mean() - b.mean()) < 5 * ((a.var() + b.var()) / 300).sqrt()


def test_more_draws_bring_a_lower_loss():
    rows = x()
    means = [float(losses(build(IWAE, SCHEMA, {"k": k}, 0), rows, 60).mean()) for k in (1, 5, 25)]
    assert means == sorted(means, reverse=True)


def test_the_loss_of_an_iwae_is_minus_the_bound_that_is_reported():
    rows, model = x(), build(IWAE, SCHEMA, {"k": 8}, 0)
    values = losses(model, rows, 100).mean(1)
    with torch.no_grad():
        reported = torch.stack([bounds(model, rows, 8).iwae.mean() for _ in range(100)])
    assert abs(values.mean() + reported.mean()) < 5 * ((values.var() + reported.var()) / 100).sqrt()


@pytest.mark.parametrize(
    ("kind", "options"), [(BetaVAE, {"beta": 0}), (IWAE, {"k": 0}), (VAE, {"latent_dim": 0})]
)
def test_options_out_of_range_are_refused(kind, options):
    with pytest.raises(Exception, match=next(iter(options))):
        resolve("model", kind, options)
