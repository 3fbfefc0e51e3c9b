import math

import numpy as np
import pytest
import torch
from torch.distributions import kl_divergence

from lvmbench import Budget, NotApplicable, Schema, Split, UsageError, build, fit, rate_distortion
from lvmbench.options import resolve
from lvmbench.pixels import SCALE_FLOOR
from lvmbench.randomness import noise
from lvmbench.vae import SCALE_GAIN
from lvmbench_models.vae import VAE, AnnealedVAE, Autoencoder, BetaVAE, SigmaVAE
from tests_support import total

SCHEMA = Schema((1, 4, 4), "bernoulli")
GREY = Schema((1, 4, 4), "gaussian")
BUDGET = Budget(images=320, batch=16, train=40, val=20)  # 20 steps, in 8 passes over the data


def made(kind, schema=SCHEMA, **options):
    return build(kind, schema, {"latent_dim": 3, "net": "mlp"} | options, 0)


def x():
    return torch.rand(4, *SCHEMA.shape).round()


def terms_of(model, rows, seed=5, **told):
    with noise(seed):
        return model.loss(rows, **told)


def loss_of(model, rows, seed=5, **told):
    return total(terms_of(model, rows, seed, **told))


def parts_of(model, rows, seed=5):
    """Return the rate and the distortion of the draw that a loss sees under the same seed."""
    with noise(seed):
        return rate_distortion(model, rows)


def gradients(loss, model):
    return torch.autograd.grad(loss.mean(), [*model.encoder.parameters(), *model.decoder.parameters()])


def split(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *GREY.shape), generator=generator).to(torch.uint8)
    return Split(images, torch.zeros(n, 0), torch.arange(n))


def fitted(kind, **options):
    model = made(kind, GREY, **options)
    fit(model, split(40, 0), split(20, 1), BUDGET, GREY, seed=0)
    return model


# beta-VAE


def test_beta_of_one_is_the_vae_bit_for_bit():
    rows, vae, ours = x(), made(VAE), made(BetaVAE, beta=1.0)
    assert torch.equal(loss_of(ours, rows), loss_of(vae, rows))
    theirs = gradients(loss_of(vae, rows), vae)
    assert all(torch.equal(a, b) for a, b in zip(gradients(loss_of(ours, rows), ours), theirs, strict=True))


def test_beta_weighs_the_rate_and_nothing_else():
    rows, four, one = x(), made(BetaVAE, beta=4.0), made(BetaVAE, beta=1.0)
    rate = kl_divergence(one.posterior(rows), one.prior())
    torch.testing.assert_close(loss_of(four, rows) - loss_of(one, rows), 3 * rate)
    assert torch.equal(terms_of(four, rows)["distortion"], terms_of(one, rows)["distortion"])


def test_a_beta_vae_is_by_default_not_a_vae():
    assert made(BetaVAE).beta == 4


# Annealed capacity


def test_the_distance_from_capacity_is_a_constraint_and_no_part_of_the_curve():
    terms = made(AnnealedVAE).loss(x())
    assert set(AnnealedVAE.constraints) < set(terms)
    assert set(terms) - set(AnnealedVAE.constraints) == {"distortion"}


def test_capacity_grows_linearly_and_stays_where_it_ends():
    model = made(AnnealedVAE, capacity=20.0, anneal=0.25)
    found = [model.capacity_at(p) for p in (0, 0.05, 0.125, 0.2, 0.25, 0.3, 0.9, 1)]
    assert found == pytest.approx([0, 4, 10, 16, 20, 20, 20, 20])
    assert model.capacity_at(0.25) == model.capacity_at(1.0) == 20


def test_a_capacity_may_grow_to_the_very_end():
    model = made(AnnealedVAE, capacity=20.0, anneal=1.0)
    assert [model.capacity_at(p) for p in (0.5, 1.0)] == [10, 20]


@pytest.mark.parametrize("progress", [0.0, 0.02, 1.0])
def test_the_mean_rate_is_held_at_the_capacity_of_the_moment(progress):
    model, rows = made(AnnealedVAE, gamma=7.0), x()
    rate, distortion = parts_of(model, rows)
    capacity = 25 * min(1, 3 * progress)
    found = terms_of(model, rows, progress=progress)
    assert torch.equal(found["distortion"], distortion)
    expected = 7 * abs(rate.mean().item() - capacity)
    assert found["distance from capacity"].item() == pytest.approx(expected, rel=1e-5)


