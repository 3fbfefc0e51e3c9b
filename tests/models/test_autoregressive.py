import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import logistic

from lvmbench import Budget, Schema, Split, bits_per_dim, build, fit, observe
from lvmbench.testing import check_model
from lvmbench_models.autoregressive import MADE, SCALE_FLOOR, SCALE_GAIN, logistics

BINARY, COLOUR = Schema((1, 3, 3), "bernoulli"), Schema((3, 4, 2), "gaussian")
K = 2


def scrambled(schema, **options):
    """Return a model whose every weight matters."""
    model = build(MADE, schema, options, 0).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * 0.7)
    return model


def without(model, part):
    """Silence the weights by which one part reaches the outputs."""
    with torch.no_grad():
        getattr(model, part).weight.zero_()
    return model


def jacobian(model):
    """Return whether any output for value i depends on value j: [d, d]."""
    model = model.double()
    values = (torch.rand(model.schema.dims) * 2 - 1).double()
    slopes = torch.autograd.functional.jacobian(lambda v: model.conditionals(v[None])[0], values)
    return (slopes != 0).any(0)


def all_pictures(shape):
    return torch.tensor(list(product([0.0, 1.0], repeat=math.prod(shape)))).reshape(-1, *shape)


@pytest.mark.parametrize("layers", [1, 2])
def test_its_probabilities_of_all_pictures_sum_to_one(layers):
    model = scrambled(BINARY, hidden=12, layers=layers)
    log_p = model.log_prob(all_pictures(BINARY.shape)).detach().double()
    assert float(log_p.logsumexp(0)) == pytest.approx(0, abs=1e-5)
    assert log_p.std() > 0.5


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_the_probabilities_of_all_levels_sum_to_one(scale):
    parameters = (scale * torch.randn(200, 3 * 3)).double()[:, :, None]
    log_p = logistics(torch.arange(256.0).double().expand(200, 256), parameters.expand(-1, -1, 256))
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(200).double(), atol=1e-9, rtol=0)


def test_a_level_has_the_mass_of_the_logistics_between_its_sides():
    weight, mean, raw = (0.2 * torch.randn(3, K)).double()
    level = torch.arange(256.0).double()
    found = logistics(level[None], torch.cat([weight, mean, raw])[None, :, None].expand(-1, -1, 256))[0]
    scale = SCALE_FLOOR / torch.sigmoid(SCALE_GAIN * raw)
    sides = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])[:, None]
    mass = np.diff(logistic.cdf(sides, 127.5 * (1 + mean), scale), axis=0) @ weight.softmax(0).numpy()
    np.testing.assert_allclose(found.exp(), mass, rtol=1e-6, atol=1e-14)


def test_no_logistic_is_narrower_than_a_grey_level():
    sharp = torch.tensor([0.0, 0.0, 50.0])[None, :, None].expand(-1, -1, 256)
    p = logistics(torch.arange(256.0)[None], sharp).exp()[0]
    deviation = float((p * (torch.arange(256) - 127.5) ** 2).sum().sqrt())
    assert deviation == pytest.approx(1, abs=0.05)  # a logistic of one, and what rounding adds


@pytest.mark.parametrize("raw", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("level", [0.0, 1.0, 200.0, 255.0])
def test_far_from_what_is_expected_log_p_and_its_gradient_are_finite(raw, level):
    parameters = torch.tensor([0.0, 30.0, raw])[None, :, None].requires_grad_()
    log_p = logistics(torch.tensor([[level]]), parameters)
    (gradient,) = torch.autograd.grad(log_p.sum(), parameters)
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"layers": 2}, {"hidden": 5}])
@pytest.mark.parametrize("schema", [BINARY, COLOUR])
def test_a_conditional_depends_on_earlier_values_only(schema, options):
    found = jacobian(scrambled(schema, **{"hidden": 40} | options))
    assert not found.triu().any()
    assert found.any()


@pytest.mark.parametrize("layers", [1, 2])
def test_hidden_units_connect_all_that_they_may(layers):
    model = without(scrambled(COLOUR, hidden=23, layers=layers), "direct")
    assert len(model.hidden) == layers
    assert torch.equal(jacobian(model), torch.ones(24, 24).tril(-1).bool())


def test_a_value_is_connected_directly_to_the_row_before_it():
    model = without(scrambled(COLOUR), "output")
    pixel = torch.arange(24) // 3
    near = (pixel[:, None] - pixel) <= 3  # two pixels are a row: up to the pixel above, and to its left
    assert torch.equal(jacobian(model), torch.ones(24, 24).tril(-1).bool() & near)


def test_direct_weights_are_the_same_at_every_place():
    model = without(scrambled(Schema((3, 6, 4), "gaussian")), "output")
    with torch.no_grad():
        model.output.bias.zero_()
        x = torch.rand(1, 72)
        out, moved = model.conditionals(x), model.conditionals(torch.cat([torch.zeros(1, 3), x[:, :-3]], 1))
    torch.testing.assert_close(out[..., :-3], moved[..., 3:])


