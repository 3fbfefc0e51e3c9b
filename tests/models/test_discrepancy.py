import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from lvmbench import Schema, UsageError, build
from lvmbench.catalog import Catalog
from lvmbench.options import resolve
from lvmbench.plan import plan
from lvmbench.protocols import capabilities
from lvmbench.spec import Spec
from lvmbench_models.discrepancy import WAE, InfoVAE, discrepancy

SCHEMA = Schema((1, 8, 8), "gaussian")
D = 2
each = pytest.mark.parametrize("kernel", ["imq", "rbf"])


def model_of(kind, schema=SCHEMA, **options):
    return build(kind, schema, {"latent_dim": D, "net": "mlp", **options}, 0)


@pytest.fixture
def x():
    return torch.rand(6, *SCHEMA.shape)


def kernel_by_hand(a, b, kernel):
    distance, width = sum((float(s) - float(t)) ** 2 for s, t in zip(a, b, strict=True)), 2 * len(a)
    if kernel == "rbf":
        return math.exp(-distance / width)
    return sum(s * width / (s * width + distance) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))


def mmd_by_hand(z, prior, kernel):
    """Return the U-statistic of Gretton et al. 2012, eq. 3, by double loops."""
    n = len(z)
    within = sum(
        kernel_by_hand(rows[i], rows[j], kernel) / (n * (n - 1))
        for rows in (z, prior)
        for i in range(n)
        for j in range(n)
        if i != j
    )
    return within - 2 * sum(kernel_by_hand(a, b, kernel) for a in z for b in prior) / n**2


@each
@pytest.mark.parametrize("dims", [1, 3])
def test_the_discrepancy_is_a_double_loop_over_pairs(kernel, dims):
    z, prior = 0.5 * torch.randn(5, dims) + 1, torch.randn(5, dims)
    assert discrepancy(z, prior, kernel).item() == pytest.approx(mmd_by_hand(z, prior, kernel), abs=1e-6)


def estimates(batch, kernel, n=1_000, shift=0.0):
    """Return the discrepancies of n pairs of samples of the prior, one of them shifted."""
    return torch.stack(
        [discrepancy(torch.randn(batch, D) + shift, torch.randn(batch, D), kernel) for _ in range(n)]
    )


@each
def test_it_is_nothing_in_the_mean_for_two_samples_of_the_prior(kernel):
    for batch in (2, 12):
        found = estimates(batch, kernel)
        assert abs(found.mean()) < 4 * found.std() / len(found) ** 0.5


@each
def test_its_mean_does_not_depend_on_the_size_of_the_batch(kernel):
    few, many = estimates(2, kernel, 2_000, shift=1.0), estimates(12, kernel, 500, shift=1.0)
    error = (few.var() / len(few) + many.var() / len(many)).sqrt()
    assert abs(few.mean() - many.mean()) < 4 * error
    assert many.mean() > 10 * many.std() / len(many) ** 0.5


@each
def test_it_grows_as_the_codes_move_away(kernel):
    means = [estimates(64, kernel, 50, shift).mean() for shift in (0.0, 0.5, 1.0, 2.0)]
    assert means == sorted(means)
    assert means[1] > 0.01


@each
def test_the_peers_statistic_without_the_diagonal_of_the_cross_term_is_another_number(kernel):
    # AntixK/PyTorch-VAE, models/info_vae.py: the diagonal is left out of the cross term too, and what is already
    # a mean is divided once more
    n = 5
    z, prior = torch.randn(n, D), torch.randn(n, D)
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]

    def theirs(a, b):
        return sum(kernel_by_hand(a[i], b[j], kernel) for i, j in pairs) / len(pairs)

    cross = theirs(z, z) + theirs(prior, prior) - 2 * theirs(z, prior)
    ours = discrepancy(z, prior, kernel).item()
    assert abs(ours - cross) > 0.01
    assert abs(ours - cross / len(pairs)) > 0.01


@pytest.mark.parametrize(("alpha", "lam"), [(0.0, 1e-3), (0.0, 1.0), (0.5, 0.03), (-5.0, 5.9)])
def test_a_discrepancy_that_would_be_maximised_is_refused_by_name(alpha, lam):
    with pytest.raises(UsageError, match=f"alpha={alpha:g} and lam={lam:g}"):
        model_of(InfoVAE, alpha=alpha, lam=lam)


def test_a_rate_that_would_be_maximised_is_refused_by_name():
    with pytest.raises(UsageError, match=r"alpha = 1\.5"):
        resolve("info-vae", InfoVAE, {"alpha": 1.5})


