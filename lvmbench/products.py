"""Products of float32 on a processor, by the library that fills its registers.

torch multiplies float32 by MKL, which on AMD's processors works in registers of 256 bits. From Zen 5 on they multiply
twice as many numbers at once, and oneDNN, which torch brings too, makes use of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lvmbench.environment import has_wide_registers

LARGE = 1 << 20  # multiplications, from which on oneDNN saves more than it takes to prepare


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x W' + b, as torch's function of this name, to rounding: [..., in], [out, in], [out] -> [..., out]."""
    if not _gains(input, weight, bias):
        return functional.linear(input, weight, bias)
    out: Tensor = (_Linear.apply if torch.is_grad_enabled() else _product)(input, weight, bias)
    return out


def _gains(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        has_wide_registers()
        and weight.dim() == 2
        and x.shape[-1:] == weight.shape[1:]
        and (bias is None or (bias.shape == weight.shape[:1] and bias.is_contiguous()))
        and x.numel() * len(weight) >= LARGE
        and x.device.type == "cpu"
        and all(t.dtype == torch.float32 for t in (x, weight, bias) if t is not None)
        and not torch.is_autocast_enabled("cpu")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class _Linear(torch.autograd.Function):
    """A linear layer, whose gradients are linear layers too."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W' + b: [..., in], [out, in], [out] -> [..., out]."""
        return _product(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        """Keep what the gradients are made of."""
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, weight and bias, of each that is wanted."""
        x, weight = ctx.saved_tensors
        wanted, rows = ctx.needs_input_grad, gradient.reshape(-1, len(weight))
        of_x = linear(gradient, weight.t()) if wanted[0] else None
        of_weight = linear(rows.t(), x.reshape(-1, weight.shape[1]).t()) if wanted[1] else None
        return of_x, of_weight, rows.sum(0) if wanted[2] else None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out
