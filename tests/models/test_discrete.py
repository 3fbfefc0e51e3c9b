import math
from itertools import product

import pytest
import torch
from torch.distributions import Independent, OneHotCategorical, kl_divergence

from lvmbench import Schema, UsageError, bounds, build, log_weights
from lvmbench.options import resolve
from lvmbench_models.discrete import Discrete
from lvmbench_models.onehot import FlatOneHot

SCHEMA = Schema((1, 8, 8), "bernoulli")
G, C = 2, 3


@pytest.fixture
def model():
    model = build(Discrete, SCHEMA, {"groups": G, "classes": C, "net": "burda"}, 0).eval()
    with torch.no_grad():  # a decoder whose codes matter, and a posterior that is unsure
        model.encoder[-1].weight *= 0.3
    return model


@pytest.fixture
def x():
    return torch.rand(3, *SCHEMA.shape).round()


def codes():
    one = torch.eye(C)
    return torch.stack([torch.cat(parts) for parts in product(one, repeat=G)])  # [C**G, G * C]


def exact(model, x):
    """Return log p(x) by the sum over all codes."""
    z = codes()[:, None].expand(-1, len(x), -1)
    return (model.decode(z).log_prob(x) - G * math.log(C)).logsumexp(0)


def test_the_flat_distribution_is_torchs_one_hot_distribution():
    logits = torch.randn(5, G, C)
    ours, theirs = FlatOneHot(logits), Independent(OneHotCategorical(logits=logits), 1)
    z = theirs.sample((7,))
    torch.testing.assert_close(ours.log_prob(z.flatten(-2)), theirs.log_prob(z))
    torch.testing.assert_close(ours.mean, theirs.mean.flatten(-2))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())
    torch.testing.assert_close(ours.mode, theirs.mode.flatten(-2))
    other = torch.randn(5, G, C)
    expected = kl_divergence(theirs, Independent(OneHotCategorical(logits=other), 1))
    torch.testing.assert_close(kl_divergence(ours, FlatOneHot(other)), expected)


def test_draws_are_one_hot_and_as_frequent_as_they_are_probable():
    q = FlatOneHot(torch.tensor([[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]))
    z = q.rsample((20_000,))
    groups = z.unflatten(-1, (G, C))
    assert set(groups.unique().tolist()) == {0.0, 1.0}
    assert (groups.sum(-1) == 1).all()
    torch.testing.assert_close(z.mean(0), q.mean, atol=0.015, rtol=0)


def test_draws_carry_the_gradient_of_their_relaxation():
    logits = torch.zeros(G, C, requires_grad=True)
    z = FlatOneHot(logits, temperature=0.7).rsample((50,))
    (gradient,) = torch.autograd.grad((z * torch.arange(6.0)).sum(), logits)
    assert (gradient != 0).all()
    torch.testing.assert_close(gradient.sum(-1), torch.zeros(G), atol=1e-4, rtol=0)


def test_a_code_that_is_not_of_ones_and_zeros_is_refused_under_validation():
    with pytest.raises(ValueError, match="support"):
        FlatOneHot(torch.zeros(G, C), validate_args=True).log_prob(torch.full((G * C,), 0.5))


def test_its_distributions_have_the_shapes_of_the_contract(model, x):
    assert (model.prior().batch_shape, model.prior().event_shape) == ((), (G * C,))
    q = model.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((3,), (G * C,))
    assert model.encode(x).shape == (3, G * C)
    assert log_weights(model, x, 4).shape == (4, 3)


def test_the_prior_is_uniform_over_all_codes(model):
    log_p = model.prior().log_prob(codes())
    torch.testing.assert_close(log_p, torch.full((C**G,), -G * math.log(C)))


def test_its_bounds_stay_under_the_sum_over_all_codes_and_reach_it(model, x):
    truth = exact(model, x)
    few, many = bounds(model, x, 2_000), bounds(model, x, 20_000, max_decoded=6_000)
    assert (few.elbo < truth).all()
    torch.testing.assert_close(many.iwae, truth, atol=0.05, rtol=0)


def test_its_elbo_is_the_one_of_the_discrete_model(model, x):
    with torch.no_grad():
        q, z = model.posterior(x), codes()[:, None].expand(-1, 3, -1)
        log_q = q.log_prob(z)
        terms = model.decode(z).log_prob(x) + model.prior().log_prob(z) - log_q
    expected = (log_q.exp() * terms).sum(0)
    found = bounds(model, x, 20_000, max_decoded=6_000).elbo
    torch.testing.assert_close(found, expected, atol=0.3, rtol=0)


def test_its_loss_is_minus_its_discrete_elbo_in_expectation(model, x):
    with torch.no_grad():
        loss = torch.stack([sum(model.loss(x).values()).mean() for _ in range(400)])
    assert abs(loss.mean() + bounds(model, x, 4_000).elbo.mean()) < 5 * loss.std() / 20 + 0.1


def test_its_rate_is_at_most_g_log_c():
    sure = FlatOneHot(1_000 * torch.randn(50, G, C))
    rate = kl_divergence(sure, FlatOneHot(torch.zeros(G, C)))
    assert rate.max() <= G * math.log(C) + 1e-5
    assert rate.max() > G * math.log(C) - 0.01


def test_its_views_are_probabilities_and_the_likeliest_classes(model, x):
    probabilities, likeliest = model.encode(x).unflatten(-1, (G, C)), model.views()["one-hot"](x)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(3, G))
    assert torch.equal(likeliest.unflatten(-1, (G, C)).argmax(-1), probabilities.argmax(-1))


