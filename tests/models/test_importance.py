import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.distributions import Independent, MultivariateNormal, Normal

from lvmbench import Batch, Schema, UsageError, bounds, build, elbo, iwae_bound, log_weights
from lvmbench.descent import Descent, objective
from lvmbench.options import resolve
from lvmbench.randomness import noise
from lvmbench.vae import SCALE_GAIN, SIGMA_FLOOR
from lvmbench_models.importance import CIWAE, IWAE, MIWAE, PIWAE
from lvmbench_models.vae import VAE
from tests_support import slopes, total

SCHEMA = Schema((1, 2, 3), "gaussian")
D, PIXELS, NOISE = 2, 6, 0.5
GRADIENTS = ("iwae", "dreg", "stl")
DRAWS = 20_000
EVERY = [
    (IWAE, {"gradient": "iwae"}),
    (IWAE, {"gradient": "dreg"}),
    (IWAE, {"gradient": "stl"}),
    (MIWAE, {"m": 3}),
    (CIWAE, {"beta": 0.3}),
]
ONE_DRAW = [*EVERY[:3], (MIWAE, {"m": 1}), (CIWAE, {"beta": 0.3})]


class LinearGaussian:
    """Mixed into a model: z ~ N(0, I), x|z ~ N(W z, s² I), q affine in x: log p(x) and p(z|x) have closed forms.

    q has the scale of p(z|x) times 1 + ``blur``, and its mean plus ``shift``: exact where both are 0.
    """

    def __init__(self, schema, *, blur=0.0, shift=0.0, **options):
        super().__init__(schema, latent_dim=D, net="mlp", **options)
        # the columns of W are orthogonal, so that p(z|x) is diagonal
        drawn = torch.randn(PIXELS, D, generator=torch.Generator().manual_seed(1)).double()
        W, variance = 1.5 * torch.linalg.qr(drawn).Q, 1 / (1 + 1.5**2 / NOISE**2)
        sigma = torch.full((D,), math.sqrt(variance) * (1 + blur)).double() - SIGMA_FLOOR
        affine = nn.Linear(PIXELS, 2 * D)
        self.decoder = nn.Linear(D, PIXELS, bias=False)
        self.encoder = nn.Sequential(nn.Flatten(), affine)
        self.double()
        with torch.no_grad():
            self.scale.raw.fill_(math.log(NOISE) / SCALE_GAIN)
            self.decoder.weight.copy_(W)
            affine.weight.copy_(torch.cat([W.T * variance / NOISE**2, torch.zeros(D, PIXELS)]))
            affine.bias.copy_(torch.cat([torch.full((D,), shift), sigma.expm1().log()]))  # softplus backwards

    def decode(self, z):
        return Independent(Normal(self.decoder(z).unflatten(-1, SCHEMA.shape), self.scale().exp()), 3)

    @torch.no_grad()
    def log_prob(self, x):
        W, s = self.decoder.weight, self.scale().exp()
        covariance = W @ W.T + s**2 * torch.eye(PIXELS)
        return MultivariateNormal(torch.zeros(PIXELS).double(), covariance).log_prob(x.flatten(1))


def linear(kind, **options):
    return type(f"Linear{kind.__name__}", (LinearGaussian, kind), {})(SCHEMA, **options)


def told(given):
    return given.__name__ if isinstance(given, type) else "".join(f"{k}={v}" for k, v in given.items())


def pictures(n):
    model = linear(VAE)
    with torch.no_grad():
        return model.decode(model.prior().sample((n,))).sample()


def batch_of(x):
    return Batch(x, torch.zeros(len(x), 0))


def loss_of(model, x, seed=7):
    """Return the loss whole, under the draws of a seed."""
    with noise(seed):
        return total(model.loss(x))


def log_w_of(model, x, k, seed=7):
    """Return the log weights that a loss sees under the same seed."""
    with noise(seed):
        return log_weights(model, x, k)


def gradient(loss, parameters):
    return torch.autograd.grad(total(loss).mean(), list(parameters), retain_graph=True)


