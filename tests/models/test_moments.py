import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from lvmbench import VAE, Schema, build
from lvmbench_models.moments import DIPVAE1, DIPVAE2, covariance

SCHEMA = Schema((1, 8, 8), "gaussian")
D = 3
both = pytest.mark.parametrize("kind", [DIPVAE1, DIPVAE2])


def model_of(kind, **options):
    return build(kind, SCHEMA, {"latent_dim": D, "net": "mlp", **options}, 0)


@pytest.fixture
def x():
    return torch.rand(7, *SCHEMA.shape)


@pytest.fixture
def correlated():
    return torch.randn(7, D) @ torch.randn(D, D) + 5


def penalties(cov, off_diagonal, diagonal):
    """Return both penalties of a covariance by loops over its entries."""
    off = sum(cov[i, j] ** 2 for i in range(D) for j in range(D) if i != j)
    on = sum((cov[i, i] - 1) ** 2 for i in range(D))
    return off_diagonal * off, diagonal * on


def drawn(kind, x, seed=1, **options):
    torch.manual_seed(seed)
    return model_of(kind, **options).loss(x)


def assert_penalties(loss, expected):
    found = [loss["off-diagonal"].item(), loss["diagonal"].item()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_covariance_is_numpys_over_the_rows(correlated):
    expected = np.cov(correlated.double().numpy(), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(correlated.double()), expected, rtol=1e-10)


def test_the_first_holds_the_covariance_of_the_means_to_the_identity(x):
    mean = model_of(DIPVAE1).posterior(x).mean.detach().numpy()
    cov = np.cov(mean, rowvar=False, bias=True)
    loss = drawn(DIPVAE1, x, off_diagonal=2.0, diagonal=3.0)
    assert_penalties(loss, penalties(cov, 2, 3))


def test_the_second_holds_the_covariance_of_z_to_the_identity(x):
    q = model_of(DIPVAE2).posterior(x)
    mean, variance = q.mean.detach().numpy(), q.base_dist.scale.detach().numpy() ** 2
    cov = np.cov(mean, rowvar=False, bias=True) + np.diag(variance.mean(0))
    loss = drawn(DIPVAE2, x, off_diagonal=2.0, diagonal=3.0)
    assert_penalties(loss, penalties(cov, 2, 3))


def test_the_moments_of_the_second_are_those_of_many_draws_of_z(x):
    model = model_of(DIPVAE2)
    with torch.no_grad():
        q = model.posterior(x)
        z = q.sample((40_000,)).flatten(0, 1)
        np.testing.assert_allclose(model.moments(q), np.cov(z.numpy(), rowvar=False), atol=0.03)


@both
def test_the_weights_are_by_default_the_papers(kind):
    model = model_of(kind)
    assert (model.off_diagonal, model.diagonal) == ((10, 100) if kind is DIPVAE1 else (10, 10))


@both
def test_the_rest_of_the_loss_is_the_vaes_at_the_same_draw(kind, x):
    loss = drawn(kind, x)
    torch.manual_seed(1)
    reference = VAE.loss(model_of(kind), x)
    assert set(loss) == {*reference, "off-diagonal", "diagonal"}
    for term in reference:
        torch.testing.assert_close(loss[term], reference[term])


@both
def test_moments_that_are_those_of_the_prior_cost_nothing(kind, monkeypatch):
    # rows of a scaled Hadamard matrix: mean 0, covariance 1 - spread² in each dimension and 0 between them
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    spread = 0.0 if kind is DIPVAE1 else 0.6
    q = Independent(Normal(signs * (1 - spread**2) ** 0.5, max(spread, 0.1)), 1)
    model = model_of(kind)
    monkeypatch.setattr(model, "posterior", lambda x: q)
    loss = model.loss(torch.rand(4, *SCHEMA.shape))
    assert float(loss["off-diagonal"]) == pytest.approx(0, abs=1e-9)
    assert float(loss["diagonal"]) == pytest.approx(0, abs=1e-9)


@both
@pytest.mark.parametrize("term", ["off-diagonal", "diagonal"])
def test_a_penalty_moves_the_means_and_in_the_second_the_variances_too(kind, term, x):
    model = model_of(kind)
    outputs = model.encoder(x).detach().requires_grad_()
    model.encoder.forward = lambda _: outputs
    (found,) = torch.autograd.grad(model.loss(x)[term], outputs)
    mean, raw_scale = found.chunk(2, dim=-1)
    assert (mean != 0).all()
    moves_scale = kind is DIPVAE2 and term == "diagonal"  # off the diagonal there is no variance of q
    assert bool((raw_scale != 0).all()) == moves_scale


def test_the_peers_centring_over_the_dimensions_is_another_number(correlated):
    # AntixK/PyTorch-VAE, models/dip_vae.py: mu - mu.mean(dim=1), and a product that nothing divides
    centred = correlated - correlated.mean(dim=1, keepdim=True)
    theirs, ours = centred.T @ centred, covariance(correlated)
    assert not torch.allclose(theirs, ours, rtol=0.05)
    assert not torch.allclose(theirs / len(correlated), ours, rtol=0.05)


def test_the_peers_diagonal_of_the_matrix_of_variances_is_another_number(x):
    # nmichlo/disent, _unsupervised__dipvae.py: torch.diag of [B, D] is some of its entries, no matrix, and their
    # mean is one number that is added to all of the covariance
    model = model_of(DIPVAE2)
    with torch.no_grad():
        q = model.posterior(x)
        theirs = covariance(q.mean) + torch.diag(q.variance).mean()
        ours = model.moments(q)
    off = ~torch.eye(D, dtype=torch.bool)
    torch.testing.assert_close(ours[off], covariance(q.mean)[off])
    assert (theirs[off] - ours[off] > 0.1).all()


@both
def test_the_penalties_stay_as_they_are_when_every_picture_stands_twice(kind, x):
    once, twice = (drawn(kind, pictures) for pictures in (x, x.repeat_interleave(2, 0)))
    for term in ("off-diagonal", "diagonal"):
        torch.testing.assert_close(twice[term], once[term], rtol=1e-4, atol=0)
