"""Networks that may compute in bfloat16: their weights, and what they return, are float32 all the same.

A model's other arithmetic (likelihoods, rates, log weights) stays float32 whatever its networks compute in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class Body(nn.Module):
    """A network in the precision that its training asks for; float32 unless told otherwise."""

    precision: Precision = "float32"

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return what the network makes of a batch, as float32: [B, ...] -> [B, ...]."""
        if self.precision == "float32":
            out: Tensor = self.net(x)
            return out
        with torch.autocast(x.device.type, getattr(torch, self.precision)):
            out = self.net(x)
        return out.float()


class Exact(nn.Linear):
    """A linear layer that computes in float32 inside a body of any precision: what says a mean and a scale."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs: [..., inputs] -> [..., outputs]."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return linear(x.float(), self.weight, self.bias)


def bodies(model: Any) -> list[Body]:
    """Return the networks of a model whose precision can be chosen."""
    return [m for m in model.modules() if isinstance(m, Body)] if isinstance(model, nn.Module) else []


@contextmanager
def computing_in(precision: Precision, model: Any) -> Iterator[None]:
    """Let the networks of a model compute in a precision inside a with-block, and in float32 afterwards."""
    for body in bodies(model):
        body.precision = precision
    try:
        yield
    finally:
        for body in bodies(model):
            body.precision = "float32"
