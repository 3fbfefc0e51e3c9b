import importlib
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm
from torch.distributions import Independent, Normal, kl_divergence

import lvmbench_models
from lvmbench import Batch, Budget, LvmbenchError, Schema, Split, bounds, build, expected, fit
from lvmbench.protocols import capabilities
from lvmbench_models.priors import SIGMA_FLOOR, VaDE, VampVAE

SCHEMA = Schema((1, 8, 8), "gaussian")
D, K = 2, 4
ENTRIES = lvmbench_models.lvmbench_models()


def vamp(**options):
    """Return a VampVAE whose posteriors differ in place and width."""
    model = build(VampVAE, SCHEMA, {"latent_dim": D, "net": "mlp", "pseudo_inputs": K, **options}, 0)
    with torch.no_grad():
        model.encoder[-1].weight.mul_(5)
    return model


def vade(kind=VaDE, **options):
    """Return a VaDE whose mixture is no default of any kind."""
    model = build(kind, SCHEMA, {"latent_dim": D, "net": "mlp", "components": K, **options}, 0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        model.logits.copy_(torch.randn(K, generator=generator))
        model.raw_scales.add_(torch.randn(K, D, generator=generator))
    return model.eval()


@pytest.fixture
def x():
    return torch.rand(5, *SCHEMA.shape)


def pictures(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *SCHEMA.shape), generator=generator).to(torch.uint8)
    return Split(images, torch.zeros(n, 0), torch.arange(n))


def mixture_by_hand(z, log_pi, means, scales):
    """Return log sum_c pi_c N(z; mu_c, diag s_c²): [..., D] -> [...]."""
    z, means, scales = (np.asarray(t, dtype=np.float64) for t in (z, means, scales))
    each = norm.logpdf(z[..., None, :], means, scales).sum(-1)
    return logsumexp(np.asarray(log_pi, dtype=np.float64) + each, axis=-1)


# ---- the mixture of posteriors


@torch.no_grad()
def vamp_by_hand(model, z):
    q = model.posterior(model.pseudo_inputs.clamp(0, 1)).base_dist
    n = len(model.pseudo_inputs)
    return mixture_by_hand(z, np.full(n, -math.log(n)), q.loc, q.scale)


def test_the_vamp_prior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs():
    model = vamp()
    p = model.prior()
    assert (p.batch_shape, p.event_shape) == ((), (D,))
    z = 2 * torch.randn(3, 6, D)
    with torch.no_grad():
        np.testing.assert_allclose(p.log_prob(z), vamp_by_hand(model, z), rtol=1e-4)


def test_the_vamp_prior_integrates_to_one():
    model = vamp(latent_dim=1)
    grid = torch.linspace(-30, 30, 60_001)[:, None]
    with torch.no_grad():
        mass = torch.trapezoid(model.prior().log_prob(grid).exp(), grid[:, 0])
    assert float(mass) == pytest.approx(1, abs=1e-4)


def test_the_peers_vamp_prior_with_the_parenthesis_misplaced_is_another_density():
    # AntixK/PyTorch-VAE, models/vampvae.py: -(log s² + (z - mu)²) / s² where -(log s² + (z - mu)² / s²) is meant
    model = vamp(latent_dim=1)
    grid = torch.linspace(-30, 30, 60_001)[:, None]
    with torch.no_grad():
        q = model.posterior(model.pseudo_inputs.clamp(0, 1)).base_dist
        variance = q.scale.square()
        each = -0.5 * (variance.log() + (grid[:, None] - q.loc).square()) / variance
        theirs = each.sum(-1).logsumexp(1) - math.log(K) - 0.5 * math.log(2 * math.pi)
        assert (theirs - model.prior().log_prob(grid)).abs().max() > 0.5
    assert abs(torch.trapezoid(theirs.exp(), grid[:, 0]) - 1) > 0.05


