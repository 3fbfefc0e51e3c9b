import math
from itertools import product

import pytest
import torch

from lvmbench import Budget, Schema, Split, UsageError, bounds, build, expected, fit, log_weights
from lvmbench.catalog import Catalog
from lvmbench.plan import plan
from lvmbench.spec import Spec
from lvmbench_models.vq import VQVAE

SCHEMA = Schema((1, 8, 8), "bernoulli")
K, G, D = 3, 2, 4


def model_of(**options):
    return build(VQVAE, SCHEMA, {"codes": K, "groups": G, "latent_dim": D, "net": "mlp", **options}, 0)


@pytest.fixture
def x():
    return torch.rand(6, *SCHEMA.shape).round()


def showing(model, vectors):
    """Let a model see these vectors in every picture: [B, G, D / G]."""
    model.vectors = lambda _: vectors
    return model


def step(model, vectors):
    """Take one step of training as the engine does: [N, D / G], as N / G pictures."""
    pairs = vectors.unflatten(0, (-1, model.groups))
    showing(model, pairs).loss(torch.zeros(len(pairs), *SCHEMA.shape))
    model.after_step()


def nearest_by_hand(codebook, vector):
    distances = [sum((float(a) - float(b)) ** 2 for a, b in zip(e, vector, strict=True)) for e in codebook]
    return distances.index(min(distances))


# ---- places