def encoder_gradients(model, x, draws, loss=None):
    """Return the gradient of the mean loss by all weights of the encoder, for each draw by itself: [draws, P]."""
    seen = []
    hook = model.encoder.register_forward_hook(lambda module, given, out: seen.append(out))
    value = (loss or model.loss)(x.repeat(draws, 1, 1, 1))
    hook.remove()
    # the last layer is affine: its weights' gradient is that of its outputs times its inputs
    (outputs,) = torch.autograd.grad(total(value).sum(), seen)
    inputs = torch.cat([x.flatten(1), torch.ones(len(x), 1)], 1)
    return torch.einsum("nbo,bp->nop", outputs.unflatten(0, (draws, len(x))), inputs).flatten(1) / len(x)


def interval(samples, blocks=200, replicates=1_000):
    """Return five bootstrap standard errors to each side of the mean over draws: [draws, P] -> [P], [P]."""
    means = samples.unflatten(0, (blocks, -1)).mean(1)
    drawn = means[torch.randint(blocks, (replicates, blocks))].mean(1)
    return drawn.mean(0) - 5 * drawn.std(0), drawn.mean(0) + 5 * drawn.std(0)


def covers_zero(samples):
    low, high = interval(samples)
    return (low <= 0) & (high >= 0)


def powered(model, power):
    """Return the encoder's loss -sum_i w~_i^power log w_i, the weights and q's own parameters held."""

    def loss(x):
        q = model.posterior(x)
        z = q.rsample((model.k,))
        held = Normal(q.mean.detach(), q.stddev.detach())
        log_w = model.decode(z).log_prob(x) + model.prior().log_prob(z) - held.log_prob(z).sum(-1)
        return -(log_w.detach().softmax(0) ** power * log_w).sum(0)

    return loss


class Drawn:
    """Mixed into a model: its log weights are N(0, 3²), whatever x is, so that log E[w] = 4.5."""

    def log_weights(self, x, k):
        return 3 * torch.randn(k, len(x))


def drawn(kind, rows=20_000, **options):
    model = type(f"Drawn{kind.__name__}", (Drawn, kind), {})(SCHEMA, net="mlp", **options)
    return loss_of(model, torch.zeros(rows, *SCHEMA.shape))


# The bound


@pytest.mark.parametrize("k", [1, 2, 7, 50])
@pytest.mark.parametrize(("kind", "options"), EVERY, ids=told)
def test_at_the_exact_posterior_every_loss_is_minus_log_p_of_x(kind, options, k):
    model, x = linear(kind, k=k, **options), pictures(5)
    torch.testing.assert_close(loss_of(model, x), -model.log_prob(x))


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_losses_fall_with_the_draws_and_never_under_minus_log_p_of_x(gradient):
    x = pictures(2_000)
    models = [linear(IWAE, k=k, gradient=gradient, blur=0.5, shift=0.4) for k in (1, 2, 16, 256)]
    with torch.no_grad():
        values = [float(loss_of(model, x).mean()) for model in models]
    exact = -float(models[0].log_prob(x).mean())
    assert values == sorted(values, reverse=True)
    assert values[0] > exact + 0.3
    assert exact - 0.005 < values[-1] < exact + 0.02


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_loss_of_many_draws_meets_minus_log_p_of_x_row_by_row(gradient):
    model, x = linear(IWAE, k=50_000, gradient=gradient, blur=0.5, shift=0.4), pictures(3)
    with torch.no_grad():
        torch.testing.assert_close(loss_of(model, x), -model.log_prob(x), atol=0.02, rtol=0)


def test_at_the_exact_posterior_both_losses_of_piwae_are_minus_log_p_of_x():
    model, x = linear(PIWAE, m=3, k=4), pictures(5)
    for loss in model.losses(batch_of(x), 0.5).values():
        torch.testing.assert_close(loss, -model.log_prob(x))


@pytest.mark.parametrize(("kind", "options"), ONE_DRAW, ids=told)
def test_one_draw_makes_every_loss_minus_the_elbo_of_that_draw(kind, options):
    model, x = linear(kind, k=1, blur=0.5, shift=0.4, **options), pictures(9)
    expected = -elbo(log_w_of(linear(VAE, blur=0.5, shift=0.4), x, 1))
    torch.testing.assert_close(loss_of(model, x), expected, rtol=1e-14, atol=0)


