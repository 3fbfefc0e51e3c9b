import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Categorical, Independent, Normal, kl_divergence
from torch.nn.functional import one_hot, softplus

from lvmbench import Schema, bounds, build, weigher
from lvmbench_models.gmvae import FEATURES, GMVAE

SCHEMA = Schema((1, 3, 3), "bernoulli")
C, D = 3, 1


@pytest.fixture
def model():
    model = build(GMVAE, SCHEMA, {"components": C, "latent_dim": D, "net": "burda"}, 0).eval()
    with torch.no_grad():  # clusters that lie apart, and a z that knows of them
        model.clusters.weight.copy_(torch.tensor([[-0.8, 0.0, 0.6], [-0.2, -0.4, 0.0]]))
        model.clusters.bias.copy_(torch.tensor([0.1, 0.0]))
        model.inference[0].weight[:, FEATURES:] *= 8
        model.inference[0].weight[:, :FEATURES] *= 3
        model.encoder[-1].weight[:C] *= 3
    return model


@pytest.fixture
def x():
    return torch.rand(4, *SCHEMA.shape).round()


def normal(outputs):
    """Return the Gaussian of mu and a raw sigma, as torch's own distribution."""
    mu, raw = outputs.chunk(2, dim=-1)
    return Independent(Normal(mu, softplus(raw) + 1e-6), 1)


def given(model, c):
    """Return p(z|y) of one component, from the weights of its layer: batch [], event [D]."""
    return normal(model.clusters.weight[:, c] + model.clusters.bias)


def categories(model, x):
    """Return q(y|x), and what q(z|x, y) knows of x."""
    outputs = model.encoder(x)
    assert outputs.shape[1] == C + FEATURES
    return Categorical(logits=outputs[:, :C]), outputs[:, C:]


def inferred(model, features, c):
    """Return q(z|x, y) of one component: batch [B], event [D]."""
    y = one_hot(torch.full((len(features),), c), C).float()
    return normal(model.inference(torch.cat([features, y], 1)))


@torch.no_grad()
def exact(model, x):
    """Return log p(x) by the sum over y and quadrature over z: [B]."""
    grid = torch.linspace(-12, 12, 4_001)
    log_likelihood = model.decode(grid[:, None, None]).log_prob(x).double()  # [4001, B]
    mass = 0
    for c in range(C):
        density = torch.from_numpy(norm.pdf(grid.double(), *(float(t) for t in moments(given(model, c)))))
        mass = mass + torch.trapezoid(density[:, None] * log_likelihood.exp(), grid.double(), dim=0) / C
    return mass.log()


def moments(p):
    return p.mean, p.stddev


def test_its_bound_of_many_draws_meets_the_sum_over_y_and_z_and_its_elbo_stays_under_it(model, x):
    truth = exact(model, x)
    found = bounds(model, x, 20_000, max_decoded=20_000)
    torch.testing.assert_close(found.iwae.double(), truth, atol=0.05, rtol=0)
    assert (found.elbo < truth - 0.05).all()
    few = bounds(model, x.repeat_interleave(500, 0), 5).iwae.unflatten(0, (len(x), 500)).mean(1)
    assert (found.elbo < few).all()
    assert (few < truth + 0.02).all()


def test_the_terms_of_a_weight_are_those_of_torchs_distributions(model, x):
    torch.manual_seed(1)
    seen = []
    decode, model.decode = model.decode, lambda z: seen.append(z) or decode(z)
    with torch.no_grad():
        w = weigher(model, x)(50)
        q_y, features = categories(model, x)
        (z,) = seen
        torch.testing.assert_close(w.log_likelihood, decode(z).log_prob(x))
        # y is not told, but each (log prior, log posterior) is one of the C pairs that z may have come from
        pairs = [
            (
                given(model, c).log_prob(z) - math.log(C),
                inferred(model, features, c).log_prob(z) + q_y.logits[:, c],
            )
            for c in range(C)
        ]
    off = torch.stack([(w.log_prior - p).abs() + (w.log_posterior - q).abs() for p, q in pairs])
    assert off.amin(0).max() < 1e-4
    drawn = one_hot(off.argmin(0), C).float().mean(0)
    torch.testing.assert_close(drawn, q_y.probs, atol=0.25, rtol=0)


def test_its_loss_is_minus_its_elbo_in_expectation(model, x):
    with torch.no_grad():
        many = x.repeat_interleave(2_000, 0)
        loss = sum(model.loss(many).values()).unflatten(0, (len(x), 2_000))
        found = bounds(model, x, 4_000)
    error = loss.std(1) / 2_000**0.5
    assert ((loss.mean(1) + found.elbo).abs() < 6 * error + 0.02).all()