def test_the_nearest_entry_is_that_of_a_loop_over_all_of_them():
    model = model_of(codes=7)
    model.codebook.mul_(torch.arange(1.0, 8.0)[:, None] / 2)  # entries of different lengths
    vectors = 2 * torch.randn(9, G, D // G)
    found = [[nearest_by_hand(model.codebook, v) for v in row] for row in vectors]
    assert model.nearest(vectors).tolist() == found
    assert len({place for row in found for place in row}) > 4


def test_its_code_is_the_nearest_entries_side_by_side(x):
    model = model_of()
    with torch.no_grad():
        vectors, code = model.vectors(x), model.encode(x)
        assert vectors.shape == (6, G, D // G)
        torch.testing.assert_close(vectors.flatten(1), model.encoder(x))
        for i, g in product(range(6), range(G)):
            entry = model.codebook[nearest_by_hand(model.codebook, vectors[i, g])]
            torch.testing.assert_close(code[i, 2 * g : 2 * g + 2], entry, atol=0, rtol=0)


def test_its_views_are_places_their_shares_and_the_mean_entry(x):
    model = model_of()
    with torch.no_grad():
        one_hot, bag, pooled = (model.views()[name](x) for name in ("one-hot", "bag", "pooled"))
        places = model.nearest(model.vectors(x))
        assert (one_hot.shape, bag.shape, pooled.shape) == ((6, G * K), (6, K), (6, D // G))
        assert torch.equal(one_hot.unflatten(1, (G, K)).argmax(-1), places)
        assert torch.equal(one_hot.sum(1), torch.full((6,), float(G)))
        for i in range(6):
            counts = [places[i].tolist().count(c) / G for c in range(K)]
            assert bag[i].tolist() == pytest.approx(counts)
            torch.testing.assert_close(pooled[i], model.codebook[places[i]].mean(0))


# ---- gradients


def test_the_decoders_gradient_at_the_entries_goes_straight_to_the_vectors(x):
    model = model_of()
    vectors = model.vectors(x).detach().requires_grad_()
    loss = showing(model, vectors).loss(x)
    (straight,) = torch.autograd.grad(loss["distortion"].sum(), vectors)
    entries = model.codebook[model.nearest(vectors)].flatten(1).requires_grad_()
    distortion = -model.decode(entries).log_prob(x)
    (reference,) = torch.autograd.grad(distortion.sum(), entries)
    torch.testing.assert_close(loss["distortion"], distortion)
    torch.testing.assert_close(straight.flatten(1), reference)


def test_both_terms_move_the_encoder_and_only_the_distortion_the_decoder(x):
    model = model_of()
    loss = model.loss(x)
    for term, moved in (("distortion", True), ("commitment", False)):
        weights = [*model.encoder.parameters(), *model.decoder.parameters()]
        found = torch.autograd.grad(loss[term].sum(), weights, retain_graph=True, allow_unused=True)
        half = len(found) // 2
        assert all(gradient.any() for gradient in found[:half])
        assert all((gradient is not None) == moved for gradient in found[half:])


def test_the_commitment_is_beta_times_the_mean_square_times_the_pixels(x):
    model = model_of(beta=0.5)
    vectors = model.vectors(x).detach().requires_grad_()
    loss = showing(model, vectors).loss(x)["commitment"]
    apart = vectors - model.codebook[model.nearest(vectors)]
    by_hand = [0.5 * 64 * sum(float(a) ** 2 for a in row.flatten().tolist()) / D for row in apart.detach()]
    assert loss.tolist() == pytest.approx(by_hand)
    (moved,) = torch.autograd.grad(loss.sum(), vectors)
    torch.testing.assert_close(moved, 2 * 0.5 * 64 * apart.detach() / D)


def test_the_commitment_is_free_of_the_batch_where_the_peers_sum_is_not(x):
    model = model_of()
    with torch.no_grad():
        once, twice = (model.loss(rows)["commitment"] for rows in (x, x.repeat_interleave(2, 0)))
        torch.testing.assert_close(twice, once.repeat_interleave(2))
        # clementchadebec/benchmark_VAE, vq_vae_utils.py: a sum over the whole batch beside a mean over pictures
        sums = []
        for rows in (x, x.repeat_interleave(2, 0)):
            vectors = model.vectors(rows)
            sums.append((vectors - model.codebook[model.nearest(vectors)]).square().sum())
        torch.testing.assert_close(sums[1], 2 * sums[0])


# ---- the codebook


def test_the_codebook_follows_the_papers_moving_average():
    model = model_of(decay=0.9)
    counts, sums, codebook = [1.0] * K, model.codebook.tolist(), model.codebook.tolist()
    for _ in range(5):
        vectors = torch.randn(60, 2)
        step(model, vectors)
        places = [nearest_by_hand(codebook, v) for v in vectors]
        assert len(set(places)) == K
        for c in range(K):
            chose = [v.tolist() for v, place in zip(vectors, places, strict=True) if place == c]
            # N <- g N + (1 - g) n, m <- g m + (1 - g) sum z, e = m / N, n being 1 for the mean use
            counts[c] = 0.9 * counts[c] + 0.1 * len(chose) * K / 60
            sums[c] = [0.9 * m + 0.1 * K / 60 * sum(v[i] for v in chose) for i, m in enumerate(sums[c])]
            codebook[c] = [m / counts[c] for m in sums[c]]
        torch.testing.assert_close(model.codebook, torch.tensor(codebook), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.counts, torch.tensor(counts))


def test_a_dead_entry_moves_to_a_vector_of_the_batch():
    model, vectors = model_of(), torch.randn(40, 2)
    model.codebook[1], model.counts[1] = 1e3, 0.005
    step(model, vectors)
    assert (vectors == model.codebook[1]).all(1).any()
    assert not (vectors == model.codebook[0]).all(1).any()


def aged(decay=0.99):
    """Return a model whose averages are old: entry 0 has all the use, entry 1 had a little, far away."""
    model = model_of(codes=2, groups=1, latent_dim=2, decay=decay)
    model.codebook.copy_(torch.tensor([[0.0, 0.0], [100.0, 0.0]]))
    model.counts.copy_(torch.tensor([2.0, 0.006]))
    model.sums.copy_(model.counts[:, None] * model.codebook)
    return model


def test_an_entry_that_is_used_less_and_less_is_dead_in_the_end():
    model, here = aged(), torch.zeros(10, 2)
    model.counts[1], model.sums[1, 0] = 0.04, 4.0
    step(model, here)
    torch.testing.assert_close(model.codebook[1], torch.tensor([100.0, 0.0]))
    for _ in range(300):
        step(model, here)
    torch.testing.assert_close(model.codebook[1], torch.zeros(2))


def test_a_revived_entry_knows_nothing_of_where_it_was_before():
    model, there = aged(), torch.tensor([[10.0, 0.0]]).expand(10, 2)
    for _ in range(
        3
    ):  # it moves to the vectors, which are nearer to entry 0 at first, and then they choose it
        step(model, there)
        torch.testing.assert_close(model.codebook[1], there[0])


@pytest.mark.parametrize("seed", range(5))
def test_a_revived_entry_stays_where_vectors_choose_it(seed):
    model, vectors = aged(), torch.tensor([[0.0, 0.0]] * 6 + [[10.0, 0.0]] * 4)
    model.counts[1] = model.sums[1] = 0
    torch.manual_seed(seed)
    step(model, vectors[6:])  # it moves to where these are
    for _ in range(3):
        step(model, vectors)
        torch.testing.assert_close(model.codebook[1], vectors[6])


def test_the_codebook_begins_as_vectors_of_training_pictures():
    model = model_of(codes=40)
    train = Split(
        torch.randint(0, 256, (30, *SCHEMA.shape)).to(torch.uint8), torch.zeros(30, 0), torch.arange(30)
    )
    model.start(train)
    with torch.no_grad():
        vectors = model.vectors(expected(SCHEMA, train.images)).flatten(0, 1)
    assert (model.codebook[:, None] == vectors).all(-1).any(1).all()
    assert 20 < len(model.codebook.unique(dim=0)) <= 40
    last = list(model.decoder.parameters())[-1]
    mean = expected(SCHEMA, train.images).mean(0)
    torch.testing.assert_close(last.sigmoid().reshape(SCHEMA.shape), mean, atol=1e-4, rtol=0)


def test_the_codebook_does_not_forget_where_it_began():
    model = model_of(codes=4, groups=1, latent_dim=2, decay=0.9)
    train = Split(
        torch.randint(0, 256, (30, *SCHEMA.shape)).to(torch.uint8), torch.zeros(30, 0), torch.arange(30)
    )
    model.start(train)
    first = model.codebook.clone()
    step(model, first[:1].expand(8, 2) + 0.01)  # the first entry has all the use, four times the mean
    torch.testing.assert_close(model.codebook[1:], first[1:])
    torch.testing.assert_close(model.codebook[0], first[0] + 0.01 * 0.1 * 4 / (0.9 + 0.1 * 4))


def test_looks_at_validation_data_move_no_entry(x):
    model, other = model_of(), model_of()
    for each in (model, other):
        each.loss(x)
    model.eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with torch.no_grad():
        model.loss(1 - x)
        model.encode(1 - x)
        bounds(model, 1 - x, 3)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    for each in (model, other):  # by what training showed, not by what the look did
        torch.manual_seed(0)
        each.after_step()
    assert torch.equal(model.codebook, other.codebook)


def test_the_engine_trains_codebook_and_nets_and_keeps_the_entries_in_use():
    images = torch.randint(0, 256, (64, *SCHEMA.shape)).to(torch.uint8)
    train = Split(images, torch.zeros(64, 0), torch.arange(64))
    model = model_of(codes=8)
    first = {name: t.clone() for name, t in model.state_dict().items()}
    told = fit(model, train, train.head(16), Budget(images=640, batch=16), SCHEMA, seed=0)
    assert told.curve[-1][1] < told.curve[0][1]
    assert all(
        not torch.equal(t, first[name]) for name, t in model.state_dict().items() if name != "scale.raw"
    )
    assert len(model.nearest(model.vectors(expected(SCHEMA, images))).unique()) >= 6


# ---- as a latent variable model


def exact(model, x):
    """Return log p(x) by the sum over all K^G codes."""
    codes = [torch.cat(parts) for parts in product(model.codebook, repeat=G)]
    z = torch.stack(codes)[:, None].expand(-1, len(x), -1)
    return (model.decode(z).log_prob(x) - G * math.log(K)).logsumexp(0)


def test_its_weights_are_the_likelihood_and_log_k_for_each_group(x):
    model = model_of().eval()
    with torch.no_grad():
        log_w = log_weights(model, x, 5)
        single = model.decode(model.encode(x)).log_prob(x) - G * math.log(K)
    torch.testing.assert_close(log_w, single.expand(5, 6))
    found = bounds(model, x, 5)
    torch.testing.assert_close(found.rate, torch.full((6,), G * math.log(K)))
    torch.testing.assert_close(found.elbo, single)
    torch.testing.assert_close(found.iwae, single)


def test_its_bound_stays_under_the_sum_over_all_codes(x):
    model = model_of().eval()
    model.codebook.mul_(0.3)  # codes of which none explains a picture alone
    with torch.no_grad():
        truth = exact(model, x)
    found = bounds(model, x, 3)
    assert (found.iwae < truth).all()
    assert (found.iwae > truth - G * math.log(K) - 1).all()
    assert (
        found.iwae + math.log(K) > truth - math.log(K) + 1e-3
    ).any()  # G log K nats less, and it would pass


@pytest.mark.parametrize(
    ("groups", "latent_dim", "told"), [(3, 4, "no multiple"), (8, 4, "more groups than dimensions")]
)
def test_groups_that_do_not_share_the_dimensions_are_refused_by_name(groups, latent_dim, told):
    with pytest.raises(UsageError, match=f"groups={groups} .*latent_dim={latent_dim}: .*{told}"):
        model_of(groups=groups, latent_dim=latent_dim)


def test_a_plan_refuses_them_before_anything_is_trained():
    spec = Spec(models="vq-vae(groups=3,latent_dim=4)", metrics="elbo", seeds=1, controls=False)
    with pytest.raises(UsageError, match=r"vq-vae\(.*\): groups=3 do not share latent_dim=4"):
        plan(spec, Catalog.discover())
