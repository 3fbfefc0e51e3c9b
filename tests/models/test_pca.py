import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn import decomposition
from torch.distributions import kl_divergence

from lvmbench import Budget, NotApplicable, Schema, Split, bounds, build, expected, fit
from lvmbench_models.pca import PCA
from lvmbench_models.rows import DEQUANTISATION
from lvmbench_models.spectrum import leading

SCHEMA = Schema((1, 6, 5), "gaussian")
Q, N = 4, 3_000


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, 6)) * [40, 30, 20, 12, 5, 3]
    x = 128 + z @ np.linalg.qr(rng.normal(size=(30, 6)))[0].T * 1.3 + rng.normal(size=(N, 30)) * 4
    return torch.from_numpy(x.clip(0, 255).astype(np.uint8)).reshape(N, *SCHEMA.shape)


def split_of(images):
    return Split(images, torch.zeros(len(images), 0), torch.arange(len(images)))


@pytest.fixture(scope="module")
def model(images):
    model = build(PCA, SCHEMA, {"latent_dim": Q}, 0)
    fit(model, split_of(images), split_of(images[:5]), Budget(), SCHEMA, seed=0)
    return model


@pytest.fixture(scope="module")
def rows(images):
    return expected(SCHEMA, images).flatten(1).double().numpy()


def covariance(model):
    axes, variances = model.axes.double(), model.variances.double()
    noise = model.noise.double()
    return (axes * (variances - noise)) @ axes.T + noise * torch.eye(SCHEMA.dims)


def test_the_subspace_is_that_of_the_exact_decomposition(model, rows):
    _, singular, right = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(model.variances, singular[:Q] ** 2 / N + DEQUANTISATION, rtol=1e-4)
    cosines = np.abs(np.sum(model.axes.numpy() * right[:Q].T, axis=0))
    np.testing.assert_allclose(cosines, 1, atol=1e-4)
    np.testing.assert_allclose(model.noise, np.mean(singular[Q:] ** 2 / N) + DEQUANTISATION, rtol=1e-4)


def test_a_slowly_falling_spectrum_is_found_to_a_thousandth():
    torch.manual_seed(0)
    x = torch.randn(2_000, 300) * torch.arange(1, 301).pow(-0.5)
    found = leading(lambda: iter(x.split(512)), 16, torch.Generator().manual_seed(0))
    exact = torch.linalg.svdvals((x - x.mean(0)).double())[:16] ** 2 / len(x)
    torch.testing.assert_close(found.variances, exact, rtol=1e-3, atol=0)


def test_its_density_is_scipys(model, rows):
    reference = multivariate_normal(model.centre.double(), covariance(model).numpy())
    x = torch.from_numpy(rows[:50]).float().reshape(50, *SCHEMA.shape)
    np.testing.assert_allclose(model.log_prob(x), reference.logpdf(rows[:50]), atol=2e-3)


def test_its_density_is_that_of_scikit_learn(model, rows):
    rng = np.random.default_rng(1)
    seen = (
        rows + (rng.random(rows.shape) - 0.5) / 256
    )  # the pixel noise that the model accounts for in closed form
    reference = decomposition.PCA(Q, svd_solver="full").fit(seen)
    x = torch.from_numpy(seen).float().reshape(N, *SCHEMA.shape)
    assert float(model.log_prob(x).mean()) == pytest.approx(reference.score(seen), abs=0.02)


def test_it_reaches_the_closed_form_of_the_maximum(model, rows):
    values = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1] + DEQUANTISATION
    noise = values[Q:].mean()
    d = len(values)
    best = -0.5 * (d * np.log(2 * np.pi) + np.log(values[:Q]).sum() + (d - Q) * np.log(noise) + d)
    noisy = torch.from_numpy(rows).reshape(N, *SCHEMA.shape) + (torch.rand(N, *SCHEMA.shape) - 0.5) / 256
    assert float(model.log_prob(noisy.float()).mean()) == pytest.approx(best, abs=0.02)


def test_under_its_exact_posterior_the_elbo_is_its_density(model, rows):
    x = torch.from_numpy(rows[:20]).float().reshape(20, *SCHEMA.shape)
    found = bounds(model, x, 3)
    torch.testing.assert_close(found.elbo, model.log_prob(x), atol=5e-3, rtol=0)
    torch.testing.assert_close(found.iwae, model.log_prob(x), atol=5e-3, rtol=0)


def test_its_posterior_is_the_textbooks(model, rows):
    W = (model.axes * (model.variances - model.noise).sqrt()).double()
    M = W.T @ W + model.noise.double() * torch.eye(Q)
    centred = torch.from_numpy(rows[:5]) - model.centre.double()
    x = torch.from_numpy(rows[:5]).float().reshape(5, *SCHEMA.shape)
    q = model.posterior(x)
    torch.testing.assert_close(q.mean.double(), centred @ W @ torch.linalg.inv(M), atol=1e-4, rtol=0)
    cov = model.noise.double() * torch.linalg.inv(M)
    torch.testing.assert_close(torch.diag(q.variance[0].double()), cov, atol=1e-5, rtol=0)
    assert kl_divergence(q, model.prior()).shape == (5,)


def test_a_flat_data_set_leaves_the_scale_at_its_floor():
    flat = split_of(torch.full((50, *SCHEMA.shape), 9, dtype=torch.uint8))
    model = build(PCA, SCHEMA, {"latent_dim": Q}, 0)
    model.fit(flat, None, 0)
    assert model.noise.item() == pytest.approx(1 / 256**2)
    assert model.log_prob(expected(SCHEMA, flat.images)).isfinite().all()


def test_binary_pixels_have_codes_and_no_density(images):
    model = build(PCA, Schema((1, 6, 5), "bernoulli"), {"latent_dim": Q}, 0)
    model.fit(split_of(images), None, 0)
    x = torch.rand(5, 1, 6, 5).round()
    assert model.encode(x).shape == (5, Q)
    for ask in (model.log_prob, model.posterior, lambda _: model.decode(torch.zeros(Q))):
        with pytest.raises(NotApplicable, match="gaussian"):
            ask(x)
    assert dict(model.views()) == {}  # a view that cannot be had would take the probes of the mean with it


@pytest.mark.parametrize("rows", [3, 4])
def test_more_dimensions_than_the_data_have_cannot_be_had(images, rows):
    with pytest.raises(NotApplicable, match="4 components of"):
        build(PCA, SCHEMA, {"latent_dim": Q}, 0).fit(split_of(images[:rows]), None, 0)