def test_the_loss_of_vamp_is_distortion_and_log_q_minus_log_p_at_one_draw(x):
    model = vamp()
    torch.manual_seed(1)
    with torch.no_grad():
        loss = model.loss(x)
    torch.manual_seed(1)
    with torch.no_grad():
        q = model.posterior(x).base_dist
        z = q.loc + q.scale * torch.randn(len(x), D)
        log_q = norm.logpdf(z.double(), q.loc, q.scale).sum(1)
        np.testing.assert_allclose(loss["rate"], log_q - vamp_by_hand(model, z), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(loss["distortion"], -model.decode(z).log_prob(x))
    assert set(loss) == {"distortion", "rate"}


def test_pseudo_inputs_begin_as_training_pictures_and_the_decoder_at_their_mean():
    model, train = vamp(pseudo_inputs=50), pictures(20)
    model.start(train)
    known = expected(SCHEMA, train.images)
    apart = torch.cdist(model.pseudo_inputs.flatten(1), known.flatten(1)).amin(1)
    assert apart.max() < 1e-5
    assert 5 < len(model.pseudo_inputs.unique(dim=0)) <= 20
    last = list(model.decoder.parameters())[-1]
    torch.testing.assert_close(last.sigmoid().reshape(SCHEMA.shape), known.mean(0), atol=1e-5, rtol=0)


def test_which_pictures_the_pseudo_inputs_begin_as_is_drawn():
    starts = []
    for seed in (0, 0, 1):
        model = vamp()
        torch.manual_seed(seed)
        model.start(pictures(20))
        starts.append(model.pseudo_inputs.clone())
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_the_rate_moves_the_pseudo_inputs_and_the_distortion_does_not(x):
    model = vamp()
    loss = model.loss(x)
    (moved,) = torch.autograd.grad(loss["rate"].sum(), model.pseudo_inputs, retain_graph=True)
    assert (moved.flatten(1) != 0).any(1).all()
    (still,) = torch.autograd.grad(loss["distortion"].sum(), model.pseudo_inputs, allow_unused=True)
    assert still is None


def test_a_pseudo_input_counts_as_a_picture_between_black_and_white():
    model = vamp()
    z = torch.randn(6, D)
    with torch.no_grad():
        model.pseudo_inputs.copy_(torch.where(torch.rand_like(model.pseudo_inputs) > 0.5, 5.0, -5.0))
        far = model.prior().log_prob(z)
        model.pseudo_inputs.copy_((model.pseudo_inputs > 0).float())
        torch.testing.assert_close(model.prior().log_prob(z), far, atol=0, rtol=0)


def test_the_engine_moves_the_pseudo_inputs():
    model, budget = vamp(), Budget(images=64, batch=16)
    fit(model, pictures(40), pictures(10, 1), budget, SCHEMA, seed=0)
    first = vamp()
    with torch.random.fork_rng():
        first.start(pictures(40))
    apart = torch.cdist(model.pseudo_inputs.flatten(1), expected(SCHEMA, pictures(40).images).flatten(1))
    assert (apart.amin(1) > 1e-4).all()
    assert (apart.amin(1) < 1).all()


# ---- the mixture of Gaussians


def test_the_prior_of_vade_is_its_mixture_of_gaussians():
    model, z = vade(), torch.randn(3, 6, D)
    p = model.prior()
    assert (p.batch_shape, p.event_shape) == ((), (D,))
    with torch.no_grad():
        scales = np.log1p(np.exp(model.raw_scales.double().numpy())) + SIGMA_FLOOR
        log_pi = model.logits.double().log_softmax(0).numpy()
        hand = mixture_by_hand(z, log_pi, model.means, scales)
        np.testing.assert_allclose(p.log_prob(z), hand, rtol=1e-4, atol=1e-5)


def components(model):
    """Return the components of the prior one by one, as torch's own distributions."""
    p = model.prior().component_distribution.base_dist
    return [Independent(Normal(p.loc[c], p.scale[c]), 1) for c in range(K)]


def test_the_shares_are_the_posterior_of_the_component():
    model, z = vade(), torch.randn(6, D)
    with torch.no_grad():
        joint = torch.stack([c.log_prob(z) for c in components(model)], 1) + model.logits.log_softmax(0)
        torch.testing.assert_close(model.log_shares(z), joint - model.prior().log_prob(z)[:, None])


def test_the_loss_of_vade_is_the_closed_form_of_the_paper(x):
    model = vade()
    torch.manual_seed(1)
    with torch.no_grad():
        loss = model.loss(x)
        torch.manual_seed(1)
        q = model.posterior(x)
        z = q.mean + q.stddev * torch.randn(len(x), D)
        shares, pi = model.log_shares(z).exp().double(), model.logits.double().softmax(0)
        # KL(q(z|x) || p(z|c)) of every component, by torch
        rates = torch.stack([kl_divergence(q, c) for c in components(model)], 1)
        cluster = [
            sum(s * math.log(s / p) for s, p in zip(row, pi.tolist(), strict=True)) for row in shares.tolist()
        ]
        torch.testing.assert_close(loss["distortion"], -model.decode(z).log_prob(x))
    np.testing.assert_allclose(loss["rate of the cluster"], cluster, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss["rate within the cluster"], (shares.float() * rates).sum(1))
    assert set(loss) == {"distortion", "rate of the cluster", "rate within the cluster"}


def rate_of(loss):
    return loss["rate of the cluster"] + loss["rate within the cluster"]


def sampled_rate(model, x):
    """Return the mean of log q(z|x) - log p(z) over many draws: [B]."""
    q, p = model.posterior(x), model.prior()
    z = q.sample((20_000,))
    return (q.log_prob(z) - p.log_prob(z)).mean(0)


def test_the_rate_of_vade_is_never_under_that_of_its_marginal_model(x):
    model = vade()
    with torch.no_grad():
        marginal = sampled_rate(model, x)
        loss = [model.loss(x) for _ in range(200)]
        elbo = bounds(model, x, 1_000).elbo
    closed = torch.stack([rate_of(terms) for terms in loss])
    # even at a single draw: the least that shares can make of it is -log sum_c pi_c exp(-KL_c)
    assert (closed > marginal - 0.02).all()
    assert closed.mean() > marginal.mean() + 0.1
    whole = torch.stack([rate_of(terms) + terms["distortion"] for terms in loss]).mean()
    assert whole > -elbo.mean()


def test_the_rate_of_vade_is_that_of_its_marginal_model_where_the_components_coincide(x):
    model = vade()
    with torch.no_grad():
        model.means.copy_(model.means[:1].expand(K, D))
        model.raw_scales.copy_(model.raw_scales[:1].expand(K, D))
        loss = model.loss(x)
        rate = kl_divergence(model.posterior(x), components(model)[0])
        draws = sampled_rate(model, x)
    torch.testing.assert_close(loss["rate of the cluster"], torch.zeros(len(x)), atol=1e-5, rtol=0)
    torch.testing.assert_close(rate_of(loss), rate, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(draws, rate, rtol=0.03, atol=0.03)


def test_the_clusters_are_a_view_at_the_posterior_mean(x):
    model = vade()
    with torch.no_grad():
        shares = model.views()["cluster"](x)
        torch.testing.assert_close(shares, model.log_shares(model.posterior(x).mean).exp())
        torch.testing.assert_close(shares.sum(1), torch.ones(len(x)))
        assert set(model.views()) == {"sample", "cluster"}


CENTRES = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 5.0], [6.0, 6.0]])
SHARES = torch.tensor([0.4, 0.3, 0.2, 0.1])
SPREADS = torch.tensor([0.1, 0.5, 0.3, 0.2])