def test_one_draw_makes_the_mean_loss_that_of_the_vae():
    x = pictures(2).repeat(4_000, 1, 1, 1)
    ours, vae = linear(IWAE, k=1, blur=0.5, shift=0.4), linear(VAE, blur=0.5, shift=0.4)
    apart = loss_of(ours, x) - loss_of(vae, x, seed=8)
    assert abs(apart.mean()) < 4 * apart.std() / math.sqrt(len(x))


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_loss_is_minus_the_bound_that_the_bench_reports_of_the_same_draws(gradient):
    model, x = linear(IWAE, k=8, gradient=gradient, blur=0.5), pictures(4)
    with torch.no_grad(), noise(7):
        reported = bounds(model, x, 8).iwae
    torch.testing.assert_close(-loss_of(model, x).float(), reported)


def test_the_three_gradients_have_one_value():
    x = pictures(4)
    iwae, dreg, stl = (loss_of(linear(IWAE, k=6, gradient=g, blur=0.5, shift=0.4), x) for g in GRADIENTS)
    assert torch.equal(iwae, dreg)
    assert torch.equal(iwae, stl)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_loss_has_its_value_without_gradients_too(gradient):
    model, x = linear(IWAE, k=6, gradient=gradient, blur=0.5), pictures(4)
    with torch.no_grad():
        held = loss_of(model, x)
    assert torch.equal(held, loss_of(model, x).detach())


@pytest.mark.parametrize(("k", "published"), [(5, 2.229), (10, 2.786), (50, 3.627)])
def test_the_bound_has_its_published_values_for_normal_log_weights(k, published):
    assert -float(drawn(IWAE, k=k).mean()) == pytest.approx(published, abs=0.05)
    assert -float(drawn(MIWAE, 5_000, m=4, k=k).mean()) == pytest.approx(published, abs=0.05)
    assert -float(drawn(CIWAE, k=k, beta=0.25).mean()) == pytest.approx(0.75 * published, abs=0.05)


def weighted_mean_of_logs(log_w):
    """Return what pythae reports: sum_i w~_i log w_i."""
    return (log_w.softmax(0) * log_w).sum(0)


@pytest.mark.parametrize(
    ("kind", "options"),
    [*((IWAE, {"k": 50, "gradient": g}) for g in GRADIENTS), (MIWAE, {"m": 2, "k": 25})],
)
def test_a_value_is_the_bound_and_not_the_weighted_mean_of_logs_which_passes_log_p_of_x(kind, options):
    model, x = linear(kind, blur=1.0, shift=0.4, **options), pictures(500)
    exact, log_w = model.log_prob(x).mean(), log_w_of(model, x, 50)
    with torch.no_grad():
        assert weighted_mean_of_logs(log_w).mean() > exact + 0.1
        assert -loss_of(model, x).mean() < exact


def test_the_blend_too_takes_the_bound_and_not_the_weighted_mean_of_logs():
    model, x = linear(CIWAE, beta=0.05, k=50, blur=1.0, shift=0.4), pictures(500)
    exact, log_w = model.log_prob(x).mean(), log_w_of(model, x, 50)
    with torch.no_grad():
        assert (0.05 * elbo(log_w) + 0.95 * weighted_mean_of_logs(log_w)).mean() > exact
        assert -loss_of(model, x).mean() < exact


def test_other_ways_to_average_are_told_from_the_bound():
    x = torch.zeros(20_000, *SCHEMA.shape)
    with noise(7):
        log_w = 3 * torch.randn(50, len(x))
    ours = float(-drawn(IWAE, k=50).mean())
    assert ours == pytest.approx(float(log_w.double().exp().mean(0).log().mean()), abs=1e-5)
    of_logs = log_w.mean(0).mean()
    without_log_k = log_w.logsumexp(0).mean()
    over_the_batch = (log_w.logsumexp(1) - math.log(len(x))).mean()
    weighted = weighted_mean_of_logs(log_w).mean()
    for wrong in (of_logs, without_log_k, over_the_batch, weighted):
        assert abs(float(wrong) - ours) > 0.5