def test_rates_to_both_sides_of_the_capacity_make_up_for_each_other():
    model, rows = made(AnnealedVAE, gamma=1.0), x()
    rate, _ = parts_of(model, rows)
    model.capacity = rate.mean().item()
    assert terms_of(model, rows)["distance from capacity"].item() == pytest.approx(0, abs=1e-4)
    assert (rate - rate.mean()).abs().mean() > 0.1  # pythae: |KL_i - C| of each picture by itself


@pytest.mark.parametrize("above", [True, False])
def test_a_rate_off_its_capacity_is_drawn_towards_it(above):
    model, rows = made(AnnealedVAE), x()
    rate, _ = parts_of(model, rows)
    model.capacity = rate.mean().item() * (0.5 if above else 2)
    bias = model.encoder[-1].bias
    (by_rate,) = torch.autograd.grad(rate.mean(), bias)
    (found,) = torch.autograd.grad(terms_of(model, rows)["distance from capacity"], bias)
    torch.testing.assert_close(found, (1 if above else -1) * model.gamma * by_rate, rtol=1e-4, atol=0)


def test_without_being_told_of_progress_the_loss_is_the_last_one():
    model, rows = made(AnnealedVAE), x()
    assert torch.equal(loss_of(model, rows), loss_of(model, rows, progress=1.0))
    assert not torch.equal(loss_of(model, rows), loss_of(model, rows, progress=0.0))


class Recording(AnnealedVAE):
    """Keeps what it hears of progress."""

    def __init__(self, schema, **options):
        super().__init__(schema, **options)
        self.heard = {True: [], False: []}

    def loss(self, x, progress=1.0):
        self.heard[self.training].append(progress)
        return super().loss(x, progress)


def test_the_engine_counts_steps_over_all_epochs_and_never_begins_again():
    heard = fitted(Recording).heard
    assert heard[True] == pytest.approx([(step + 0.5) / 20 for step in range(20)])
    assert set(heard[False]) == {1.0}  # every look at the validation data is at the last capacity


# sigma-VAE


def in_numpy(model, rows, seed=5):
    """Return the mean squared error of one draw, and the closed-form rate of each picture."""
    with torch.no_grad(), noise(seed):
        q = model.posterior(rows)
        mu, sigma = q.mean.double().numpy(), q.stddev.double().numpy()
        z = mu + sigma * torch.randn(mu.shape).numpy()
        outputs = model.decoder(torch.tensor(z).float()).double().numpy()
    error = np.mean((rows.numpy() - 1 / (1 + np.exp(-outputs))) ** 2)
    return error, 0.5 * np.sum(mu**2 + sigma**2 - 1 - 2 * np.log(sigma), axis=1)


def test_its_distortion_is_half_d_log_two_pi_e_mse_above_the_floor():
    model, rows, d = made(SigmaVAE, GREY), torch.rand(4, *GREY.shape), GREY.dims
    error, rate = in_numpy(model, rows)
    assert error > 1000 * SCALE_FLOOR**2  # (1/256)² of one grey level is added to what is measured
    found = terms_of(model, rows)
    expected = d / 2 * math.log(2 * math.pi * math.e * error)
    assert found["distortion"].mean().item() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(found["rate"].detach().numpy(), rate, rtol=1e-4)
    assert loss_of(model, rows).mean().item() == pytest.approx(expected + rate.mean(), rel=1e-5)


def test_the_scale_has_a_floor_of_one_grey_level():
    model, d = made(SigmaVAE, GREY), GREY.dims
    rows = torch.full((4, *GREY.shape), 0.5)
    with torch.no_grad():  # a decoder that is right about every pixel
        model.decoder[-2].weight.zero_()
        model.decoder[-2].bias.zero_()
    expected = d / 2 * math.log(2 * math.pi * SCALE_FLOOR**2)
    assert terms_of(model, rows)["distortion"].mean().item() == pytest.approx(expected, rel=1e-5)