def blobs(model, n=2_000):
    """Let a model's codes of n pictures be four clouds; return pictures."""
    generator = torch.Generator().manual_seed(0)
    cloud = torch.repeat_interleave(torch.arange(4), (SHARES * n).int())
    codes = CENTRES[cloud] + SPREADS[cloud, None] * torch.randn(n, D, generator=generator)
    train = pictures(n)
    place_of = {images.numpy().tobytes(): i for i, images in enumerate(expected(SCHEMA, train.images))}
    model.encode = lambda x: torch.stack([codes[place_of[one.numpy().tobytes()]] for one in x])
    return train


def test_the_mixture_is_placed_where_the_codes_are():
    model = vade()
    model.place(blobs(model))
    p = model.prior()
    order = torch.cdist(CENTRES, model.means).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    with torch.no_grad():
        torch.testing.assert_close(model.means[order], CENTRES, atol=0.1, rtol=0)
        torch.testing.assert_close(p.mixture_distribution.probs[order], SHARES, atol=0.01, rtol=0)
        scales = p.component_distribution.base_dist.scale[order]
        torch.testing.assert_close(scales, SPREADS[:, None].expand(4, D), atol=0, rtol=0.1)


def test_a_cloud_without_width_leaves_a_density_that_is_finite():
    model, train = vade(), pictures(20)
    model.encode = lambda x: CENTRES[(x[:, 0, 0, 0] > 0.5).long()]
    model.place(train)
    assert model.prior().log_prob(CENTRES[:2]).isfinite().all()
    assert model.raw_scales.isfinite().all()
    assert model.prior().component_distribution.base_dist.scale.min() >= SIGMA_FLOOR


