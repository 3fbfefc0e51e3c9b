import pytest
import torch
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from lvmbench import VAE, Schema, bounds, build

SCHEMAS = [Schema((1, 28, 28), "bernoulli"), Schema((3, 28, 28), "gaussian")]


@pytest.fixture(params=SCHEMAS, ids=lambda s: s.pixels)
def model(request):
    return build(VAE, request.param, {"latent_dim": 4}, 0).eval()


@pytest.fixture
def x(model):
    torch.manual_seed(0)
    return torch.rand(5, *model.schema.shape).round()


def test_its_distributions_have_the_shapes_of_the_contract(model, x):
    assert (model.prior().batch_shape, model.prior().event_shape) == ((), (4,))
    q = model.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((5,), (4,))
    p = model.decode(q.rsample((2,)))
    assert (p.batch_shape, p.event_shape) == ((2, 5), model.schema.shape)


def test_its_loss_is_distortion_plus_the_closed_form_rate(model, x):
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    q = model.posterior(x)
    mu, sigma = q.base_dist.loc, q.base_dist.scale
    z = q.rsample((1,))[0]
    rate = 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(1)
    torch.testing.assert_close(loss, rate - model.decode(z).log_prob(x))


def test_its_loss_is_minus_its_elbo_in_expectation(model, x):
    torch.manual_seed(2)
    with torch.no_grad():
        loss = torch.stack([model.loss(x) for _ in range(200)])
    error = loss.mean(1).std() / 200**0.5 * 6
    torch.testing.assert_close(-loss.mean(), bounds(model, x, 200).elbo.mean(), atol=float(error), rtol=0)


def test_its_densities_pass_torchs_own_validation(model, x):
    q, p = model.posterior(x), model.prior()
    checked = Normal(q.base_dist.loc, q.base_dist.scale, validate_args=True)
    unit = Normal(torch.zeros(4), torch.ones(4), validate_args=True)
    expected = kl_divergence(Independent(checked, 1), Independent(unit, 1))
    torch.testing.assert_close(kl_divergence(q, p), expected)
    assert isinstance(model.decode(p.sample((3,))), Distribution)


def test_codes_are_the_posterior_mean_and_the_sample_is_a_view(model, x):
    torch.testing.assert_close(model.encode(x), model.posterior(x).mean, atol=0, rtol=0)
    torch.testing.assert_close(model.encode(x), model.encode(x), atol=0, rtol=0)
    sample = model.views()["sample"]
    assert sample(x).shape == (5, 4)
    assert not torch.equal(sample(x), sample(x))


def test_duplicating_a_batch_leaves_each_rows_density_unchanged(model, x):
    z = model.encode(x)
    once, twice = model.decode(z).log_prob(x), model.decode(z.repeat(2, 1)).log_prob(x.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, once.repeat(2), rtol=1e-4, atol=1e-2)


def test_only_gaussian_pixels_have_a_scale_to_learn(model):
    learned = [name for name, p in model.named_parameters() if p.requires_grad and "scale" in name]
    assert bool(learned) == (model.schema.pixels == "gaussian")


def test_posteriors_stay_proper_when_their_scale_underflows(model, x):
    with torch.no_grad():
        model.encoder[-1].bias.fill_(-200.0)
        model.encoder[-1].weight.zero_()
    assert (model.posterior(x).base_dist.scale > 0).all()
