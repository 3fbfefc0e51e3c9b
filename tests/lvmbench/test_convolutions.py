import pytest
import torch
from torch.nn.functional import conv_transpose2d

from lvmbench import convolutions
from lvmbench.convolutions import FEW, Doubling

SIDES = [(4, 4), (3, 5), (1, 2)]
odd = pytest.mark.parametrize("odd", [(0, 0), (1, 0), (0, 1), (1, 1)])
sides = pytest.mark.parametrize("side", SIDES, ids=str)
channels = pytest.mark.parametrize("channels", [1, 3, FEW, FEW + 2])


@odd
@sides
@channels
def test_doubling_is_torchs_transposed_convolution_with_its_gradients(channels, side, odd):
    torch.manual_seed(0)
    layer = Doubling(5, channels, odd=odd).double()
    x = torch.randn(2, 5, *side, dtype=torch.float64, requires_grad=True)
    wanted = [x, *layer.parameters()]
    ours = layer(x)
    theirs = conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1, output_padding=odd)
    assert ours.shape == (2, channels, 2 * side[0] + odd[0], 2 * side[1] + odd[1])
    torch.testing.assert_close(ours, theirs)
    weigh = torch.randn_like(ours)
    found, expected = (torch.autograd.grad((y.sin() * weigh).sum(), wanted) for y in (ours, theirs))
    torch.testing.assert_close(found, expected)


@channels
def test_doubling_asks_for_no_gradient_of_pictures_that_need_none(channels):
    layer = Doubling(2, channels)
    layer(torch.randn(1, 2, 3, 3)).sum().backward()
    assert layer.weight.grad is not None


@channels
def test_a_frozen_layer_is_passed_through_and_keeps_no_gradient(channels, monkeypatch):
    layer, x = Doubling(2, channels).requires_grad_(False), torch.randn(1, 2, 3, 3, requires_grad=True)
    expected = conv_transpose2d(x, layer.weight, layer.bias, stride=2, padding=1).sin().sum()
    monkeypatch.setattr(convolutions, "conv2d_weight", None)  # whoever asks for it fails
    found, wanted = (torch.autograd.grad(y, x)[0] for y in (layer(x).sin().sum(), expected))
    torch.testing.assert_close(found, wanted)


@channels
def test_inside_autocast_doubling_computes_in_bfloat16(channels):
    layer = Doubling(2, channels)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(1, 2, 3, 3))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert layer.weight.grad.dtype == torch.float32
