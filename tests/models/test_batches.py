"""What a batch may not do: the terms, codes and densities of a picture are its own, whoever stands beside it."""

import importlib

import pytest
import torch
from torch.overrides import TorchFunctionMode

import lvmbench_models
import tests_support
from lvmbench import Attribute, Batch, Budget, Schema, Split, build, log_weights
from lvmbench.options import option_model
from lvmbench.protocols import capabilities

SCHEMA = Schema((1, 8, 8), "gaussian", (Attribute("Bright", "binary"),))
ENTRIES = lvmbench_models.lvmbench_models()
SMALL = {**tests_support.SMALL, "size": 4, "attribute": "Bright"}
BATCH = 5  # no other axis is as long

# The terms that couple the pictures of a batch, on purpose; everything else may not.
COUPLED = {
    "annealed-vae": {"distance from capacity"},
    "sigma-vae": {"distortion"},
    "dip-vae-i": {"off-diagonal", "diagonal"},
    "dip-vae-ii": {"off-diagonal", "diagonal"},
    "info-vae": {"weighted discrepancy"},
    "wae": {"weighted discrepancy"},
    "beta-tcvae": {"weighted information", "weighted total correlation", "weighted dimension-wise rate"},
    "factor-vae": {"discriminator"},
    "supervised": {"labels"},
}
# Of these, those that look at pairs or other orders of pictures: one that stands twice is a pair of its own.
PAIRS = {"info-vae", "wae", "factor-vae"}


class SameNoise(TorchFunctionMode):
    """Every picture of a batch is given the same noise, whatever the size of the batch."""

    KNOWN = ("normal", "normal_", "randn_like", "exponential_", "rand_like")
    UNKNOWN = (
        "bernoulli", "bernoulli_", "cauchy_", "geometric_", "log_normal_", "multinomial", "poisson", "rand",
        "randint", "randint_like", "randn", "random_", "randperm", "uniform_",
    )  # fmt: skip

    def __init__(self, batch):
        super().__init__()
        self.batch, self.generator = batch, torch.Generator().manual_seed(0)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        assert func.__name__ not in self.UNKNOWN, (
            f"a new source of noise, to be made the same: {func.__name__}"
        )
        if func.__name__ not in self.KNOWN:
            return out
        shape = [1 if n == self.batch else n for n in out.shape]
        noise = torch.randn(shape, generator=self.generator)
        if func.__name__ in ("exponential_", "rand_like"):
            noise = torch.rand(shape, generator=self.generator)
            noise = noise if func.__name__ == "rand_like" else -noise.log()
        return out.copy_(args[0] + args[1] * noise if func.__name__ == "normal" else noise.expand(out.shape))


