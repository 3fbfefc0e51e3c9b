"""The transposed convolution that doubles a picture, as fast on a CPU as the convolution that halves it.

It is the gradient of that convolution, so its own gradients are convolutions: taken as such they need half the time
that torch takes for them. One of few channels is computed as a convolution of 2 x 2 weights that gives
the four pixels of each place as four channels (Shi et al. 2016, arXiv 1609.07009).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pixel_shuffle
from torch.nn.grad import conv2d_weight

FEW = 16  # channels: what a processor multiplies at once


class Doubling(nn.ConvTranspose2d):
    """A transposed convolution of 4 x 4 weights and stride 2: [B, in, H, W] -> [B, out, 2 H, 2 W], or odd sides."""

    def __init__(self, inputs: int, outputs: int, odd: tuple[int, int] = (0, 0)) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1, output_padding=odd)
        self.odd = odd

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the larger pictures: [B, in, H, W] -> [B, out, 2 H, 2 W], or one more where a side is odd."""
        if x.device.type != "cpu":
            return super().forward(x, output_size)
        weight, bias = self.weight, self.bias
        assert bias is not None
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(kind), weight.to(kind), bias.to(kind)
        if self.out_channels < FEW:
            return _shuffled(x, weight, bias, self.odd)
        out: Tensor = _Transposed.apply(x, weight, bias, self.odd)
        return out


def _shuffled(x: Tensor, weight: Tensor, bias: Tensor, odd: tuple[int, int]) -> Tensor:
    """Return the transposed convolution of a weight [in, out, 4, 4], by a convolution of [4 out, in, 2, 2].

    Of the 4 x 4 weights a pixel meets two by two, those of its own parity.
    """
    inputs, outputs = weight.shape[:2]
    # [in, out, 2, parity, 2, parity], a later weight for an earlier input -> [out, parity, parity, in, 2, 2]
    by_parity = weight.reshape(inputs, outputs, 2, 2, 2, 2).permute(1, 3, 5, 0, 2, 4).flip(4, 5)
    four = conv2d(x, by_parity.reshape(4 * outputs, inputs, 2, 2), bias.repeat_interleave(4), padding=1)
    height, width = (2 * side + more for side, more in zip(x.shape[2:], odd, strict=True))
    return pixel_shuffle(four, 2)[:, :, 1 : height + 1, 1 : width + 1]


class _Transposed(torch.autograd.Function):
    """The transposed convolution, whose gradients are those of the convolution that it is the gradient of."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, odd: tuple[int, int]) -> Tensor:
        """Return the larger pictures: [B, in, H, W] -> [B, out, 2 H, 2 W]."""
        return conv_transpose2d(x, weight, bias, stride=2, padding=1, output_padding=odd)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Any], output: Tensor) -> None:
        """Keep what the gradients are made of."""
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """Return the gradients of x, weight and bias, of each that is wanted."""
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        of_x = conv2d(gradient, weight, stride=2, padding=1) if wanted[0] else None
        of_weight = conv2d_weight(gradient, list(weight.shape), x, stride=2, padding=1) if wanted[1] else None
        return of_x, of_weight, gradient.sum((0, 2, 3)) if wanted[2] else None, None
