import math

import pytest
import torch
from scipy.stats import kstest
from torch.distributions import Bernoulli, Independent, Normal

import lvmbench.pixels
from lvmbench import Schema, bits_per_dim, expected, gaussian, likelihood, observe, pixels
from lvmbench.pixels import SCALE_FLOOR

GREY = Schema((1, 2, 3), "gaussian")
BINARY = Schema((1, 2, 3), "bernoulli")


def noise():
    return torch.Generator().manual_seed(0)


def test_gaussian_pixels_are_spread_evenly_over_their_grey_level():
    images = torch.full((20_000, 1, 2, 3), 7, dtype=torch.uint8)
    x = observe(GREY, images, noise()) * 256
    assert 7 <= x.min() < x.max() < 8
    assert float(x.mean()) == pytest.approx(7.5, abs=0.01)
    assert float(x.var()) == pytest.approx(1 / 12, rel=0.02)


def test_binary_pixels_are_on_as_often_as_they_are_bright():
    images = torch.full((20_000, 1, 2, 3), 51, dtype=torch.uint8)
    x = observe(BINARY, images, noise())
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert float(x.mean()) == pytest.approx(0.2, abs=0.01)


def test_the_share_of_a_binary_pixel_is_its_grey_value_to_the_last_of_sixteen_bits(monkeypatch):
    every = torch.arange(-(2**15), 2**15).to(torch.int16)[:, None, None, None].expand(-1, 1, 1, 256)
    monkeypatch.setattr(pixels, "_whole_numbers", lambda *_: every)
    grey = torch.arange(256, dtype=torch.uint8).expand(2**16, 1, 1, 256)
    share = observe(Schema((1, 1, 256), "bernoulli"), grey).double().mean(0).flatten()
    torch.testing.assert_close(share, torch.arange(256).double() / 255, atol=0.51 / 2**16, rtol=0)
    assert share[[0, 255]].tolist() == [0, 1]


@pytest.mark.parametrize("last", [-(2**15), 2**15 - 1])
def test_gaussian_noise_never_reaches_the_next_grey_level(monkeypatch, last):
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256)
    monkeypatch.setattr(pixels, "_whole_numbers", lambda *_: torch.full_like(grey, last, dtype=torch.int16))
    torch.testing.assert_close(
        (observe(Schema((1, 1, 256), "gaussian"), grey) * 256).floor(), grey.float(), atol=0, rtol=0
    )


def test_the_noise_of_pixels_is_even_and_of_no_pattern():
    noise_of = pixels._whole_numbers((100_000,), torch.device("cpu"), noise())
    assert noise_of.dtype == torch.int16
    assert kstest((noise_of.double().numpy() + 2**15 + 0.5) / 2**16, "uniform").pvalue > 0.01
    u = noise_of.double()
    assert abs(float(torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1])) < 0.01


@pytest.mark.parametrize("schema", [GREY, BINARY])
def test_black_and_white_stay_what_they_are_under_the_noise(schema):
    ends = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 2, 3)
    for _ in range(20):
        x = observe(schema, ends)
        assert (x[0] < 1 / 255).all()
        assert (x[1] > 254 / 255).all()


@pytest.mark.parametrize("schema", [GREY, BINARY])
def test_the_expected_picture_is_the_mean_of_what_is_observed(schema):
    images = torch.arange(6, dtype=torch.uint8).mul(50).reshape(1, 1, 2, 3)
    seen = observe(schema, images.expand(40_000, -1, -1, -1), noise()).mean(0, keepdim=True)
    torch.testing.assert_close(seen, expected(schema, images), atol=0.01, rtol=0)


def test_pixel_noise_follows_the_generator_it_is_given():
    images = torch.zeros(4, 1, 2, 3, dtype=torch.uint8)
    torch.testing.assert_close(observe(GREY, images, noise()), observe(GREY, images, noise()), atol=0, rtol=0)
    assert not torch.equal(observe(GREY, images), observe(GREY, images))


