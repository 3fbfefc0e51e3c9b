import math
from itertools import pairwise

import pytest
import torch
from scipy.special import logsumexp
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.nn.functional import softplus

from lvmbench import Schema, UsageError, bounds, build, weigher
from lvmbench.calls import parse_calls
from lvmbench.options import resolve
from lvmbench_models.hierarchical import HVAE

SCHEMA = Schema((1, 8, 8), "gaussian")
heights = pytest.mark.parametrize("dims", [(3, 2), (4, 3, 2)])


def model_of(dims=(3, 2), **options):
    return build(HVAE, SCHEMA, {"latent_dims": dims, "net": "mlp", **options}, 0).eval()


@pytest.fixture
def x():
    return torch.rand(5, *SCHEMA.shape)


def normal(outputs):
    """Return the Gaussian of mu and a raw sigma, as torch's own distribution."""
    mu, raw = outputs.chunk(2, dim=-1)
    return Independent(Normal(mu, softplus(raw) + 1e-6), 1)


class Affine(nn.Module):
    """Gives the mean A z and a raw sigma that is the same for every z."""

    def __init__(self, matrix, scale):
        super().__init__()
        self.matrix, self.raw = matrix, math.log(math.expm1(scale))

    def forward(self, z):
        mean = z @ self.matrix.T
        return torch.cat([mean, torch.full_like(mean, self.raw)], -1)


class LinearGaussian(HVAE):
    """z_2 ~ N(0, I), z_1|z_2 ~ N(A z_2, t² I), x|z_1 ~ N(W z_1, s² I): log p(x) has a closed form.

    q has the means of the exact posterior and wider scales.
    """

    A = torch.tensor([[0.8], [-0.5]])
    W = torch.tensor([[1.0, 0.2], [0.3, -0.7], [0.0, 0.9], [-0.4, 0.1]])
    t, s = 0.6, 0.8

    def __init__(self, schema, **options):
        super().__init__(schema, **options)
        self.downward = nn.ModuleList([Affine(self.A, self.t)])
        precision = torch.linalg.inv(self.cov) + self.W.T @ self.W / self.s**2
        bottom = torch.linalg.inv(precision) @ self.W.T / self.s**2
        top = self.A.T / (self.t**2 + self.A.square().sum())
        self.encoder = nn.Sequential(nn.Flatten(), Affine(bottom, 0.9))
        self.upward = nn.ModuleList([Affine(top, 1.1)])

    @property
    def cov(self):
        """The covariance of z_1."""
        return self.A @ self.A.T + self.t**2 * torch.eye(2)

    def decode(self, z):
        return Independent(Normal((z[..., :2] @ self.W.T).unflatten(-1, (1, 2, 2)), self.s), 3)

    def log_prob(self, x):
        cov = self.W @ self.cov @ self.W.T + self.s**2 * torch.eye(4)
        return MultivariateNormal(torch.zeros(4), cov).log_prob(x.flatten(1))


def linear():
    model = build(LinearGaussian, Schema((1, 2, 2), "gaussian"), {"latent_dims": (2, 1), "net": "burda"}, 0)
    z = torch.randn(6, 1) @ model.A.T + model.t * torch.randn(6, 2)
    return model, model.decode(z).sample()


def test_its_bounds_rise_to_the_closed_form_of_log_p_of_x_and_never_pass_it():
    model, x = linear()
    truth = model.log_prob(x)
    many = x.repeat_interleave(1_000, 0)
    values = [bounds(model, many, 20, 100_000).elbo] + [
        bounds(model, many, k, 100_000).iwae for k in (2, 16, 128)
    ]
    means = [v.unflatten(0, (len(x), 1_000)).mean(1) for v in values]
    for lower, higher in pairwise([*means, truth + 0.01]):
        assert (lower < higher).all()
    assert (means[0] < truth - 0.1).all()
    torch.testing.assert_close(bounds(model, x, 40_000, 240_000).iwae, truth, atol=0.02, rtol=0)


def by_hand(model, x, k):
    """Return the terms of the weights of k draws, by torch's distributions."""
    q = normal(model.encoder(x))
    z = [q.mean + q.stddev * torch.randn(k, *q.mean.shape)]
    log_q = q.log_prob(z[0])
    for layer in model.upward:
        q = normal(layer(z[-1]))
        z.append(q.mean + q.stddev * torch.randn_like(q.mean))
        log_q = log_q + q.log_prob(z[-1])
    zero = torch.zeros(z[-1].shape[-1])
    log_p = Independent(Normal(zero, zero + 1), 1).log_prob(z[-1])
    for i, layer in enumerate(model.downward):
        log_p = log_p + normal(layer(z[i + 1])).log_prob(z[i])
    return model.decode(z[0]).log_prob(x), log_p, log_q