def test_the_terms_of_its_loss_are_the_closed_forms_of_torch(model, x):
    torch.manual_seed(1)
    with torch.no_grad():
        loss = model.loss(x)
        q_y, features = categories(model, x)
        uniform = Categorical(logits=torch.zeros(C))
        torch.testing.assert_close(loss["rate of the cluster"], kl_divergence(q_y, uniform.expand((4,))))
        within = torch.stack(
            [kl_divergence(inferred(model, features, c), given(model, c).expand((4,))) for c in range(C)]
        )
        draws = torch.stack([model.loss(x)["rate within the cluster"] for _ in range(2_000)])
    torch.testing.assert_close(draws.mean(0), (q_y.probs.T * within).sum(0), rtol=0.05, atol=0.02)
    assert (draws[:, None] - within).abs().amin(1).max() < 1e-4  # each is that of one y
    assert set(loss) == {"distortion", "rate of the cluster", "rate within the cluster"}


def test_its_code_is_the_sum_over_the_clusters(model, x):
    with torch.no_grad():
        q_y, features = categories(model, x)
        expected = sum(q_y.probs[:, c, None] * inferred(model, features, c).mean for c in range(C))
        torch.testing.assert_close(model.encode(x), expected)
        torch.testing.assert_close(model.views()["cluster"](x), q_y.probs)


@pytest.mark.parametrize("ask", ["loss", "weigher"])
def test_what_it_decodes_are_draws_of_z_whose_mean_is_its_code(model, x, ask):
    seen = []
    decode, model.decode = model.decode, lambda z: seen.append(z) or decode(z)
    many = x.repeat_interleave(4_000, 0)
    with torch.no_grad():
        model.loss(many) if ask == "loss" else weigher(model, many)(1)
        z = seen[0].reshape(len(x), 4_000)
        q_y, features = categories(model, x)
        each = [inferred(model, features, c) for c in range(C)]
        second = sum(q_y.probs[:, c] * (q.mean.square() + q.variance)[:, 0] for c, q in enumerate(each))
        variance = second - model.encode(x)[:, 0].square()
    assert ((z.mean(1) - model.encode(x)[:, 0]).abs() < 5 * (variance / 4_000).sqrt()).all()
    torch.testing.assert_close(z.var(1), variance, rtol=0.15, atol=0)


def test_its_sample_is_one_draw_of_z(model, x):
    many = x.repeat_interleave(4_000, 0)
    with torch.no_grad():
        z = model.views()["sample"](many).reshape(len(x), 4_000)
        q_y, features = categories(model, x)
        each = [inferred(model, features, c) for c in range(C)]
        second = sum(q_y.probs[:, c] * (q.mean.square() + q.variance)[:, 0] for c, q in enumerate(each))
        variance = second - model.encode(x)[:, 0].square()
    assert ((z.mean(1) - model.encode(x)[:, 0]).abs() < 5 * (variance / 4_000).sqrt()).all()
    torch.testing.assert_close(z.var(1), variance, rtol=0.15, atol=0)


def test_a_row_does_not_depend_on_its_neighbours_in_the_batch(model, x):
    other = torch.cat([x[:2], 1 - x[2:]])
    with torch.no_grad():
        for view in (model.encode, model.views()["cluster"]):
            torch.testing.assert_close(view(x)[:2], view(x[:2]))
            torch.testing.assert_close(view(x)[:2], view(other)[:2])
        for ask in (model.loss, lambda rows: vars(weigher(model, rows)(3))):
            found = []
            for rows in (x, other):
                torch.manual_seed(1)
                found.append(ask(rows))
            for term in found[0]:
                torch.testing.assert_close(found[0][term][..., :2], found[1][term][..., :2])


def test_the_cluster_learns_from_the_picture_by_its_relaxation(model, x):
    outputs = model.encoder(x).detach().requires_grad_()
    model.encoder.forward = lambda _: outputs
    (moved,) = torch.autograd.grad(model.loss(x)["distortion"].sum(), outputs)
    assert (moved[:, :C] != 0).any(1).all()


def slope(model, temperature, x):
    model.temperature = temperature
    torch.manual_seed(1)
    outputs = model.encoder(x).detach().requires_grad_()
    model.encoder.forward = lambda _: outputs
    loss = model.loss(x)["distortion"]
    (moved,) = torch.autograd.grad(loss.sum(), outputs)
    del model.encoder.forward
    return loss.detach(), moved[:, :C]


def test_the_temperature_changes_the_gradient_and_no_value(model, x):
    (warm, a), (cold, b) = (slope(model, t, x) for t in (1.0, 0.3))
    assert torch.equal(warm, cold)
    assert not torch.allclose(a, b)


def test_its_draws_of_the_cluster_are_whole(model, x):
    seen = []
    inference = model.inference.forward
    model.inference.forward = lambda inputs: seen.append(inputs[..., FEATURES:]) or inference(inputs)
    with torch.no_grad():
        model.loss(x)
        weigher(model, x)(3)
    for y in seen:
        assert set(y.unique().tolist()) == {0.0, 1.0}
        np.testing.assert_array_equal(y.sum(-1), np.ones(y.shape[:-1]))