def test_the_best_draw_has_the_largest_share_of_the_gradient():
    log_w = torch.tensor([[0.0], [2.0], [-3.0]], requires_grad=True)  # the second draw is the best

    class Given(IWAE):
        def log_weights(self, x, k):
            return log_w

    model = Given(SCHEMA, net="mlp", k=3)
    (share,) = torch.autograd.grad(-model.loss(torch.zeros(1, *SCHEMA.shape)).sum(), log_w)
    e = [math.exp(v) for v in (0.0, 2.0, -3.0)]
    assert share.flatten().tolist() == pytest.approx([v / sum(e) for v in e])
    of_the_loss = (-log_w).softmax(0)  # PyTorch-VAE: what is weighed is the loss
    assert share.argmax() == 1
    assert of_the_loss.argmax() == 2


# Gradients of the encoder and the decoder


def test_the_gradients_of_many_draws_at_once_are_those_of_autograd():
    model, x = linear(IWAE, k=3, gradient="dreg", blur=0.5, shift=0.4), pictures(3)
    with noise(0):
        found = encoder_gradients(model, x, 1)[0]
    weight, bias = gradient(loss_of(model, x, 0), model.encoder.parameters())
    torch.testing.assert_close(found, torch.cat([weight, bias[:, None]], 1).flatten())


def gradients_of(name, k, x, **start):
    """Return the gradients of the encoder's weights under many draws, the same ones for each name."""
    model = linear(IWAE, k=k, gradient=name, **start)
    with noise(3):
        return encoder_gradients(model, x, DRAWS)


def test_dreg_has_the_gradient_of_the_bound_in_expectation_and_less_variance():
    x = pictures(3)
    iwae, dreg = (gradients_of(name, 5, x, blur=0.5, shift=0.4) for name in ("iwae", "dreg"))
    assert covers_zero(dreg - iwae).all()
    assert not covers_zero(iwae).all()  # there is something to agree on
    assert dreg.var(0).sum() < 0.5 * iwae.var(0).sum()


@pytest.mark.parametrize("power", [1, 3])
def test_another_power_of_the_weights_is_another_gradient(power):
    x, start = pictures(3), {"blur": 0.5, "shift": 0.4}
    iwae, model = gradients_of("iwae", 5, x, **start), linear(IWAE, k=5, **start)
    with noise(3):
        wrong = encoder_gradients(model, x, DRAWS, powered(model, power))
        right = encoder_gradients(model, x, DRAWS, powered(model, 2))
    assert not covers_zero(wrong - iwae).all()
    assert covers_zero(right - iwae).all()


def test_stl_has_the_gradient_of_the_elbo_in_expectation_for_one_draw():
    x = pictures(3)
    iwae, stl = (gradients_of(name, 1, x, blur=0.5, shift=0.4) for name in ("iwae", "stl"))
    assert covers_zero(stl - iwae).all()
    assert not torch.allclose(stl, iwae)


def test_stl_is_biased_for_more_draws():
    x = pictures(3)
    iwae, stl = (gradients_of(name, 5, x, blur=0.5, shift=0.4) for name in ("iwae", "stl"))
    assert not covers_zero(stl - iwae).all()


def test_at_the_exact_posterior_dreg_and_stl_are_without_variance_and_iwae_is_not():
    x = pictures(3)
    iwae, dreg, stl = (gradients_of(name, 5, x).var(0).sum() for name in GRADIENTS)
    assert iwae > 1
    assert dreg < 1e-12
    assert stl < 1e-12


def test_dreg_is_the_two_losses_of_its_paper():
    model, x = linear(IWAE, k=5, gradient="dreg", blur=0.5, shift=0.4), pictures(3)
    with noise(7):
        explicit = powered(model, 2)(x)
    expected = gradient(explicit, model.encoder.parameters())
    found = gradient(loss_of(model, x), model.encoder.parameters())
    torch.testing.assert_close(found, expected)


def test_stl_is_the_bound_with_q_held():
    model, x = linear(IWAE, k=5, gradient="stl", blur=0.5, shift=0.4), pictures(3)
    with noise(7):
        explicit = powered(model, 1)(x)  # sum_i w~_i d log w_i is the gradient of the log of the mean
    expected = gradient(explicit, model.encoder.parameters())
    torch.testing.assert_close(gradient(loss_of(model, x), model.encoder.parameters()), expected)


