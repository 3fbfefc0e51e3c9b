import math
from itertools import permutations, product

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal
from torch.nn.functional import binary_cross_entropy_with_logits

from lvmbench import Batch, ParameterGroup, Schema, Split, UsageError
from lvmbench.descent import Descent, objective
from lvmbench.options import resolve
from lvmbench.randomness import noise
from lvmbench_models import correlation
from lvmbench_models.correlation import BetaTCVAE, FactorVAE, permuted, stratified, weighted
from lvmbench_models.vae import VAE
from tests_support import slopes, total

SPREAD = math.sqrt(0.1)  # of each posterior in the toy of reference/models.md, 4.8


class Shown:
    """Mixed into a model: a picture is its own posterior mean, [B, 1, 1, D], and the spread is the same for all."""

    spread = SPREAD

    def posterior(self, x):
        return Independent(Normal(x.flatten(1), torch.full_like(x.flatten(1), self.spread)), 1)


def built(kind, dims, seed=0, **options):
    with noise(seed):
        return kind(Schema((1, 1, dims), "gaussian"), latent_dim=dims, net="mlp", **options).double()


def shown(kind, dims, **options):
    return built(type(f"Shown{kind.__name__}", (Shown, kind), {}), dims, **options)


def of_rows(model, rows):
    """Return the model as it is after a look at so many training pictures."""
    model.start(
        Split(
            torch.zeros(rows, *model.schema.shape).to(torch.uint8), torch.zeros(rows, 0), torch.arange(rows)
        )
    )
    return model


def pictures(n, dims):
    return torch.randn(n, 1, 1, dims).double()


def batch_of(x):
    return Batch(x, torch.zeros(len(x), 0))


def loss_of(model, x, seed=7):
    with noise(seed):
        return model.loss(x)


def losses_of(model, x, seed=7):
    with noise(seed):
        return model.losses(batch_of(x), 0.5)


def draw_of(model, x, seed=7):
    """Return q(z|x) and the z that a loss sees under the same seed."""
    with noise(seed):
        q = model.posterior(x)
        return q, q.rsample()


def gradient(loss, parameters):
    return torch.autograd.grad(total(loss).mean(), list(parameters), retain_graph=True, allow_unused=True)


# The weights of a batch in the estimate of q(z)


def by_hand(batch, rows):
    """Return the weights of the paper's sum: 1/N for the picture itself, M - 1 times 1/M, and the rest."""
    m = batch - 1
    weights = [[1 / m] * batch for _ in range(batch)]
    for i in range(batch):
        weights[i][i] = 1 / rows
        weights[i][(i + 1) % batch] = (rows - m) / (rows * m)
    return torch.tensor(weights)


def in_a_column(batch, rows):
    """Return what rtqichen and pythae have: the weights that belong on the diagonal stand in the first column."""
    m, weights = batch - 1, torch.full((batch, batch), 1 / (batch - 1))
    weights.view(-1)[::batch] = 1 / rows
    weights.view(-1)[1::batch] = (rows - m) / (rows * m)
    weights[m - 1, 0] = (rows - m) / (rows * m)
    return weights


SIZES = [(2, 2), (2, 9), (3, 3), (5, 100), (64, 5_000)]


@pytest.mark.parametrize(("batch", "rows"), SIZES)
def test_weighted_sampling_weighs_every_picture_alike(batch, rows):
    found = weighted(batch, torch.tensor(rows))
    torch.testing.assert_close(found, torch.full((batch, batch), 1 / (rows * batch)))


@pytest.mark.parametrize(("batch", "rows"), SIZES)
def test_stratified_sampling_is_the_papers_sum_written_out(batch, rows):
    found = stratified(batch, torch.tensor(rows))
    torch.testing.assert_close(found, by_hand(batch, rows))
    torch.testing.assert_close(found.sum(1), torch.ones(batch))
    torch.testing.assert_close(found.diagonal(), torch.full((batch,), 1 / rows))