def test_a_plan_refuses_it_before_anything_is_trained():
    spec = Spec(models="info-vae(alpha=0.0,lam=0.5)", metrics="elbo", seeds=1, controls=False)
    with pytest.raises(UsageError, match=r"info-vae\(lam=0\.5\): alpha=0 and lam=0\.5 .* over 1"):
        plan(spec, Catalog.discover())
    good = Spec(models="info-vae(alpha=0.5,lam=0.6)", metrics="elbo", seeds=1, controls=False)
    assert len(plan(good, Catalog.discover()).cells) == 1


@each
def test_the_terms_of_info_vae_are_those_of_the_paper(kernel, x):
    model = model_of(InfoVAE, alpha=0.25, lam=3.0, kernel=kernel)
    torch.manual_seed(1)
    with torch.no_grad():
        loss = model.loss(x)
    torch.manual_seed(1)
    with torch.no_grad():
        q = model.posterior(x).base_dist
        z = q.rsample()
        prior = torch.normal(torch.zeros(6, D), torch.ones(6, D))
        rate = kl_divergence(Normal(q.loc, q.scale), Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(loss["distortion"], -model.decode(z).log_prob(x))
    assert set(loss) == {"distortion", "weighted rate", "weighted discrepancy"}
    torch.testing.assert_close(loss["weighted rate"], 0.75 * rate)
    assert loss["weighted discrepancy"].item() == pytest.approx(
        2.25 * mmd_by_hand(z, prior, kernel), rel=1e-4
    )


def test_at_alpha_of_one_there_is_no_rate(x):
    model = model_of(InfoVAE, alpha=1.0, lam=2.0)
    loss = model.loss(x)
    assert model.coefficient == 2
    assert not loss["weighted rate"].any()
    moved = torch.autograd.grad(loss["weighted rate"].sum(), list(model.encoder.parameters()))
    assert not any(gradient.any() for gradient in moved)


def test_the_discrepancy_moves_the_encoder(x):
    for kind in (InfoVAE, WAE):
        model = model_of(kind)
        moved = torch.autograd.grad(model.loss(x)["weighted discrepancy"], list(model.encoder.parameters()))
        assert all(gradient.any() for gradient in moved)


def test_a_wasserstein_autoencoder_offers_no_density_and_no_bound():
    has = capabilities(model_of(WAE))
    assert not {"density", "weigher", "log_weights", "log_prob"} & has
    assert {"codes", "decoder", "loss"} <= has


@each
@pytest.mark.parametrize("pixels", ["bernoulli", "gaussian"])
def test_the_loss_of_wae_is_a_squared_error_and_the_discrepancy(kernel, pixels, x):
    model, x = model_of(WAE, Schema(SCHEMA.shape, pixels), lam=7.0, kernel=kernel), x.round()
    torch.manual_seed(1)
    with torch.no_grad():
        loss = model.loss(x)
        z, prior = model.encode(x), torch.randn(len(x), D, generator=torch.Generator().manual_seed(1))
        outputs = model.decoder(z).double().numpy()
    error = (x.double().numpy() - 1 / (1 + np.exp(-outputs))) ** 2
    np.testing.assert_allclose(loss["squared error"], error.reshape(len(x), -1).sum(1), rtol=1e-4)
    assert loss["weighted discrepancy"].item() == pytest.approx(7 * mmd_by_hand(z, prior, kernel), rel=1e-4)
    scaled = {"scale"} if pixels == "gaussian" else set()
    assert set(loss) == {"squared error", "weighted discrepancy"} | scaled
    assert set(loss) - set(model.constraints) == {"squared error", "weighted discrepancy"}


def test_the_weight_of_wae_is_by_default_the_papers():
    model = model_of(WAE)
    assert (model.lam, model.kernel) == (10, "imq")


def moved_by(model, term):
    """Return the names of the parameters that a loss reaches."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(term.sum(), list(named.values()), retain_graph=True, allow_unused=True)
    return {name for name, gradient in zip(named, found, strict=True) if gradient is not None}


def test_the_scale_of_the_pixels_is_fitted_beside_wae_and_nothing_else_by_it(x):
    model = model_of(WAE)
    loss = model.loss(x)
    assert moved_by(model, loss["scale"]) == {"scale.raw"}
    assert "scale.raw" not in moved_by(model, loss["squared error"]) | moved_by(
        model, loss["weighted discrepancy"]
    )


def test_the_scale_of_wae_rests_where_its_likelihood_is_greatest(x):
    model = model_of(WAE)
    with torch.no_grad():
        error = (x - model.decode(model.encode(x)).mean).square().mean()
        for factor, sign in ((0.5, -1), (1.0, 0), (2.0, 1)):
            model.scale.raw.copy_((error * factor**2).sqrt().log() / 10)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(model.loss(x)["scale"].mean(), model.scale.raw)
            assert torch.sign(slope.round(decimals=1)) == sign
