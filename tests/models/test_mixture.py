import numpy as np
import pytest
import torch
from sklearn import mixture as reference
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from lvmbench import Budget, NotApplicable, Schema, Split, bounds, build, expected, fit, log_weights, observe
from lvmbench.errors import LvmbenchError
from lvmbench.testing import check_model
from lvmbench_models.mixture import (
    GaussianMixture,
    Mixture,
    Moments,
    fit_mixture,
    maximised,
    plus_plus,
    start,
)
from lvmbench_models.rows import rows_of, square_of

SCHEMA = Schema((1, 3, 2), "gaussian")
C, D, N = 3, 6, 500
GREY = 1 / 256


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(n, distance, k=C, d=5, seed=0):
    """Return rows around k centres, and the centre of each: [n, d], [n]."""
    generator = seeded(seed)
    centres = distance * torch.randn(k, d, generator=generator)
    scales = 0.5 + torch.rand(k, d, generator=generator)
    which = torch.arange(n) % k
    return centres[which] + scales[which] * torch.randn(n, d, generator=generator), which


def chunks_of(rows, n=100):
    return lambda: iter(rows.split(n))


def likelihood(found, rows, square=torch.square):
    return float(found.log_joint(rows, square).logsumexp(1).mean())


@pytest.fixture(scope="module")
def images():
    rows = 128 + 12 * blobs(N, 1.5, d=D)[0]
    return rows.clamp(0, 255).to(torch.uint8).reshape(N, *SCHEMA.shape)


def split_of(images):
    return Split(images, torch.zeros(len(images), 0), torch.arange(len(images)))


def fitted(images, schema=SCHEMA, seed=0, components=C):
    model = build(GaussianMixture, schema, {"components": components}, 0)
    fit(model, split_of(images), split_of(images[:5]), Budget(), schema, seed=seed)
    return model


@pytest.fixture(scope="module")
def model(images):
    return fitted(images)


@pytest.fixture
def x(images):
    return observe(SCHEMA, images[:20], seeded(1))


@pytest.mark.filterwarnings("ignore:.*did not converge")
@pytest.mark.parametrize("iterations", [1, 7])
def test_its_steps_are_those_of_scikit_learn(iterations):
    rows, _ = blobs(N, 1.0)
    first = start(chunks_of(rows), C, seeded(), 1e-6, torch.square)
    ours = fit_mixture(rows, C, seeded(), tolerance=-1, iterations=iterations)
    theirs = reference.GaussianMixture(
        C,
        covariance_type="diag",
        tol=0,
        reg_covar=0,
        max_iter=iterations,
        weights_init=first.log_weights.exp().numpy(),
        means_init=first.means.numpy(),
        precisions_init=1 / first.variances.numpy(),
    ).fit(rows.double().numpy())
    np.testing.assert_allclose(ours.means, theirs.means_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours.variances, theirs.covariances_, rtol=1e-6)
    np.testing.assert_allclose(ours.log_weights.exp(), theirs.weights_, rtol=1e-6)
    assert likelihood(ours, rows) == pytest.approx(theirs.score(rows.double().numpy()), abs=1e-9)


def test_no_step_of_em_lowers_the_likelihood(images):
    rows, square = rows_of(SCHEMA, split_of(images), torch.device("cpu")), square_of(SCHEMA)
    settings = {"floor": 0.0015, "square": square, "tolerance": -1}  # a floor that some variances are under
    found = [fit_mixture(rows, 8, seeded(), iterations=i, **settings) for i in range(0, 40, 2)]
    curve = [likelihood(m, expected(SCHEMA, images).flatten(1), square) for m in found]
    assert min(np.diff(curve)) > -1e-9
    assert curve[-1] - curve[0] > 0.05
    assert (found[-1].variances == 0.0015).any()


def test_it_stops_where_another_step_gains_next_to_nothing():
    rows, _ = blobs(N, 1.0)
    found = [fit_mixture(rows, C, seeded(), tolerance=0.01, iterations=i) for i in (1_000, 1_001, 1)]
    assert torch.equal(found[0].means, found[1].means)
    assert not torch.equal(found[0].means, found[2].means)
    best = fit_mixture(rows, C, seeded(), tolerance=1e-9, iterations=1_000)
    assert 0 < likelihood(best, rows) - likelihood(found[0], rows) < 0.1


def test_its_joint_density_is_torchs():
    rows, _ = blobs(50, 20.0)
    found = fit_mixture(rows, C, seeded(), iterations=1)
    exact = Independent(Normal(found.means, found.variances.sqrt()), 1).log_prob(rows[:, None].double())
    torch.testing.assert_close(found.log_joint(rows), exact + found.log_weights)