def test_weights_in_a_column_are_other_weights():
    found, column = stratified(5, torch.tensor(100)), in_a_column(5, 100)
    assert column[:, 0].tolist() == pytest.approx([0.01, 0.01, 0.01, 0.96 / 4, 0.01])
    assert (found - column).abs().max() > 0.2


def test_a_batch_of_one_is_weighed_by_its_share_of_the_data():
    for weights in (weighted, stratified):
        assert weights(1, torch.tensor(8)).tolist() == [[0.125]]


def test_stratified_sampling_is_unbiased_over_all_batches_and_a_column_is_not():
    rows, batch = 5, 3
    densities = torch.rand(rows)  # of one z of picture 0, under each picture's posterior

    def expected(weights):
        batches = [
            (place, [*rest[:place], 0, *rest[place:]])
            for place in range(batch)
            for rest in permutations(range(1, rows), batch - 1)
        ]
        return float(sum(weights[place] @ densities[order] for place, order in batches)) / len(batches)

    exact = float(densities.mean())
    assert expected(stratified(batch, torch.tensor(rows))) == pytest.approx(exact)
    assert expected(in_a_column(batch, rows)) != pytest.approx(exact, rel=0.02)


# beta-TCVAE


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_without_weights_the_parts_are_minus_the_elbo_of_one_draw(estimator):
    model = of_rows(built(BetaTCVAE, 3, alpha=1.0, beta=1.0, gamma=1.0, estimator=estimator), 50)
    x = pictures(6, 3)
    q, z = draw_of(model, x)
    expected = q.log_prob(z) - model.prior().log_prob(z) - model.decode(z).log_prob(x)
    torch.testing.assert_close(total(loss_of(model, x)), expected, rtol=1e-12, atol=1e-12)


def test_the_default_is_not_a_vae():
    options = resolve("model", BetaTCVAE, {})
    assert [options[name] for name in ("alpha", "beta", "gamma")] == [1, 6, 1]


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_the_parts_are_those_of_a_double_loop_written_by_hand(estimator):
    rows, size, dims = 50, 5, 3
    model = of_rows(built(BetaTCVAE, dims, alpha=2.0, beta=3.0, gamma=5.0, estimator=estimator), rows)
    x = pictures(size, dims)
    q, z = draw_of(model, x)
    mu, sigma, drawn = q.mean.tolist(), q.stddev.tolist(), z.tolist()
    weights = by_hand(size, rows).tolist() if estimator == "mss" else [[1 / (rows * size)] * size] * size

    def log_normal(v, m, s):
        return -0.5 * ((v - m) / s) ** 2 - math.log(s) - 0.5 * math.log(2 * math.pi)

    parts = {"weighted information": [], "weighted total correlation": [], "weighted dimension-wise rate": []}
    for i in range(size):
        each = [[log_normal(drawn[i][d], mu[j][d], sigma[j][d]) for d in range(dims)] for j in range(size)]
        joint = math.log(sum(weights[i][j] * math.exp(sum(each[j])) for j in range(size)))
        product_of_dims = sum(
            math.log(sum(weights[i][j] * math.exp(each[j][d]) for j in range(size))) for d in range(dims)
        )
        prior = sum(log_normal(v, 0, 1) for v in drawn[i])
        parts["weighted information"].append(2 * (sum(each[i]) - joint))
        parts["weighted total correlation"].append(3 * (joint - product_of_dims))
        parts["weighted dimension-wise rate"].append(5 * (product_of_dims - prior))
    found = loss_of(model, x)
    torch.testing.assert_close(found.pop("distortion"), -model.decode(z).log_prob(x))
    assert found.keys() == parts.keys()
    for name, expected in parts.items():
        assert found[name].tolist() == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_its_gradient_is_that_of_its_value_and_goes_through_the_draw(estimator):
    model = of_rows(built(BetaTCVAE, 3, alpha=2.0, beta=3.0, gamma=5.0, estimator=estimator), 50)
    x, bias = pictures(5, 3), model.encoder[-1].bias
    direction = torch.randn_like(bias)
    (found,) = gradient(loss_of(model, x), [bias])

    @torch.no_grad()
    def moved(by):
        bias.add_(by * direction)
        value = total(loss_of(model, x)).mean()
        bias.sub_(by * direction)
        return value

    torch.testing.assert_close(found @ direction, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=1e-4, atol=0)


