import numpy as np
import pytest
import torch
from sklearn import decomposition
from torch.distributions import MultivariateNormal, kl_divergence

from lvmbench import Budget, NotApplicable, Schema, Split, bounds, build, expected, fit, log_weights, observe
from lvmbench.errors import LvmbenchError
from lvmbench.testing import check_model
from lvmbench_models.factor_analysis import (
    TOLERANCE,
    Covariance,
    FactorAnalysis,
    Factors,
    improve,
    maximise,
    start,
)
from lvmbench_models.rows import rows_of, square_of
from lvmbench_models.spectrum import Spectrum

SCHEMA = Schema((1, 4, 3), "gaussian")
D, Q, N = 12, 3, 800
GREY = 1 / 256


def draw(n, seed=0):
    """Return rows of three factors under noise that differs eightfold between pixels: [n, 12], grey levels."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(D, Q)) * [25, 15, 8]
    return 128 + rng.normal(size=(n, Q)) @ loadings.T + rng.normal(size=(n, D)) * np.geomspace(2, 16, D)


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(draw(N).clip(0, 255).astype(np.uint8)).reshape(N, *SCHEMA.shape)


def split_of(images):
    return Split(images, torch.zeros(len(images), 0), torch.arange(len(images)))


def fitted(images, schema=SCHEMA, seed=0, q=Q):
    model = build(FactorAnalysis, schema, {"latent_dim": q}, 0)
    fit(model, split_of(images), split_of(images[:5]), Budget(), schema, seed=seed)
    return model


@pytest.fixture(scope="module")
def model(images):
    return fitted(images)


@pytest.fixture
def x(images):
    return observe(SCHEMA, images[:20], torch.Generator().manual_seed(1))


def marginal(model):
    W = model.loadings.double()
    return MultivariateNormal(model.centre.double(), W @ W.T + model.noise.double().diag())


def of_rows(rows):
    s = Covariance.of(lambda: iter(rows.split(300)))
    return s, start(s.rows, s, Q, 1e-6, torch.Generator().manual_seed(0))


def test_its_maximum_is_that_of_scikit_learn():
    rows = draw(N) / 20
    reference = decomposition.FactorAnalysis(Q, tol=1e-9, max_iter=5_000, svd_method="lapack").fit(rows)
    s, factors = of_rows(torch.from_numpy(rows).float())
    best = maximise(s, factors, 1e-6, tolerance=1e-9, iterations=2_000)
    assert float(improve(s, best, 1e-6)[1]) == pytest.approx(reference.score(rows), abs=1e-4)
    np.testing.assert_allclose(best.noise, reference.noise_variance_, rtol=0.01)
    np.testing.assert_allclose(
        best.loadings @ best.loadings.T + best.noise.diag(), reference.get_covariance(), atol=0.01
    )


def test_no_step_of_em_lowers_the_likelihood(images):
    s = Covariance.of(rows_of(SCHEMA, split_of(images), torch.device("cpu")), square_of(SCHEMA))
    factors, curve = Factors(torch.randn(D, Q, dtype=torch.float64), torch.ones(D, dtype=torch.float64)), []
    for _ in range(60):
        factors, log_p = improve(s, factors, 9 * GREY**2)  # a floor that some pixels are under
        curve.append(float(log_p))
    assert min(np.diff(curve)) > -1e-9
    assert curve[-1] - curve[0] > 10
    assert (factors.noise == 9 * GREY**2).any()


def test_the_likelihood_that_em_climbs_is_the_mean_log_density():
    rows = torch.from_numpy(draw(N) / 20)
    s, factors = of_rows(rows.float())
    W = factors.loadings
    reference = MultivariateNormal(s.mean, W @ W.T + factors.noise.diag()).log_prob(rows)
    assert float(improve(s, factors, 1e-6)[1]) == pytest.approx(float(reference.mean()), abs=1e-4)


def test_it_stops_where_another_step_gains_next_to_nothing(model, images):
    s = Covariance.of(rows_of(SCHEMA, split_of(images), torch.device("cpu")), square_of(SCHEMA))
    next_factors, now = improve(s, Factors(model.loadings.double(), model.noise.double()), GREY**2)
    assert float(improve(s, next_factors, GREY**2)[1] - now) < TOLERANCE


def test_it_takes_no_step_after_one_that_gains_too_little():
    s, factors = of_rows(torch.from_numpy(draw(N) / 20).float())
    content, two = maximise(s, factors, 1e-6, 1e9), maximise(s, factors, 1e-6, -1, iterations=2)
    assert torch.equal(content.loadings, two.loadings)


def test_a_variance_that_rounding_put_under_the_noise_has_no_root(monkeypatch):
    variances = torch.tensor([1, 1, 1 - 1e-9], dtype=torch.float64) / D
    found = Spectrum(torch.zeros(D), torch.eye(D, Q), variances, torch.ones(()).double())
    monkeypatch.setattr("lvmbench_models.factor_analysis.leading", lambda *_: found)
    _, factors = of_rows(torch.cat([torch.eye(D), -torch.eye(D)]))
    torch.testing.assert_close(factors.noise, torch.full((D,), 1 / D).double(), rtol=1e-3, atol=0)
    assert not factors.loadings.isnan().any()


@pytest.mark.parametrize("pixels", ["gaussian", "bernoulli"])
def test_it_learns_the_covariance_of_noisy_pixels_without_drawing_the_noise(images, pixels):
    schema = Schema(SCHEMA.shape, pixels)
    rows = rows_of(schema, split_of(images), torch.device("cpu"))
    s = Covariance.of(rows, square_of(schema))
    grey = expected(schema, images).flatten(1).double().numpy()
    noise = (grey * (1 - grey)).mean(0) if pixels == "bernoulli" else np.full(D, GREY**2 / 12)
    exact = np.cov(grey.T, bias=True) + np.diag(noise)
    np.testing.assert_allclose(s.times(torch.eye(D).double()), exact, atol=1e-9)
    np.testing.assert_allclose(s.diagonal, np.diag(exact), atol=1e-9)


def test_its_density_is_that_of_the_marginal_gaussian(model, x):
    exact = marginal(model).log_prob(x.flatten(1).double())
    torch.testing.assert_close(model.log_prob(x).double(), exact, atol=1e-3, rtol=0)


def test_every_weight_is_the_density(model, x):
    log_w = log_weights(model, x, 50)
    torch.testing.assert_close(log_w, model.log_prob(x).expand(50, -1), atol=5e-3, rtol=0)
    found = bounds(model, x, 3)
    torch.testing.assert_close(found.elbo, -(found.rate + found.distortion), atol=5e-3, rtol=0)


def test_its_posterior_is_the_joint_gaussian_given_x(model, x):
    W, inverse = model.loadings.double(), marginal(model).precision_matrix
    q = model.posterior(x)
    mean = (x.flatten(1).double() - model.centre.double()) @ inverse @ W
    torch.testing.assert_close(q.mean.double(), mean, atol=1e-4, rtol=0)
    covariance = torch.eye(Q).double() - W.T @ inverse @ W
    torch.testing.assert_close(q.covariance_matrix[7].double(), covariance, atol=1e-5, rtol=0)
    assert (q.batch_shape, q.event_shape, model.prior().event_shape) == ((20,), (Q,), (Q,))
    assert kl_divergence(q, model.prior()).shape == (20,)
    torch.testing.assert_close(model.encode(x), q.mean)


def test_its_sample_is_a_draw_of_the_posterior(model, x):
    z = model.views()["sample"](x[:1].expand(4_000, -1, -1, -1))
    q = model.posterior(x[:1])
    torch.testing.assert_close(z.mean(0), q.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.T.cov(), q.covariance_matrix[0], atol=0.02, rtol=0)


def test_a_flat_data_set_leaves_every_noise_at_its_floor():
    model = fitted(torch.full((50, *SCHEMA.shape), 9, dtype=torch.uint8))
    torch.testing.assert_close(model.noise, torch.full((D,), GREY**2))
    assert (of_rows(torch.ones(50, D))[1].noise == 1e-6).all()
    assert model.log_prob(torch.full((2, *SCHEMA.shape), 9.5 / 256)).isfinite().all()


def test_binary_pixels_have_codes_and_no_density(images):
    model = fitted(images, Schema(SCHEMA.shape, "bernoulli"))
    assert dict(model.views()) == {}
    x = torch.rand(5, *SCHEMA.shape).round()
    assert model.encode(x).shape == (5, Q)
    # the variance of pixels that are 0 or 1
    p = images.double().flatten(1).mean(0) / 255
    variance = model.loadings.square().sum(1) + model.noise
    torch.testing.assert_close(variance.double(), p * (1 - p), rtol=1e-3, atol=0)
    for ask in (model.log_prob, model.posterior, lambda _: model.decode(torch.zeros(Q))):
        with pytest.raises(NotApplicable, match="gaussian"):
            ask(x)


@pytest.mark.parametrize(("rows", "q"), [(3, 3), (800, 12)])
def test_more_dimensions_than_the_data_have_is_an_error_that_says_so(images, rows, q):
    with pytest.raises(LvmbenchError, match=f"latent_dim={q} must be under the {rows} training rows and 12"):
        fitted(images[:rows], q=q)


def test_one_seed_gives_one_model(images, model):
    again, other = fitted(images), fitted(images, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), again.buffers(), strict=True))
    assert not torch.equal(model.loadings, other.loadings)


def test_it_meets_the_contract():
    check_model(FactorAnalysis, latent_dim=3)