def test_a_gaussian_likelihood_of_one_pixel_integrates_to_one():
    schema = Schema((1, 1, 1), "gaussian")
    p = likelihood(schema, torch.tensor([[[0.3]]]), torch.tensor(-2.0))
    grid = torch.linspace(-2, 3, 20_001)
    density = p.log_prob(grid[:, None, None, None]).exp()
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("draws", [(), (5,)])
def test_the_fast_gaussian_is_torchs_gaussian(draws):
    mean = torch.rand(*draws, 4, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    scale = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    x = torch.rand(4, 1, 2, 3, dtype=torch.float64)
    ours = gaussian(mean, scale).log_prob(x)
    theirs = Independent(Normal(mean, scale, validate_args=True), 3).log_prob(x)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(v.sum(), (mean, scale)) for v in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


def test_a_scale_for_each_channel_is_allowed():
    mean, scale = torch.rand(4, 3, 2, 2), torch.tensor([0.1, 0.2, 0.3]).reshape(3, 1, 1)
    x = torch.rand(4, 3, 2, 2)
    torch.testing.assert_close(
        gaussian(mean, scale).log_prob(x), Normal(mean, scale).log_prob(x).sum((1, 2, 3))
    )


def test_a_gaussian_likelihood_has_mean_in_range_and_its_scale():
    p = likelihood(GREY, torch.full((2, 1, 2, 3), 9.0), torch.tensor(math.log(0.3)))
    assert p.batch_shape == (2,)
    assert p.event_shape == GREY.shape
    assert (p.mean < 1).all()
    assert p.sample((4_000,)).std(0).mean() == pytest.approx(0.3, rel=0.02)


def test_the_scale_never_falls_under_one_grey_level():
    p = likelihood(GREY, torch.zeros(1, 1, 2, 3), torch.tensor(-100.0))
    torch.testing.assert_close(p.variance.sqrt(), torch.full((1, 1, 2, 3), SCALE_FLOOR))


def test_a_bernoulli_likelihood_is_torchs_and_ignores_the_scale():
    logits = torch.randn(4, 1, 2, 3)
    x = torch.randint(0, 2, (4, 1, 2, 3)).float()
    ours = likelihood(BINARY, logits, torch.tensor(3.0)).log_prob(x)
    torch.testing.assert_close(ours, Bernoulli(logits=logits, validate_args=True).log_prob(x).sum((1, 2, 3)))


@pytest.mark.parametrize("draws", [(), (3,)])
def test_the_fast_bernoulli_and_its_gradients_are_torchs(draws):
    logits = torch.randn(*draws, 4, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    x = torch.rand(4, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    ours = likelihood(BINARY, logits, torch.zeros(())).log_prob(x)
    theirs = Bernoulli(logits=logits, validate_args=False).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(ours, theirs)
    found, expected = (
        torch.autograd.grad(p.square().sum(), (logits, x), create_graph=True) for p in (ours, theirs)
    )
    torch.testing.assert_close(found, expected)
    again, twice = (torch.autograd.grad(g[0].square().sum(), logits)[0] for g in (found, expected))
    torch.testing.assert_close(again, twice)


@pytest.mark.parametrize("most", [1, 24, 25, 49])
def test_a_bernoulli_of_many_draws_may_be_taken_in_parts(most, monkeypatch):
    logits, x = torch.randn(5, 4, 1, 2, 3, requires_grad=True), torch.rand(4, 1, 2, 3)
    theirs = Bernoulli(logits=logits, validate_args=False).log_prob(x).sum((-3, -2, -1))
    monkeypatch.setattr(lvmbench.pixels, "CACHED", most)
    ours = likelihood(BINARY, logits, torch.zeros(())).log_prob(x)
    torch.testing.assert_close(ours, theirs)
    found, expected = (torch.autograd.grad(p.square().sum(), logits) for p in (ours, theirs))
    torch.testing.assert_close(found, expected)
    assert likelihood(BINARY, logits[0, 0], torch.zeros(())).log_prob(x[0]).shape == ()


@pytest.mark.parametrize("most", [24, 100])
def test_gradients_of_a_bernoulli_are_mapped_over_many_at_once(most, monkeypatch):
    monkeypatch.setattr(lvmbench.pixels, "CACHED", most)
    logits, x = torch.randn(3, 2, 1, 2, 3, requires_grad=True), torch.rand(2, 1, 2, 3)
    ours, weights = likelihood(BINARY, logits, torch.zeros(())).log_prob(x), torch.randn(4, 3, 2)
    (found,) = torch.autograd.grad(ours, logits, weights, is_grads_batched=True)
    torch.testing.assert_close(found, weights[..., None, None, None] * (x - logits.sigmoid()))


@pytest.mark.parametrize("logit", [0.0, 1e-4, 5.0, 20.0, 200.0])
def test_the_fast_bernoulli_is_exact_however_sure_it_is(logit):
    logits = torch.tensor([logit, -logit]).reshape(2, 1, 1, 1)
    for x in (0.0, 1.0):
        exact = Bernoulli(logits=logits.double()).log_prob(torch.full_like(logits, x).double()).flatten()
        ours = likelihood(BINARY, logits, torch.zeros(())).log_prob(torch.full_like(logits, x))
        torch.testing.assert_close(ours.double(), exact, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("side", [1, 5, 28, 64])
@pytest.mark.parametrize("spread", [0.1, 5.0, 30.0])
def test_the_fast_bernoulli_is_as_exact_for_pictures_of_any_size(side, spread):
    logits = spread * torch.randn(7, 2, 1, side, side)
    x = torch.bernoulli(logits[0].sigmoid())
    logits = logits[0] + 0.1 * torch.randn_like(logits)  # sure, and right: what is added up nearly cancels
    exact = Bernoulli(logits=logits.double()).log_prob(x.double().expand_as(logits)).sum((-3, -2, -1))
    ours = likelihood(Schema((1, side, side), "bernoulli"), logits, torch.zeros(())).log_prob(x)
    torch.testing.assert_close(ours.double(), exact, atol=2e-4, rtol=1e-6)


def test_a_uniform_density_costs_eight_bits_a_pixel():
    assert float(bits_per_dim(GREY, torch.zeros(()))) == pytest.approx(8)


def test_bits_of_binary_pixels_are_their_code_length():
    nats = torch.tensor(GREY.dims * math.log(0.5))
    assert float(bits_per_dim(BINARY, nats)) == pytest.approx(1)