@pytest.mark.parametrize("other", ["dreg", "stl"])
def test_the_decoders_gradient_is_the_bounds_own_on_the_same_draws(other):
    x = pictures(3)
    iwae, ours = (linear(IWAE, k=5, gradient=name, blur=0.5, shift=0.4) for name in ("iwae", other))

    def of_the_decoder(model):
        return gradient(loss_of(model, x), [model.decoder.weight, model.scale.raw])

    torch.testing.assert_close(of_the_decoder(ours), of_the_decoder(iwae), rtol=0, atol=1e-12)


def test_dreg_takes_each_weight_from_the_draws_of_its_own_row():
    model, x = linear(IWAE, k=5, gradient="dreg", blur=0.5, shift=0.4), pictures(3)
    seen = []
    model.encoder.register_forward_hook(lambda module, given, out: seen.append(out))
    (outputs,) = torch.autograd.grad(loss_of(model, x)[1], seen)
    assert (outputs[1] != 0).all()
    assert (outputs[[0, 2]] == 0).all()


# MIWAE, PIWAE and CIWAE


def test_one_set_of_draws_makes_miwae_the_iwae_bit_for_bit():
    x = pictures(4)
    ours, iwae = (linear(kind, k=8, blur=0.5, **o) for kind, o in ((MIWAE, {"m": 1}), (IWAE, {})))
    assert torch.equal(loss_of(ours, x), loss_of(iwae, x))


def test_sets_of_one_draw_make_miwae_the_elbo_of_the_vae_bit_for_bit():
    x = pictures(4)
    ours, vae = linear(MIWAE, m=8, k=1, blur=0.5), linear(VAE, blur=0.5)
    assert torch.equal(loss_of(ours, x), -elbo(log_w_of(vae, x, 8)))


def test_more_draws_in_fewer_sets_are_a_tighter_bound_and_swapped_axes_are_not():
    x, start = pictures(50), {"blur": 1.0, "shift": 0.4}
    shapes = [(64, 1), (16, 4), (8, 8), (4, 16), (1, 64)]
    losses = [loss_of(linear(MIWAE, m=m, k=k, **start), x) for m, k in shapes]
    # on the same draws the order holds row by row: every set is made of whole smaller ones
    assert all((a > b).all() for a, b in pairwise(losses))
    log_w = log_w_of(linear(MIWAE, **start), x, 64)
    swapped = [-iwae_bound(log_w.unflatten(0, shape)).mean(0) for shape in shapes]  # pythae
    assert all((a < b).all() for a, b in pairwise(swapped))


def test_miwae_is_the_mean_over_sets_of_the_log_of_the_mean_within_one():
    model, x = linear(MIWAE, m=3, k=2, blur=0.5), pictures(4)
    w = log_w_of(model, x, 6).exp().tolist()
    expected = [
        -sum(math.log((w[2 * i][b] + w[2 * i + 1][b]) / 2) for i in range(3)) / 3 for b in range(len(x))
    ]
    assert loss_of(model, x).tolist() == pytest.approx(expected)


def coupled(model, x):
    """Return what pythae's trainer leaves: both losses backwards, only the decoder zeroed between them."""
    with noise(7):
        losses = model.losses(batch_of(x), 0.5)
    losses["encoder"].mean().backward(retain_graph=True)
    model.decoder.zero_grad()
    losses["decoder"].mean().backward()
    return [p.grad for p in model.encoder.parameters()]


def test_piwae_gives_the_encoder_miwaes_gradient_and_the_decoder_that_of_all_draws():
    x, start = pictures(4), {"blur": 0.5, "shift": 0.4}
    model = linear(PIWAE, m=3, k=4, **start)
    groups, losses = objective(model)
    with noise(7):
        terms = losses(batch_of(x), 0.5)
    found = {name: gradient(terms[name], group.parameters) for name, group in groups.items()}
    miwae, iwae = linear(MIWAE, m=3, k=4, **start), linear(IWAE, k=12, **start)
    expected = {
        "encoder": gradient(loss_of(miwae, x), miwae.encoder.parameters()),
        "decoder": gradient(loss_of(iwae, x), [iwae.decoder.weight, iwae.scale.raw]),
    }
    torch.testing.assert_close(found, expected)
    swapped = linear(PIWAE, m=4, k=3, **start)
    assert not torch.allclose(
        gradient(loss_of(swapped, x), swapped.encoder.parameters())[0], found["encoder"][0]
    )


