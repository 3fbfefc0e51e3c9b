"""Convolutions on a processor and their gradients, each by the quickest of the ways that come to the same sum.

A convolution leads from large pictures to small ones, or to equal ones; a transposed one leads back, and is the
gradient of the first. A weight is [small, large, height, width], by the channels of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import fold, pixel_shuffle, unfold

from lvmbench.products import linear

Pair = tuple[int, int]

FEW = 16  # channels: what a processor multiplies at once
MANY = 512  # channels of small pictures, from which on it pays to write out what each of their places meets
MORE = {(a, b) for a in (0, 1) for b in (0, 1)}  # rows and columns that a transposed convolution may add
PLACES = 16  # of a small picture, up to which torch is slow at many channels


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Return the small pictures, as torch's function of this name: [B, large, H, W] -> [B, small, h, w]."""
    if len(weight) < MANY or not _plain(input, stride, padding, dilation, groups):
        return functional.conv2d(input, weight, bias, stride, padding, dilation, groups)
    x, weight, bias = _in_one_precision(input, weight, bias)
    out: Tensor = _Convolution.apply(x, weight, bias, _pair(stride), _pair(padding))
    return out


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """Return the large pictures, as torch's function of this name: [B, small, h, w] -> [B, large, H, W]."""
    more = _pair(output_padding)
    if more not in MORE or not _plain(input, stride, padding, dilation, groups):
        return functional.conv_transpose2d(
            input, weight, bias, stride, padding, output_padding, groups, dilation
        )
    x, weight, bias = _in_one_precision(input, weight, bias)
    steps, margins = _pair(stride), _pair(padding)
    spaced = zip(x.shape[2:], steps, margins, weight.shape[2:], more, strict=True)
    height, width = ((n - 1) * step - 2 * margin + side + more for n, step, margin, side, more in spaced)
    out: Tensor = _Transposed.apply(x, weight, bias, steps, margins, (height, width))
    return out


def _plain(x: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> bool:
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.is_floating_point()
        and groups == 1
        and not isinstance(padding, str)
        and len(_pair(stride)) == len(_pair(padding)) == 2
        and _pair(dilation) == (1, 1)
    )


def _pair(value: Any) -> Pair:
    pair: Pair = (
        tuple(value) * (1 if len(value) > 1 else 2) if isinstance(value, Sequence) else (value, value)
    )
    return pair


def _in_one_precision(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return tensors as autocast would cast them."""
    if not torch.is_autocast_enabled("cpu") or x.dtype == torch.float64:
        return x, weight, bias
    kind = torch.get_autocast_dtype("cpu")
    return x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)


class _Convolution(torch.autograd.Function):
    """The convolution of many channels, whose gradients are products where its places are few."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        """Return the small pictures: [B, large, H, W] -> [B, small, h, w]."""
        return functional.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep what the gradients are made of."""
        x, weight, _, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias, of each that is wanted."""
        x, weight = ctx.saved_tensors
        wanted, spacing = ctx.needs_input_grad, (ctx.stride, ctx.padding)
        of_x = _spread(gradient, weight, None, *spacing, tuple(x.shape[2:])) if wanted[0] else None
        of_weight = _slopes(x, gradient, weight, *spacing) if wanted[1] else None
        return of_x, of_weight, gradient.sum((0, 2, 3)) if wanted[2] else None, None, None


class _Transposed(torch.autograd.Function):
    """The transposed convolution, whose gradients are those of the convolution that it is the gradient of."""

    @staticmethod
    def forward(
        x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, sides: Pair
    ) -> Tensor:
        """Return the large pictures: [B, small, h, w] -> [B, large, H, W]."""
        return _spread(x, weight, bias, stride, padding, sides)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep what the gradients are made of."""
        x, weight, _, ctx.stride, ctx.padding, _ = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight and bias, of each that is wanted."""
        x, weight = ctx.saved_tensors
        wanted, spacing = ctx.needs_input_grad, (ctx.stride, ctx.padding)
        of_x = functional.conv2d(gradient, weight, None, *spacing) if wanted[0] else None
        of_weight = _slopes(gradient, x, weight, *spacing) if wanted[1] else None
        return of_x, of_weight, gradient.sum((0, 2, 3)) if wanted[2] else None, None, None, None


def _spread(
    small: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, sides: Pair
) -> Tensor:
    """Return the large pictures of these sides: what each place of the small ones adds to those that it meets."""
    doubles = (stride, padding, weight.shape[2:]) == ((2, 2), (1, 1), (4, 4))
    if doubles and weight.shape[1] < FEW and len(small):
        return _shuffled(small, weight, bias, sides)
    if _as_product(small):
        places = small.shape[2:].numel()
        met = linear(weight.flatten(1).t(), small.transpose(0, 1).reshape(len(weight), -1).t())
        columns = met.view(len(met), len(small), places).transpose(0, 1)
        out = fold(columns, sides, weight.shape[2:], padding=padding, stride=stride)
        return out if bias is None else out + bias[:, None, None]
    spaced = zip(sides, small.shape[2:], stride, padding, weight.shape[2:], strict=True)
    more = [side - (n - 1) * step + 2 * margin - k for side, n, step, margin, k in spaced]
    return functional.conv_transpose2d(small, weight, bias, stride, padding, more)


def _slopes(large: Tensor, small: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    """Return the gradient of a weight: [small, large, height, width]."""
    if _as_product(small):
        met = unfold(large, weight.shape[2:], padding=padding, stride=stride)
        rows = small.transpose(0, 1).reshape(len(weight), -1)
        return linear(rows, met.transpose(0, 1).reshape(met.shape[1], -1)).view_as(weight)
    slopes: Tensor = torch.ops.aten.convolution_backward(
        small, large, weight, None, stride, padding, (1, 1), False, (0, 0), 1, (False, True, False)
    )[1]
    return slopes


def _as_product(small: Tensor) -> bool:
    """Return whether one product of matrices is quicker than the convolution: of many channels and few places."""
    return small.shape[1] >= MANY and small.shape[2:].numel() <= PLACES


def _shuffled(x: Tensor, weight: Tensor, bias: Tensor | None, sides: Pair) -> Tensor:
    """Return the transposed convolution that doubles pictures, by a convolution of 2 x 2 weights.

    That gives the four pixels of each place as four channels (Shi et al. 2016, arXiv 1609.07009). Of the 4 x 4 weights
    a pixel meets two by two, those of its own parity.
    """
    inputs, outputs = weight.shape[:2]
    # [in, out, 2, parity, 2, parity], a later weight for an earlier input -> [out, parity, parity, in, 2, 2]
    by_parity = weight.reshape(inputs, outputs, 2, 2, 2, 2).permute(1, 3, 5, 0, 2, 4).flip(4, 5)
    of_four = None if bias is None else bias.repeat_interleave(4)
    four = functional.conv2d(x, by_parity.reshape(4 * outputs, inputs, 2, 2), of_four, padding=1)
    by_channel = four.is_contiguous()
    out = pixel_shuffle(four, 2)[:, :, 1 : sides[0] + 1, 1 : sides[1] + 1]
    return out.contiguous(memory_format=torch.contiguous_format if by_channel else torch.channels_last)
