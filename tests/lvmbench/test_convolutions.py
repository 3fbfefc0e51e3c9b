import numpy as np
import pytest
import torch
from torch.nn import functional

from lvmbench import convolutions
from lvmbench.convolutions import FEW, MANY, conv2d, conv_transpose2d

SIDES = [(4, 4), (3, 5), (1, 2)]
odd = pytest.mark.parametrize("odd", [(0, 0), (1, 0), (0, 1), (1, 1)])
sides = pytest.mark.parametrize("side", SIDES, ids=str)
channels = pytest.mark.parametrize("channels", [1, 3, FEW, FEW + 2])
# few channels in few places, many channels in few places, many in many
small = pytest.mark.parametrize("small", [(6, 3, 3), (MANY, 3, 2), (MANY, 5, 5)], ids=str)


def random(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def hold(ours, theirs, tensors):
    """Hold what one function makes of tensors, and its gradients, to what another does."""
    found, expected = ours(*tensors), theirs(*tensors)
    torch.testing.assert_close(found, expected)
    weigh = torch.randn_like(expected)
    slopes, others = (torch.autograd.grad((y.sin() * weigh).sum(), tensors) for y in (found, expected))
    torch.testing.assert_close(slopes, others)


def both(ours, theirs, *given, **named):
    return [lambda *tensors, of=function: of(*tensors, *given, **named) for function in (ours, theirs)]


@small
@pytest.mark.parametrize("spacing", [(2, 1), (1, 1), ((2, 1), (0, 2)), (1, 0)], ids=str)
def test_a_convolution_is_torchs_with_its_gradients(small, spacing):
    torch.manual_seed(0)
    many, height, width = small
    tensors = random(2, 3, 2 * height, 2 * width), random(many, 3, 4, 3), random(many)
    hold(*both(conv2d, functional.conv2d, *spacing), tensors)


@small
@odd
@pytest.mark.parametrize("kernel", [3, 4])
def test_a_transposed_convolution_is_torchs_with_its_gradients(small, odd, kernel):
    torch.manual_seed(0)
    many, height, width = small
    tensors = random(2, many, height, width), random(many, FEW, kernel, kernel), random(FEW)
    hold(*both(conv_transpose2d, functional.conv_transpose2d, 2, 1, odd), tensors)


@odd
@sides
@channels
def test_a_doubling_of_pictures_is_torchs_with_its_gradients(channels, side, odd):
    torch.manual_seed(0)
    tensors = random(2, 5, *side), random(5, channels, 4, 4), random(channels)
    hold(*both(conv_transpose2d, functional.conv_transpose2d, 2, 1, odd), tensors)


@pytest.mark.parametrize(
    "named",
    [
        {"padding": "same"},
        {"dilation": 2},
        {"groups": 2},
        {"stride": 2, "padding": 1},
        {"bias": None},
        {"stride": (2,), "padding": (1, 0)},
        {"stride": np.int64(2)},
    ],
    ids=str,
)
def test_a_convolution_takes_all_that_torchs_takes_by_name(named, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(convolutions, "MANY", 1)
    tensors = random(2, 4, 7, 7), random(6, 4 // named.get("groups", 1), 3, 3)
    hold(*both(conv2d, functional.conv2d, **named), tensors)


@pytest.mark.parametrize(
    "named",
    [
        {"dilation": 2},
        {"groups": 2},
        {"stride": 2, "output_padding": 1},
        {"bias": None},
        {"stride": 3, "output_padding": 2},
    ],
    ids=str,
)
def test_a_transposed_convolution_takes_all_that_torchs_takes_by_name(named):
    torch.manual_seed(0)
    tensors = random(2, 4, 7, 7), random(4, 6, 3, 3)
    hold(*both(conv_transpose2d, functional.conv_transpose2d, **named), tensors)


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 3, 6, 6)], ids=str)
@pytest.mark.parametrize(
    ("ours", "theirs"), [(conv2d, functional.conv2d), (conv_transpose2d, functional.conv_transpose2d)]
)
def test_a_picture_alone_and_complex_ones_are_convolved_as_torch_does(ours, theirs, shape, kind, monkeypatch):
    monkeypatch.setattr(convolutions, "MANY", 1)
    tensors = random(*shape, dtype=kind), random(3, 3, 3, 3, dtype=kind)
    found, expected = ours(*tensors), theirs(*tensors)
    torch.testing.assert_close(found, expected)
    slopes, others = (torch.autograd.grad(y.abs().sum(), tensors) for y in (found, expected))
    torch.testing.assert_close(slopes, others)