def test_each_picture_has_its_own_error_under_the_scale_of_all():
    model, rows = made(SigmaVAE, GREY), torch.rand(4, *GREY.shape)
    with noise(5):
        z = model.posterior(rows).rsample()
    error = (rows - model.decoder(z).sigmoid()).square().flatten(1)
    variance = error.mean() + SCALE_FLOOR**2
    expected = error.sum(1) / (2 * variance) + GREY.dims / 2 * (2 * math.pi * variance).log()
    torch.testing.assert_close(terms_of(model, rows)["distortion"], expected)


def test_its_gradient_is_that_of_a_vae_whose_scale_is_the_best_for_the_batch():
    model, vae, rows = made(SigmaVAE, GREY), made(VAE, GREY), torch.rand(4, *GREY.shape)
    error, _ = in_numpy(model, rows)
    with torch.no_grad():
        vae.scale.raw.fill_(math.log(error) / 2 / SCALE_GAIN)
    best, theirs = loss_of(vae, rows), gradients(loss_of(vae, rows), vae)
    assert torch.autograd.grad(best.mean(), vae.scale.raw)[0].abs() < 0.1  # flat, there, but for the floor
    ours = gradients(loss_of(model, rows), model)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() < 1e-3 * b.norm()
    with torch.no_grad():
        vae.scale.raw += math.log(1.2) / SCALE_GAIN
    for a, b in zip(ours, gradients(loss_of(vae, rows), vae), strict=True):
        assert (a - b).norm() > 1e-2 * b.norm()


def test_pixels_without_a_scale_are_refused():
    with pytest.raises(NotApplicable, match="bernoulli pixels have no scale"):
        made(SigmaVAE)


class Watched(SigmaVAE):
    """Keeps the mean squared error of every training step."""

    def __init__(self, schema, **options):
        super().__init__(schema, **options)
        self.errors, self.outputs = [], []
        self.decoder.register_forward_hook(lambda module, given, out: self.outputs.append(out.detach()))

    def loss(self, x):
        found = super().loss(x)
        if self.training:
            self.errors.append(float((x - self.outputs[-1].sigmoid()).square().mean()))
        return found


def test_decoding_uses_the_moving_average_of_the_training_batches():
    model = fitted(Watched)
    assert len(model.errors) == 20
    variance = 0.25**2
    for error in model.errors:
        variance = SigmaVAE.memory * variance + (1 - SigmaVAE.memory) * error
    scale = model.decode(torch.zeros(2, 3)).base_dist.scale
    assert scale.unique().item() ** 2 == pytest.approx(variance + SCALE_FLOOR**2, rel=1e-4)
    assert abs(variance - 0.25**2) > 1e-3
    assert "variance" in model.state_dict()


def test_a_look_at_other_data_leaves_the_scale_alone():
    model = made(SigmaVAE, GREY)
    rows = torch.rand(4, *GREY.shape)
    error, _ = in_numpy(model, rows)
    after = SigmaVAE.memory * 0.25**2 + (1 - SigmaVAE.memory) * error
    loss_of(model.train(), rows)
    loss_of(model.eval(), torch.zeros(4, *GREY.shape))
    model.after_step()
    assert model.variance.item() == pytest.approx(after)


def test_its_scale_is_no_weight_of_the_optimiser():
    model = made(SigmaVAE, GREY)
    assert not [name for name, p in model.named_parameters() if p.requires_grad and "scale" in name]
    assert torch.equal(fitted(SigmaVAE).scale.raw, model.scale.raw)


# Options


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Autoencoder, {"latent_dim": 0}),
        (VAE, {"latent_dim": 0}),
        (BetaVAE, {"beta": 0}),
        (BetaVAE, {"beta": -1.0}),
        (AnnealedVAE, {"capacity": 0}),
        (AnnealedVAE, {"gamma": 0}),
        (AnnealedVAE, {"anneal": 0}),
        (AnnealedVAE, {"anneal": 1.1}),
        (SigmaVAE, {"latent_dim": 0}),
    ],
)
def test_options_out_of_range_are_refused_by_name(kind, options):
    with pytest.raises(UsageError, match=f"^model: {next(iter(options))} = "):
        resolve("model", kind, options)


def test_the_defaults_are_those_of_the_papers():
    assert resolve("model", BetaVAE, {})["beta"] == 4
    annealed = resolve("model", AnnealedVAE, {})
    assert [annealed[name] for name in ("capacity", "gamma", "anneal")] == [25, 1000, 1 / 3]