def exact_parts(model, x, z):
    """Return information, total correlation and dimension-wise rate under the mixture of all posteriors."""
    q = model.posterior(x)
    even = Categorical(torch.ones(len(x)).double())
    joint = MixtureSameFamily(even, q).log_prob(z)
    dims = [
        MixtureSameFamily(even, Normal(q.mean[:, d], q.stddev[:, d])).log_prob(z[:, d])
        for d in range(z.shape[1])
    ]
    product_of_dims = torch.stack(dims).sum(0)
    return q.log_prob(z) - joint, joint - product_of_dims, product_of_dims - model.prior().log_prob(z)


def test_on_all_data_the_weighted_estimate_is_the_exact_mixture_but_for_log_n():
    rows, dims = 40, 3
    model, x = of_rows(shown(BetaTCVAE, dims, beta=1.0), rows), pictures(rows, dims)
    _, z = draw_of(model, x)
    information, correlation, rate = exact_parts(model, x, z)
    found, log_n = loss_of(model, x), math.log(rows)
    # each estimate of a density carries 1/(N B) = 1/N² where 1/N is right
    torch.testing.assert_close(found["weighted information"], information + log_n)
    torch.testing.assert_close(found["weighted total correlation"], correlation + (dims - 1) * log_n)
    torch.testing.assert_close(found["weighted dimension-wise rate"], rate - dims * log_n)


def test_a_grid_of_posteriors_has_no_total_correlation_at_any_z():
    x = torch.tensor(list(product([-2.0, -0.5, 1, 2], [-1.0, 0, 3], [0.0, 1]))).double()[:, None, None]
    model = of_rows(shown(BetaTCVAE, 3, beta=1.0), len(x))
    found = loss_of(model, x)["weighted total correlation"] - 2 * math.log(len(x))
    torch.testing.assert_close(found, torch.zeros(len(x)).double(), atol=1e-6, rtol=0)
    together = x[..., :1].expand(-1, 1, 1, 3)  # and three dimensions that move as one have much
    assert (loss_of(model, together)["weighted total correlation"] - 2 * math.log(len(x))).mean() > 1


def test_a_batch_estimates_information_and_total_correlation_as_badly_as_published():
    rows, dims, size = 5_000, 4, 64
    data = 0.95 * torch.randn(rows, 1, 1, dims)
    published = {"mws": (12.03, 26.47), "mss": (5.42, -0.66)}
    for estimator, (information, together) in published.items():
        model = of_rows(shown(BetaTCVAE, dims, beta=1.0, estimator=estimator).float(), rows)
        with torch.no_grad(), noise(1):
            parts = [model.loss(data[torch.randint(rows, (size,))]) for _ in range(300)]
        mean = {name: float(torch.stack([p[name] for p in parts]).mean()) for name in parts[0]}
        assert mean["weighted information"] == pytest.approx(information, abs=0.1)
        assert mean["weighted total correlation"] == pytest.approx(together, abs=0.15)


def test_it_counts_the_training_pictures_and_starts_at_the_mean_picture():
    model = built(BetaTCVAE, 3)
    before = [p.clone() for p in model.decoder.parameters()]
    of_rows(model, 50)
    assert model.rows.item() == 50
    assert model.state_dict()["rows"].item() == 50
    changed = [not torch.equal(a, b) for a, b in zip(before, model.decoder.parameters(), strict=True)]
    assert changed == [False] * (len(before) - 1) + [True]


@pytest.mark.parametrize("estimator", ["mws", "mss"])
def test_a_batch_larger_than_the_data_leaves_the_loss_finite(estimator):
    model = of_rows(built(BetaTCVAE, 3, estimator=estimator), 4)
    assert total(loss_of(model, pictures(6, 3))).isfinite().all()


# FactorVAE