def test_more_components_than_training_pictures_are_an_error_that_says_so():
    with pytest.raises(LvmbenchError, match=r"components=4 must not be over the 3 rows"):
        vade().place(pictures(3))


def test_while_it_pretrains_it_is_an_autoencoder_that_leaves_the_mixture_alone(x):
    model = vade(pretrain=0.5)
    loss = model.train().loss(x)
    assert set(loss) == {"distortion"}
    torch.testing.assert_close(loss["distortion"], -model.decode(model.posterior(x).mean).log_prob(x))
    mixture = [model.logits, model.means, model.raw_scales]
    assert torch.autograd.grad(loss["distortion"].sum(), mixture, allow_unused=True) == (None, None, None)


def test_its_convergence_is_judged_by_what_comes_after_the_pretraining():
    assert vade(pretrain=0.3).settled == 0.3


def test_after_it_has_pretrained_the_loss_moves_the_mixture(x):
    model = vade(pretrain=0.5)
    scored = model.eval()  # what the validation data are scored by, while it pretrains too
    placed = vade(pretrain=0.5)
    placed.place(pictures(40))
    for model in (scored, placed.train()):
        loss = rate_of(model.loss(x)).sum()
        moved = torch.autograd.grad(loss, [model.logits, model.means, model.raw_scales])
        assert all(gradient.any() for gradient in moved)


class Recording(VaDE):
    """Notes after how many steps the mixture was placed, by what, and where it and its loss were told to be."""

    def __init__(self, schema, **options):
        super().__init__(schema, **options)
        self.steps, self.placed, self.full = 0, [], []

    def loss(self, x):
        loss = super().loss(x)
        if self.training and len(loss) > 1:
            self.full.append(self.steps)
        return loss

    def place(self, train):
        before = [self.logits.clone(), self.means.clone(), self.raw_scales.clone()]
        super().place(train)
        self.placed.append((self.steps, train, before))

    def after_step(self):
        self.steps += 1


def trained(steps, seed=0, **options):
    model = build(Recording, SCHEMA, {"latent_dim": D, "net": "mlp", "components": K, **options}, seed)
    train = pictures(40)
    fit(model, train, pictures(10, 1), Budget(images=16 * steps, batch=16), SCHEMA, seed=seed)
    return model, train


def test_the_engine_places_the_mixture_once_after_the_share_of_the_steps():
    model, train = trained(20)
    ((step, given, before),) = model.placed
    assert step == 4  # a fifth of 20
    assert torch.equal(given.images, train.images)
    start = build(VaDE, SCHEMA, {"latent_dim": D, "net": "mlp", "components": K}, 0)
    for then, first in zip(before, (start.logits, start.means, start.raw_scales), strict=True):
        assert torch.equal(then, first)  # pretraining left them alone