def test_a_step_of_piwae_moves_the_encoder_by_its_own_objective_only():
    x, start = pictures(4), {"blur": 0.5, "shift": 0.4}

    def stepped(kind, **options):
        model = linear(kind, **options, **start)
        descent = Descent(*objective(model), 0.01)
        with noise(7):
            descent.step(batch_of(x), 0.5, 1.0)
        found = {p: g for adam in descent.optimisers.values() for p, g in slopes(adam).items()}
        return model, [found[p] for p in model.encoder.parameters()]

    (model, gradients), (miwae, others) = stepped(PIWAE, m=3, k=4), stepped(MIWAE, m=3, k=4)
    iwae, _ = stepped(IWAE, k=12)
    torch.testing.assert_close(gradients, others)
    torch.testing.assert_close(model.encoder.state_dict(), miwae.encoder.state_dict())
    torch.testing.assert_close(model.decoder.state_dict(), iwae.decoder.state_dict())
    torch.testing.assert_close(model.scale.state_dict(), iwae.scale.state_dict())
    assert not torch.equal(model.decoder.weight, linear(PIWAE, **start).decoder.weight)
    for ours, theirs in zip(gradients, coupled(linear(PIWAE, m=3, k=4, **start), x), strict=True):
        assert ((theirs - ours).abs() > 0.05 * ours.abs()).any()


def test_the_groups_of_piwae_are_all_of_its_weights_once():
    model = build(PIWAE, Schema((1, 8, 8), "gaussian"), {"net": "mlp"}, 0)
    groups, _ = objective(model)
    grouped = [id(p) for group in groups.values() for p in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())
    assert list(groups) == ["decoder", "encoder"]  # the learning curve is the bound of all draws


@pytest.mark.parametrize("beta", [0.0, 0.05, 0.7, 1.0])
def test_ciwae_blends_elbo_and_bound_of_the_same_draws(beta):
    model, x = linear(CIWAE, beta=beta, k=6, blur=0.5), pictures(4)
    log_w = log_w_of(model, x, 6)
    expected = -(beta * log_w.mean(0) + (1 - beta) * log_w.exp().mean(0).log())
    torch.testing.assert_close(loss_of(model, x), expected)


def test_the_ends_of_ciwae_are_the_iwae_and_the_elbo_bit_for_bit():
    x = pictures(4)
    bound, whole = (loss_of(linear(CIWAE, beta=beta, k=6, blur=0.5), x) for beta in (0.0, 1.0))
    assert torch.equal(bound, loss_of(linear(IWAE, k=6, blur=0.5), x))
    assert torch.equal(whole, -elbo(log_w_of(linear(VAE, blur=0.5), x, 6)))


# Options


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (IWAE, {"k": 0}),
        (IWAE, {"gradient": "vimco"}),
        (IWAE, {"latent_dim": 0}),
        (MIWAE, {"m": 0}),
        (MIWAE, {"k": 0}),
        (PIWAE, {"m": 0}),
        (PIWAE, {"k": 0}),
        (CIWAE, {"beta": -0.1}),
        (CIWAE, {"beta": 1.1}),
        (CIWAE, {"k": 0}),
    ],
)
def test_options_out_of_range_are_refused_by_name(kind, options):
    with pytest.raises(UsageError, match=f"^model: {next(iter(options))} = "):
        resolve("model", kind, options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (IWAE, {"k": 1, "gradient": "stl"}),
        (MIWAE, {"m": 1, "k": 1}),
        (CIWAE, {"beta": 0.0}),
        (CIWAE, {"beta": 1.0}),
    ],
)
def test_options_at_the_edge_are_taken(kind, options):
    assert options.items() <= resolve("model", kind, options).items()


def test_the_defaults_are_those_of_the_papers():
    defaults = {kind: resolve("model", kind, {}) for kind in (IWAE, MIWAE, PIWAE, CIWAE)}
    assert (defaults[IWAE]["k"], defaults[IWAE]["gradient"]) == (5, "iwae")
    assert (
        (defaults[MIWAE]["m"], defaults[MIWAE]["k"]) == (defaults[PIWAE]["m"], defaults[PIWAE]["k"]) == (8, 8)
    )
    assert (defaults[CIWAE]["beta"], defaults[CIWAE]["k"]) == (0.05, 64)