def test_the_colours_of_a_pixel_stand_side_by_side():
    model = scrambled(COLOUR)
    x = torch.rand(1, *COLOUR.shape)
    seen = []
    model.conditionals = lambda values: seen.append(values) or torch.zeros(1, 9, 24)
    model.log_prob(x)
    torch.testing.assert_close(seen[0][0, :6], (x[0, :, 0, :2].T.flatten() * 256).floor() / 127.5 - 1)


def test_a_picture_counts_alone_as_in_any_company():
    for schema in (BINARY, COLOUR):
        model, x = scrambled(schema, components=K), torch.rand(7, *schema.shape).round()
        log_p, order = model.log_prob(x), torch.randperm(7)
        assert log_p.shape == (7,)
        torch.testing.assert_close(model.log_prob(x[order]), log_p[order], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(model.log_prob(x[:1]), log_p[:1], rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(model.loss(x), -log_p)


def test_its_density_is_the_mass_of_the_grey_levels_whatever_the_pixel_noise():
    model = scrambled(COLOUR, components=K)
    images = torch.randint(0, 256, (4, *COLOUR.shape))
    images[0, 0] = 255
    low, high = (images + 0.001) / 256, (images + 0.999) / 256
    log_p = model.log_prob(low)
    assert torch.equal(log_p, model.log_prob(high))
    assert torch.equal(log_p, model.log_prob(torch.where(images == 255, 1.0, low)))
    level = images.float().movedim(1, -1).flatten(1)
    mass = logistics(level, model.conditionals(level / 127.5 - 1)).sum(1)
    torch.testing.assert_close(bits_per_dim(COLOUR, log_p), -mass / (24 * math.log(2)))


def test_before_training_values_are_independent_and_components_apart():
    model = build(MADE, COLOUR, {"components": 3}, 0)
    x = torch.rand(2, 24)
    parameters = model.conditionals(x)
    assert torch.equal(parameters[0], parameters[1])
    weight, mean, raw = parameters[0].chunk(3)
    assert mean[:, 0].tolist() == pytest.approx([-1 / 3, 0, 1 / 3])
    torch.testing.assert_close(SCALE_FLOOR / torch.sigmoid(SCALE_GAIN * raw), torch.full((3, 24), 32.0))
    assert not weight.any()


def test_units_that_see_little_start_as_loud_as_those_that_see_much():
    model = build(MADE, Schema((1, 20, 20), "bernoulli"), {"hidden": 100}, 0)
    seen = model.hidden[0](torch.randn(2_000, 400)).squeeze(1).var(0)
    torch.testing.assert_close(seen[:50].mean(), torch.tensor(2.0), atol=0.3, rtol=0)
    torch.testing.assert_close(seen[50:].mean(), torch.tensor(2.0), atol=0.3, rtol=0)


def test_trained_on_a_known_distribution_it_reaches_its_entropy():
    # fair coin a; b of 1 in 5; c = a xor b, and d = c, each wrong 1 time in 10
    schema, generator = Schema((1, 2, 2), "bernoulli"), torch.Generator().manual_seed(0)
    a, b, e, f = torch.rand(4, 4_000, generator=generator) < torch.tensor([[0.5], [0.2], [0.1], [0.1]])
    pictures = torch.stack([a, b, a ^ b ^ e, a ^ b ^ e ^ f], dim=1).reshape(-1, *schema.shape)
    split = Split(255 * pictures.to(torch.uint8), torch.zeros(4_000, 0), torch.arange(4_000))
    model = build(MADE, schema, {"hidden": 16}, 0)
    budget = Budget(images=32_000, batch=64, learning_rate=1e-2)
    fit(model, split, split.head(200), budget, schema, seed=0)

    x = all_pictures(schema.shape)
    a, b, c, d = x.flatten(1).bool().T
    wrong = torch.stack([a, b, a ^ b ^ c, c ^ d]).double()
    chance = torch.tensor([0.5, 0.2, 0.1, 0.1]).double()[:, None]
    p = torch.where(wrong.bool(), chance, 1 - chance).prod(0)
    cross_entropy = -float((p * model.log_prob(x).detach().double()).sum())
    entropy = -float((p * p.log()).sum())
    assert entropy < cross_entropy < entropy + 0.02


def test_gradients_reach_every_weight_that_is_not_masked():
    model = scrambled(COLOUR, hidden=9, layers=2)
    model.loss(observe(COLOUR, torch.randint(0, 256, (5, *COLOUR.shape)))).sum().backward()
    for layer in (*model.hidden, model.output, model.direct):
        dead = layer.weight.grad == 0
        assert not layer.weight.grad[:, layer.mask == 0].any()
        assert not dead[:, layer.mask == 1].all()


def test_at_its_default_size_a_colour_picture_takes_less_than_a_hundred_megabytes():
    model = build(MADE, Schema((3, 32, 32), "gaussian"), {}, 0)
    assert sum(t.nbytes for t in model.state_dict().values()) < 1e8
    assert not any("mask" in name for name in model.state_dict())


@pytest.mark.parametrize("layers", [1, 2])
def test_it_meets_the_contract(layers):
    check_model(MADE, hidden=8, layers=layers, components=K)