def test_its_sample_draws_each_class_as_often_as_it_is_probable(model, x):
    drawn = model.views()["sample"](x[:1].expand(4_000, -1, -1, -1)).unflatten(-1, (G, C))
    assert torch.equal(drawn.sum(-1), torch.ones(4_000, G))
    expected = model.encode(x[:1]).unflatten(-1, (G, C))[0]
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.04, rtol=0)


def test_its_sizes_and_temperatures_are_by_default_the_papers():
    options = resolve("discrete", Discrete, {})
    assert (options["groups"], options["classes"]) == (30, 10)
    assert (options["temperature"], options["coldest"]) == (1.0, 0.5)
    assert build(Discrete, SCHEMA, {}, 0).encode(torch.zeros(2, *SCHEMA.shape)).shape == (2, 300)


def test_the_temperature_falls_as_in_the_papers_code_and_stays_where_it_ends():
    # ericjang/gumbel-softmax: max(exp(-3e-5 step), 0.5) over 50,000 steps
    model = build(Discrete, SCHEMA, {}, 0)
    for progress in (0.0, 0.1, 0.3, 0.45, 0.4621, 0.7, 1.0):
        theirs = max(math.exp(-3e-5 * 50_000 * progress), 0.5)
        assert model.temperature_at(progress) == pytest.approx(theirs, abs=0.005)
    assert model.temperature_at(0.46) == model.temperature_at(1.0) == 0.5


def test_the_temperature_starts_and_ends_as_it_is_told_to():
    model = build(Discrete, SCHEMA, {"temperature": 4.0, "coldest": 0.25}, 0)
    assert [model.temperature_at(p) for p in (0.0, 0.115, 0.23, 0.46, 0.9)] == pytest.approx(
        [4, 2, 1, 0.25, 0.25]
    )


def slope(model, x, **progress):
    torch.manual_seed(1)
    loss = model.loss(x, **progress)["distortion"]
    (gradient,) = torch.autograd.grad(loss.sum(), model.encoder[-1].bias)
    return loss.detach(), gradient


def test_the_temperature_of_the_step_is_that_of_the_gradient_and_changes_no_value(model, x):
    (early, warm), (late, cold), (default, last) = (
        slope(model, x, **p) for p in ({"progress": 0.0}, {"progress": 1.0}, {})
    )
    assert torch.equal(early, late)
    assert not torch.allclose(warm, cold)
    assert torch.equal(late, default)
    assert torch.equal(cold, last)
    model.coldest = model.temperature
    torch.testing.assert_close(slope(model, x)[1], warm)


def test_the_code_that_it_decodes_best_is_named_and_one_hot(model, x):
    code = model.views()[model.decoded_view](x)
    assert set(code.unique().tolist()) == {0.0, 1.0}
    assert (code.unflatten(-1, (G, C)).sum(-1) == 1).all()


def test_a_temperature_that_would_rise_is_refused_by_name():
    with pytest.raises(UsageError, match=r"coldest=0\.5 is over temperature=0\.4"):
        build(Discrete, SCHEMA, {"temperature": 0.4}, 0)


def test_its_convergence_is_judged_by_what_comes_after_the_cooling():
    model = build(Discrete, SCHEMA, {}, 0)
    assert model.temperature_at(model.settled) == model.coldest < model.temperature_at(model.settled - 0.01)