@heights
def test_the_terms_of_its_weights_are_those_of_torchs_distributions(dims, x):
    model = model_of(dims)
    torch.manual_seed(1)
    with torch.no_grad():
        log_likelihood, log_p, log_q = by_hand(model, x, 4)
        torch.manual_seed(1)
        w = weigher(model, x)(4)
    torch.testing.assert_close(w.log_likelihood, log_likelihood)
    torch.testing.assert_close(w.log_prior, log_p)
    torch.testing.assert_close(w.log_posterior, log_q)


@heights
def test_the_loss_of_one_draw_is_minus_its_elbo(dims, x):
    model = model_of(dims)
    torch.manual_seed(1)
    with torch.no_grad():
        log_likelihood, log_p, log_q = by_hand(model, x, 1)
        torch.manual_seed(1)
        loss = model.loss(x)
    assert set(loss) == {"distortion", "rate"}
    torch.testing.assert_close(loss["distortion"], -log_likelihood[0])
    torch.testing.assert_close(loss["rate"], (log_q - log_p)[0])


@pytest.mark.parametrize("k", [2, 7])
def test_the_loss_of_several_draws_is_minus_their_importance_bound(k, x):
    model = model_of(k=k)
    torch.manual_seed(1)
    with torch.no_grad():
        log_likelihood, log_p, log_q = by_hand(model, x, k)
        torch.manual_seed(1)
        loss = model.loss(x)
    log_w = (log_likelihood + log_p - log_q).double()
    expected = torch.from_numpy(math.log(k) - logsumexp(log_w.numpy(), axis=0))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)


@heights
@pytest.mark.parametrize("k", [1, 3])
def test_its_gradients_go_through_the_draws_of_every_layer(dims, k, x):
    model = model_of(dims, k=k)
    weights = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(1)
    loss = model.loss(x)
    found = torch.autograd.grad(sum(loss.values()).sum() if k == 1 else loss.sum(), weights)
    torch.manual_seed(1)
    log_likelihood, log_p, log_q = by_hand(model, x, k)
    bound = (log_likelihood + log_p - log_q).double().exp().mean(0).log()
    for gradient, expected in zip(found, torch.autograd.grad(-bound.sum(), weights), strict=True):
        assert gradient.any()
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@heights
def test_its_code_is_the_means_of_all_layers_side_by_side(dims, x):
    model = model_of(dims)
    with torch.no_grad():
        means = [normal(model.encoder(x)).mean]
        for layer in model.upward:
            means.append(normal(layer(means[-1])).mean)
        code = model.encode(x)
        torch.testing.assert_close(code, torch.cat(means, 1))
        torch.testing.assert_close(model.views()["top"](x), means[-1])
    assert code.shape == (5, sum(dims))


@heights
def test_its_sample_is_one_draw_of_every_layer(dims, x):
    model = model_of(dims)
    with torch.no_grad():
        torch.manual_seed(1)
        z = model.views()["sample"](x)
        torch.manual_seed(1)
        expected = [normal(model.encoder(x)).sample()]
        for layer in model.upward:
            expected.append(normal(layer(expected[-1])).sample())
    torch.testing.assert_close(z, torch.cat(expected, 1))


@heights
def test_decoding_reads_the_layer_next_to_the_picture_only(dims, x):
    model = model_of(dims)
    code = model.encode(x).detach().requires_grad_()
    p = model.decode(code)
    assert (p.batch_shape, p.event_shape) == ((5,), SCHEMA.shape)
    (moved,) = torch.autograd.grad(p.mean.square().sum(), code)
    assert (moved[:, : dims[0]] != 0).all()
    assert not moved[:, dims[0] :].any()
    torch.testing.assert_close(model.decode(code[:, : dims[0]]).mean, p.mean)


@pytest.mark.parametrize("dims", [(3,), (), (3, 0), (3, 2.5), 3])
def test_fewer_than_two_layers_or_an_empty_one_are_refused_by_name(dims):
    with pytest.raises(UsageError, match="latent_dims"):
        resolve("hvae", HVAE, {"latent_dims": dims})


def test_the_layers_are_asked_for_on_the_command_line():
    (call,) = parse_calls("hvae(latent_dims=(5,3,2),k=4,net=mlp)")
    options = resolve("hvae", HVAE, call.options)
    model = build(HVAE, SCHEMA, options, 0)
    assert (model.latent_dims, model.k) == ((5, 3, 2), 4)
    assert model.encode(torch.rand(2, *SCHEMA.shape)).shape == (2, 10)