@pytest.fixture
def small(monkeypatch):
    """FactorVAE with a small discriminator."""
    monkeypatch.setattr(correlation, "DISCRIMINATOR", (16, 16))

    def make(seed=0, **options):
        return built(FactorVAE, 3, seed, **options)

    return make


def test_the_discriminator_is_the_one_of_the_paper():
    layers = list(built(FactorVAE, 2).discriminator)
    linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linears] == [1_000] * 6 + [1]
    assert linears[0].in_features == 2
    leaky = [layer for layer in layers if isinstance(layer, nn.LeakyReLU)]
    assert [layer.negative_slope for layer in leaky] == [0.2] * 6
    assert isinstance(layers[-2], nn.Linear)  # nothing squashes a logit


def test_the_discriminator_has_an_optimiser_of_its_own(small):
    groups, losses = objective(small())
    assert (groups["vae"].betas, groups["discriminator"].betas) == ((0.9, 0.999), (0.5, 0.9))
    assert list(groups) == ["vae", "discriminator"]  # the learning curve is the VAE's
    descent = Descent(groups, losses, 0.01)
    assert descent.optimisers["discriminator"].betas == (0.5, 0.9)


def test_the_groups_are_all_of_its_weights_once(small):
    model = small()
    groups = model.parameter_groups().values()
    listed = [list(g.parameters) if isinstance(g, ParameterGroup) else list(g) for g in groups]
    assert sorted(id(p) for g in listed for p in g) == sorted(id(p) for p in model.parameters())


def test_without_gamma_the_loss_of_the_vae_is_that_of_a_vae(small):
    model, x = small(gamma=0.0), pictures(6, 3)
    vae = built(VAE, 3)
    vae.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(total(losses_of(model, x)["vae"]), total(loss_of(vae, x)), rtol=0, atol=0)


def test_gamma_weighs_the_logit_of_the_draw_that_is_decoded(small):
    model, x = small(gamma=4.0), pictures(6, 3)
    _, z = draw_of(model, x)
    found = losses_of(model, x)["vae"]
    torch.testing.assert_close(found["weighted total correlation"], 4 * model.discriminator(z))
    torch.testing.assert_close(found["distortion"], -model.decode(z).log_prob(x))


def test_the_discriminators_loss_is_the_cross_entropy_of_z_against_shuffled_z(small):
    model, x = small(), pictures(6, 3)
    with noise(7):
        q = model.posterior(x)
        real, other = q.rsample(), permuted(q.sample())
    logits = torch.cat([model.discriminator(real), model.discriminator(other)])
    expected = binary_cross_entropy_with_logits(logits, torch.cat([torch.ones(6), torch.zeros(6)]).double())
    torch.testing.assert_close(losses_of(model, x)["discriminator"].mean(), expected)


def test_nothing_of_the_discriminators_loss_reaches_the_vae(small):
    model = small()
    groups, losses = objective(model)
    terms = losses(batch_of(pictures(6, 3)), 0.5)
    assert all(g is None for g in gradient(terms["discriminator"], groups["vae"].parameters))
    # while the encoder hears of the discriminator through its own loss
    assert any(
        g.any()
        for g in gradient({"": terms["vae"]["vae: weighted total correlation"]}, model.encoder.parameters())
    )


def leaking(model, x):
    """Return the loss of the peers (pythae, disvae): z not detached, and all of it goes backwards together."""
    with noise(7):
        q = model.posterior(x)
        z, other = q.rsample(), q.rsample()
        rate = torch.distributions.kl_divergence(q, model.prior())
        vae = rate - model.decode(z).log_prob(x) + model.gamma * model.discriminator(z)
        logits = model.discriminator(torch.cat([z, permuted(other)]))
    truth = torch.cat([torch.ones(len(x)), torch.zeros(len(x))]).double()
    return vae.mean() + binary_cross_entropy_with_logits(logits, truth)