def test_rows_that_are_means_over_a_noise_have_the_mean_of_the_log_density():
    rows, _ = blobs(4, 1.0)
    found = fit_mixture(blobs(50, 1.0)[0], C, seeded())
    noise = 0.5 * torch.randn(100_000, 1, 5, generator=seeded()).double()
    drawn = found.log_joint((rows + noise).flatten(0, 1)).reshape(-1, 4, C).mean(0)
    torch.testing.assert_close(found.log_joint(rows, lambda x: x**2 + 0.25), drawn, rtol=0.01, atol=0)


def test_a_narrow_component_far_from_the_origin_does_not_cancel():
    found = Mixture(torch.zeros(1), torch.full((1, 3_000), 0.7), torch.full((1, 3_000), GREY**2))
    x = torch.full((1, 3_000), 0.7)
    assert float(found.log_joint(x)) == pytest.approx(-3_000 * np.log(GREY * np.sqrt(2 * np.pi)), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_blobs_that_are_far_apart_are_found(seed):
    rows, which = blobs(400, 100.0, k=8)
    joint = fit_mixture(rows, 8, seeded(seed)).log_joint(rows)
    found = joint.argmax(1)
    assert len(set(zip(which.tolist(), found.tolist(), strict=True))) == len(set(found.tolist())) == 8


def test_the_start_is_drawn_by_squared_distance():
    rows = torch.tensor([0.0] * 50 + [1.0] * 40 + [3.0] * 10)[:, None]
    pairs = torch.cat([plus_plus(chunks_of(rows), 2, seeded(s)).T for s in range(1_500)])
    second = pairs[pairs[:, 0] == 0, 1]
    assert 0.46 < len(second) / 1_500 < 0.54
    # of the mass, 40 x 1² lies on 1 and 10 x 3² on 3
    assert float((second == 3).double().mean()) == pytest.approx(90 / 130, abs=0.06)


@pytest.mark.parametrize(("share", "mean"), [(0.1, 9.0), (0.3, 6.0)])
def test_a_component_with_less_than_half_a_row_starts_anew_at_the_worst_explained(share, mean):
    rows = torch.tensor([0.0, 1, 2, 9, 3]).double()[:, None]
    responsible = torch.tensor([[1, 0, 0]] * 3 + [[0, 1 - share, share]] * 2).double()
    log_p = torch.tensor([-1.0, -2, -1, -8, -3])
    told = Moments(responsible.sum(0), responsible.T @ rows, responsible.T @ rows.square(), log_p)
    found = maximised(chunks_of(rows, 2), told, 1e-6)
    assert found.means.flatten().tolist() == pytest.approx([1, 6, mean])
    # as wide as the others are in the mean: variances of 2/3 and 9
    pooled = 9 if mean == 6 else (3 * 2 / 3 + 1.8 * 9) / 4.8
    assert found.variances.flatten().tolist() == pytest.approx([2 / 3, 9, pooled])
    assert float(found.log_weights.exp().sum()) == pytest.approx(1)


@pytest.mark.parametrize("values", [[4.0], [4.0, 5.0]])
def test_fewer_different_rows_than_components_leave_none_empty(values):
    rows = torch.tensor(values).repeat(20)[:, None]
    found = fit_mixture(rows, 4, seeded(), floor=0.01)
    assert (found.log_weights.exp() * len(rows) > 0.4).all()
    assert all(t.isfinite().all() for t in (found.log_weights, found.means, found.variances))
    assert (found.variances >= 0.01).all()


def test_what_starts_anew_is_given_time_to_explain_its_rows(monkeypatch):
    rows, _ = blobs(300, 30.0)
    lost = fit_mixture(rows, C, seeded(), iterations=0)
    lost.log_weights[0], lost.means[0] = -1e6, 1e6  # a component that explains nothing
    monkeypatch.setattr("lvmbench_models.mixture.start", lambda *_: lost)
    found = fit_mixture(rows, C, seeded())
    content = fit_mixture(rows, C, seeded(), tolerance=1e9)  # that is, after two steps without a new start
    three = fit_mixture(rows, C, seeded(), tolerance=-1, iterations=3)
    assert torch.equal(content.means, three.means)
    monkeypatch.undo()
    assert likelihood(found, rows) == pytest.approx(
        likelihood(fit_mixture(rows, C, seeded(2)), rows), abs=0.01
    )


def test_chunks_change_nothing():
    rows, _ = blobs(N, 1.0)
    whole, parts = fit_mixture(rows, C, seeded()), fit_mixture(chunks_of(rows, 7), C, seeded())
    for a, b in ((whole.log_weights, parts.log_weights), (whole.means, parts.means)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.variances, parts.variances, rtol=1e-9, atol=1e-9)


def test_more_components_than_rows_are_an_error_that_says_so():
    with pytest.raises(LvmbenchError, match="components=4 must not be over the 3 rows"):
        fit_mixture(torch.rand(3, 2), 4, seeded())


@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
def test_one_component_has_the_moments_of_noisy_pixels(images, pixels):
    schema = Schema(SCHEMA.shape, pixels)
    model = fitted(images, schema, components=1)
    grey = expected(schema, images).flatten(1).double()
    noise = (grey * (1 - grey)).mean(0) if pixels == "bernoulli" else GREY**2 / 12
    torch.testing.assert_close(model.means[0].double(), grey.mean(0), rtol=1e-5, atol=0)
    variance = grey.var(0, correction=0) + noise
    torch.testing.assert_close(model.variances[0].double(), variance, rtol=1e-5, atol=0)


def test_its_density_is_torchs(model, x):
    parts = Independent(Normal(model.means.double(), model.variances.double().sqrt()), 1)
    exact = MixtureSameFamily(Categorical(logits=model.log_pi.double()), parts)
    torch.testing.assert_close(
        model.log_prob(x).double(), exact.log_prob(x.flatten(1).double()), atol=1e-4, rtol=0
    )


def test_every_weight_is_the_density(model, x):
    log_w = log_weights(model, x, 40)
    torch.testing.assert_close(log_w, model.log_prob(x).expand(40, -1), atol=1e-4, rtol=0)
    assert len(model.posterior(x).sample((40,)).argmax(-1).unique()) == C


def test_its_rate_and_distortion_are_those_of_the_sum_over_components(model, x):
    q, z = model.posterior(x), torch.eye(C)[:, None].expand(-1, 20, -1)
    exact = -(q.log_prob(z).exp() * model.decode(z).log_prob(x)).sum(0)
    found = bounds(model, x, 4_000)
    torch.testing.assert_close(found.distortion, exact, atol=0.3, rtol=0)
    torch.testing.assert_close(found.rate, kl_divergence(q, model.prior()), atol=0.1, rtol=0)


def test_a_soft_code_is_decoded_to_the_mean_and_variance_between(model):
    p = model.decode(torch.tensor([0.25, 0, 0.75]))
    torch.testing.assert_close(p.mean.flatten(), 0.25 * model.means[0] + 0.75 * model.means[2])
    torch.testing.assert_close(p.variance.flatten(), 0.25 * model.variances[0] + 0.75 * model.variances[2])
    one = model.decode(torch.eye(C)[1])
    torch.testing.assert_close(one.mean.flatten(), model.means[1])


def test_its_codes_are_responsibilities_and_the_likeliest_component(model, x):
    codes = model.encode(x)
    torch.testing.assert_close(codes.sum(1), torch.ones(20))
    z = torch.eye(C)[:, None].expand(-1, 20, -1)
    joint = model.prior().log_prob(z) + model.decode(z).log_prob(x)
    torch.testing.assert_close(codes, joint.softmax(0).T, atol=1e-4, rtol=0)
    assert torch.equal(model.views()["one-hot"](x), torch.eye(C)[codes.argmax(1)])
    drawn = torch.stack([model.views()["sample"](x) for _ in range(2_000)])
    assert torch.equal(drawn.sum(-1), torch.ones(2_000, 20))
    torch.testing.assert_close(drawn.mean(0), codes, atol=0.06, rtol=0)
    assert (model.posterior(x).batch_shape, model.prior().event_shape) == ((20,), (C,))


def test_far_from_every_component_the_responsibilities_keep_their_precision():
    model = build(GaussianMixture, Schema((1, 40, 40), "gaussian"), {"components": 2}, 0)
    model.variances.fill_(GREY**2)
    model.means[1, 0] = GREY**2  # one nat nearer to x = 1, of a hundred million
    codes = model.encode(torch.ones(1, 1, 40, 40))
    torch.testing.assert_close(codes, torch.tensor([[0.0, 1.0]]).softmax(1), atol=1e-3, rtol=0)


def test_a_flat_data_set_leaves_every_variance_at_its_floor():
    model = fitted(torch.full((50, *SCHEMA.shape), 9, dtype=torch.uint8))
    torch.testing.assert_close(model.variances, torch.full((C, D), GREY**2))
    assert model.log_prob(torch.full((2, *SCHEMA.shape), 9.5 / 256)).isfinite().all()


def test_binary_pixels_have_codes_and_no_density(images):
    model = fitted(images, Schema(SCHEMA.shape, "bernoulli"))
    x = torch.rand(5, *SCHEMA.shape).round()
    assert model.encode(x).shape == model.views()["one-hot"](x).shape == (5, C)
    for ask in (model.log_prob, model.posterior, lambda _: model.decode(torch.eye(C))):
        with pytest.raises(NotApplicable, match="gaussian"):
            ask(x)


def test_one_seed_gives_one_model(images, model):
    again, other = fitted(images), fitted(images, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), again.buffers(), strict=True))
    assert not torch.equal(model.means, other.means)


def test_it_meets_the_contract():
    check_model(GaussianMixture, components=3)