def kind_of(name):
    module, _, attribute = ENTRIES[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def model_of(name):
    kind = kind_of(name)
    options = {k: v for k, v in SMALL.items() if k in option_model(kind).model_fields}
    model = build(kind, SCHEMA, options, 0)
    images = torch.randint(0, 256, (64, *SCHEMA.shape)).to(torch.uint8)
    train = Split(images, (torch.arange(64) % 2)[:, None].float(), torch.arange(64))
    for prepare, given in (("start", (train,)), ("fit", (train, Budget(), 0))):
        if hasattr(model, prepare):
            getattr(model, prepare)(*given)
    return model.eval()


@pytest.fixture
def x():
    return torch.rand(BATCH, *SCHEMA.shape)


@torch.no_grad()
def terms(model, x, noise=SameNoise):
    """Return every term of every loss by name: [B] or []."""
    with noise(len(x)):
        if "losses" in capabilities(model):
            losses = model.losses(Batch(x, (x[:, 0, 0, :1] > 0.5).float()), 1.0)
        else:
            losses = {"loss": model.loss(x)}
    found = {}
    for name, loss in losses.items():
        found |= loss if isinstance(loss, dict) else {name: loss}
    return found


@torch.no_grad()
def values(model, x):
    """Return everything that a model says of each picture, by name: [B, ...]."""
    asked = {"log_prob": getattr(model, "log_prob", None), "encode": getattr(model, "encode", None)}
    asked |= getattr(model, "views", dict)()
    if "log_weights" in capabilities(model):
        asked["log_weights"] = lambda x: log_weights(model, x, 3).T
    found = {}
    for name, function in asked.items():
        if function is not None:
            with SameNoise(len(x)):
                found[name] = function(x)
    return found


def assert_same(found, expected):
    assert set(found) == set(expected)
    for term, value in found.items():
        torch.testing.assert_close(
            value, expected[term], rtol=1e-4, atol=1e-4, msg=lambda m, t=term: f"{t}: {m}"
        )


trained = pytest.mark.parametrize(
    "name", [n for n in ENTRIES if {"loss", "losses"} & capabilities(kind_of(n))]
)
each = pytest.mark.parametrize("name", ENTRIES)


def test_the_same_noise_is_the_same_in_batches_of_any_size_and_new_in_every_draw():
    def drawn(n):
        with SameNoise(n), torch.no_grad():
            normal = torch.distributions.Normal(torch.zeros(n, 4), 1.0)
            shapes = normal.rsample((3,)), normal.sample(), torch.randn_like(torch.zeros(n, 4))
            return [*shapes, torch.empty(n, 2, 3).exponential_(), torch.rand_like(torch.zeros(n, 4))]

    few, many = drawn(1), drawn(7)
    for a, b in zip(few, many, strict=True):
        assert torch.equal(a.expand_as(b), b)
    assert len({float(t.flatten()[0]) for t in few}) == len(few)
    assert len(few[0].unique()) == few[0].numel()
    with pytest.raises(AssertionError, match="new source of noise"), SameNoise(2):
        torch.randperm(3)


@trained
def test_its_terms_follow_the_order_of_the_pictures(name, x):
    model, order = model_of(name), torch.tensor([3, 0, 4, 2, 1])
    expected = {term: value[order] if value.dim() else value for term, value in terms(model, x).items()}
    assert_same(terms(model, x[order]), expected)


@trained
def test_a_term_is_a_pictures_own_unless_it_is_listed_as_coupling_the_batch(name, x):
    model = model_of(name)
    together, alone = terms(model, x), [terms(model, one[None]) for one in x]
    own = set(together) - COUPLED.get(name, set())
    assert all(together[term].shape == (BATCH,) for term in own)
    expected = {term: torch.cat([one[term] for one in alone]) for term in own}
    assert_same({term: together[term] for term in own}, expected)


@trained
def test_a_term_that_is_listed_does_couple_the_batch(name, x):
    model, other = model_of(name), torch.cat([x[:2], x[2:].flip(-1) * 0.5])
    before, after = (terms(model, rows, lambda _: torch.random.fork_rng()) for rows in (x, other))
    assert COUPLED.get(name, set()) <= set(before)
    for term in COUPLED.get(name, ()):
        apart = before[term] != after[term]
        assert apart.ndim == 0 or apart[:2].all()


@trained
def test_its_loss_is_the_same_when_every_picture_stands_twice(name, x):
    model = model_of(name)
    once, twice = terms(model, x), terms(model, torch.cat([x, x]))
    free = set(once) - (COUPLED[name] if name in PAIRS else set())
    expected = {term: torch.cat([once[term]] * 2) if once[term].dim() else once[term] for term in free}
    assert_same({term: twice[term] for term in free}, expected)


@each
def test_what_it_says_of_a_picture_is_the_same_in_any_company_and_order(name, x):
    model, order = model_of(name), torch.tensor([3, 0, 4, 2, 1])
    found = values(model, x)
    assert found or "row_codes" in capabilities(model)
    assert_same(values(model, x[order]), {term: value[order] for term, value in found.items()})
    alone = [values(model, one[None]) for one in x]
    assert_same(found, {term: torch.cat([one[term] for one in alone]) for term in found})