@pytest.mark.parametrize("more", [2, -1])
def test_pictures_that_torch_makes_no_larger_are_refused_by_its_own_words(more):
    with pytest.raises(RuntimeError, match="output.padding"):
        conv_transpose2d(random(1, MANY, 2, 2), random(MANY, 2, 3, 3), None, 2, 1, more)


def test_doubled_pictures_can_be_viewed_as_rows():
    for order in (torch.contiguous_format, torch.channels_last):
        weight = random(4, 3, 4, 4).detach().to(memory_format=order)
        x = random(2, 4, 5, 5).detach().to(memory_format=order)
        out = conv_transpose2d(x, weight, None, 2, 1)
        assert out.is_contiguous(memory_format=order)


def test_gradients_are_mapped_over_many_at_once(monkeypatch):
    monkeypatch.setattr(convolutions, "MANY", 2)
    tensors = random(2, 3, 3, 3), random(2, 3, 3, 3)
    out = conv2d(*tensors, None, 2, 1)
    many = torch.stack([torch.ones_like(out), 2 * torch.ones_like(out)])
    found = torch.autograd.grad(out, tensors, many, is_grads_batched=True)
    torch.testing.assert_close([2 * slope[0] for slope in found], [slope[1] for slope in found])


@pytest.mark.parametrize("ours", [conv2d, conv_transpose2d])
@pytest.mark.parametrize("many", [2, 3], ids=["as a product", "by torch"])
def test_gradients_have_gradients(ours, many, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(convolutions, "MANY", 2)
    monkeypatch.setattr(convolutions, "PLACES", 16 if many == 2 else 0)
    tensors = random(1, 2, 3, 3), random(2, 2, 3, 3), random(2)
    assert torch.autograd.gradgradcheck(lambda *t: ours(*t, 2, 1), tensors)


@pytest.mark.parametrize("ours", [conv2d, conv_transpose2d])
def test_a_frozen_weight_gets_no_gradient_and_costs_none(ours, monkeypatch):
    x, weight = random(1, 2, 3, 3), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    monkeypatch.setattr(convolutions, "MANY", 2)
    monkeypatch.setattr(convolutions, "_slopes", None)  # whoever asks for it fails
    ours(x, weight).sum().backward()
    assert x.grad is not None


def test_pictures_that_need_no_gradient_cost_none(monkeypatch):
    x, weight = torch.randn(1, 2, 3, 3), random(2, 2, 3, 3, dtype=torch.float32)
    monkeypatch.setattr(convolutions, "MANY", 2)
    monkeypatch.setattr(convolutions, "_spread", None)
    conv2d(x, weight).sum().backward()
    assert weight.grad is not None


@channels
def test_inside_autocast_convolutions_compute_in_bfloat16(channels):
    weight, x = random(2, channels, 4, 4, dtype=torch.float32), torch.randn(1, 2, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv_transpose2d(x, weight, None, 2, 1)
        back = conv2d(out, weight, None, 2, 1)
    assert out.dtype == back.dtype == torch.bfloat16
    back.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def test_inside_autocast_float64_stays_float64():
    with torch.autocast("cpu", torch.bfloat16):
        out = conv_transpose2d(random(1, 2, 3, 3), random(2, 20, 4, 4), None, 2, 1)
    assert out.dtype == torch.float64


def test_no_pictures_are_convolved_to_none():
    weight = random(MANY, 2, 3, 3)
    out = conv2d(random(0, 2, 4, 4), weight)
    assert out.shape == (0, MANY, 2, 2)
    assert conv_transpose2d(out, weight).shape == (0, 2, 4, 4)
    doubled = conv_transpose2d(random(0, 2, 4, 4), random(2, 3, 4, 4), None, 2, 1)
    doubled.sum().backward()
    assert doubled.shape == (0, 3, 8, 8)