@pytest.mark.parametrize(
    ("steps", "pretrain"), [(20, 0.2), (20, 0.0), (6, 0.2), (7, 0.2), (8, 0.2), (9, 0.2), (11, 0.3)]
)
def test_the_whole_loss_begins_with_the_step_before_which_the_mixture_is_placed(steps, pretrain):
    model, _ = trained(steps, pretrain=pretrain)
    ((placed, _, _),) = model.placed
    assert model.full == list(range(placed, steps))


def test_the_same_seed_gives_the_same_mixture():
    (a, _), (b, _), (c, _) = trained(10), trained(10), trained(10, seed=1)
    assert all(
        torch.equal(s, t) for s, t in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
    assert not torch.equal(a.means, c.means)


# ---- the rate of every model that has a prior and a posterior


def kind_of(name):
    module, _, attribute = ENTRIES[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)


PAIRS = [name for name in ENTRIES if "density" in capabilities(kind_of(name))]
SMALL = {
    "discrete": {"groups": 2, "classes": 3},
    "gaussian-mixture": {"components": 3},
    "vamp-vae": {"pseudo_inputs": 5},
}
OPTIONS = {"info-vae": {"alpha": 0.25}, "beta-tcvae": {"beta": 1.0}}
CLOSED = {"factor-analysis", "gaussian-mixture", "pca"}  # fit themselves
NOISY = {"vamp-vae", "beta-tcvae"}  # the rate in their loss is that of a draw
WHOLE = {"iwae", "miwae", "piwae", "ciwae"}  # their loss is made of log weights


def rate_in(name, model, x):
    """Return the rate as the loss of a model counts it, at one draw: [B]."""
    if name in CLOSED | WHOLE | {"annealed-vae"}:
        return kl_divergence(model.posterior(x), model.prior())
    if name == "factor-vae":
        return model.losses(Batch(x, x), 1.0)["vae"]["rate"]
    loss = model.loss(x)
    if name == "beta-vae":
        return loss["weighted rate"] / model.beta
    if name == "info-vae":
        return loss["weighted rate"] / (1 - model.alpha)
    if name == "beta-tcvae":
        return sum(term for name, term in loss.items() if name != "distortion")
    if name == "vade":
        return rate_of(loss)
    return loss["rate"]


@pytest.mark.parametrize("name", PAIRS)
def test_the_rate_of_every_pair_is_the_mean_of_log_q_minus_log_p(name):
    kind = kind_of(name)
    net = {} if name in CLOSED else {"net": "mlp"}
    size = SMALL.get(name, {}) | ({"latent_dim": D} if name not in ("discrete", "gaussian-mixture") else {})
    model = build(kind, SCHEMA, {**size, **net, **OPTIONS.get(name, {})}, 0)
    if name in CLOSED:
        model.fit(pictures(60), Budget(), 0)
    if name == "vade":  # elsewhere its closed form is a bound on the rate
        model.eval()  # what it pretrains with has no rate
        with torch.no_grad():
            model.means.copy_(model.means[:1].expand_as(model.means))
    x = torch.rand(3, *SCHEMA.shape)
    with torch.no_grad():
        if name not in CLOSED:  # posteriors that are far from the prior
            model.encoder[-1].weight.mul_(5)
        q, p = model.posterior(x), model.prior()
        z = q.sample((20_000,))
        sampled = q.log_prob(z) - p.log_prob(z)
        told = torch.stack([rate_in(name, model, x) for _ in range(300 if name in NOISY else 2)])
    error = (sampled.var(0) / len(sampled) + told.var(0) / len(told)).sqrt()
    assert ((sampled.mean(0) - told.mean(0)).abs() < 5 * error + 1e-3).all()
    assert (told.mean(0) > 10 * error).any()