def test_a_step_gives_each_player_the_gradient_of_its_own_loss(small):
    x = pictures(6, 3)
    model, apart, leaky = small(), small(), small()
    descent = Descent(*objective(model), 0.01)
    with noise(7):
        descent.step(batch_of(x), 0.5, 1.0)
    losses = losses_of(apart, x)
    expected = {
        "vae": gradient(losses["vae"], apart.parameter_groups()["vae"]),
        "discriminator": gradient(losses["discriminator"], apart.discriminator.parameters()),
    }
    found = {name: slopes(adam) for name, adam in descent.optimisers.items()}
    torch.testing.assert_close({name: tuple(of.values()) for name, of in found.items()}, expected)
    leaking(leaky, x).backward()
    for name, leaks, holds in (
        ("vae", leaky.encoder[-1].weight, model.encoder[-1].weight),
        ("discriminator", leaky.discriminator[0].weight, model.discriminator[0].weight),
    ):
        assert not torch.allclose(leaks.grad, found[name][holds], rtol=0.01)


def test_shuffling_keeps_every_column_and_breaks_every_row():
    z = torch.randn(5_000, 1).expand(-1, 3) + 0.1 * torch.randn(5_000, 3)
    found = permuted(z)
    assert torch.equal(found.sort(0).values, z.sort(0).values)
    assert (torch.corrcoef(z.T) > 0.95).all()
    between = torch.corrcoef(torch.cat([z, found], 1).T) - torch.eye(6)
    assert (between[3:].abs() < 0.1).all()  # neither with each other nor with where they were


class Quadratic(nn.Module):
    """A discriminator that can say what is to be said of two Gaussians: its logit is quadratic in z."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(6).double())

    def forward(self, z):
        a, b = z.unbind(-1)
        return torch.stack([torch.ones_like(a), a, b, a**2, b**2, a * b], -1) @ self.weights


@pytest.mark.parametrize("rho", [0.0, 0.6, -0.8])
def test_the_best_discriminator_knows_the_total_correlation(rho, monkeypatch):
    monkeypatch.setattr(correlation, "DISCRIMINATOR", (2,))
    monkeypatch.setattr(Shown, "spread", 1e-3)
    model = shown(FactorVAE, 2, gamma=1.0)
    model.discriminator = Quadratic()
    model.decoder = nn.Sequential(nn.Linear(2, 2), nn.Unflatten(-1, model.schema.shape)).double()
    truth = MultivariateNormal(torch.zeros(2).double(), torch.tensor([[1, rho], [rho, 1]]).double())
    x = truth.sample((20_000,))[:, None, None]
    player = torch.optim.LBFGS(model.discriminator.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def loss():
        player.zero_grad()
        value = losses_of(model, x)["discriminator"].mean()
        value.backward(inputs=list(model.discriminator.parameters()))
        return value

    player.step(loss)
    square, cross = -(rho**2) / (1 - rho**2) / 2, rho / (1 - rho**2)
    correlation_of_two = -0.5 * math.log(1 - rho**2)
    # log N(z; 0, [[1, rho], [rho, 1]]) - log N(z; 0, I), coefficient by coefficient
    expected = [correlation_of_two, 0, 0, square, square, cross]
    assert model.discriminator.weights.tolist() == pytest.approx(expected, abs=0.08)
    with torch.no_grad():
        found = losses_of(model, truth.sample((20_000,))[:, None, None])["vae"][
            "weighted total correlation"
        ].mean()
    assert float(found) == pytest.approx(correlation_of_two, abs=0.03)


# Options


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (BetaTCVAE, {"alpha": -0.1}),
        (BetaTCVAE, {"beta": -0.1}),
        (BetaTCVAE, {"gamma": -0.1}),
        (BetaTCVAE, {"estimator": "all"}),
        (FactorVAE, {"gamma": -0.1}),
        (FactorVAE, {"latent_dim": 0}),
    ],
)
def test_options_out_of_range_are_refused_by_name(kind, options):
    with pytest.raises(UsageError, match=f"^model: {next(iter(options))} = "):
        resolve("model", kind, options)


def test_options_at_the_edge_are_taken():
    options = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "estimator": "mss"}
    assert options.items() <= resolve("model", BetaTCVAE, options).items()
    assert resolve("model", FactorVAE, {"gamma": 0.0})["gamma"] == 0
