"""Networks that may compute in less than float32: their weights, and what they return, are float32 all the same.

A model's other arithmetic (likelihoods, rates, log weights) stays float32 whatever its networks compute in; on a GPU
that is told tfloat32 all products of training are of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lvmbench.convolutions import conv2d, conv_transpose2d
from lvmbench.environment import multiplies_bfloat16
from lvmbench.products import linear

Precision = Literal["float32", "tfloat32", "bfloat16"]  # tfloat32: a GPU's products, of 10 bits of mantissa
QUICKER = {
    functional.linear: linear,
    functional.conv2d: conv2d,
    functional.conv_transpose2d: conv_transpose2d,
}
WORTH = 32  # rows, from which on bfloat16 gains a processor more than casting the weights costs it


def fastest(device: str) -> Precision:
    """Return the precision in which a step is fastest on a kind of device."""
    if device != "cpu":
        return "tfloat32"
    return "bfloat16" if multiplies_bfloat16() else "float32"


class Quicker(TorchFunctionMode):
    """Computes layers as a processor is quickest at them, in a with-block; tensors of other classes as they do.

    Where hooks of torch take what autograd keeps, layers are torch's own: one that is computed again outside of the
    block (``torch.utils.checkpoint``) is to keep the same tensors.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        quicker = QUICKER.get(function)
        if (
            quicker
            and not types
            and not torch.compiler.is_compiling()
            and not _hooked()
            and not _transformed()
        ):
            function = quicker
        return function(*args, **(kwargs or {}))


class Body(nn.Sequential):
    """Layers in the precision that their training asks for; float32 unless told otherwise.

    Told bfloat16, a processor keeps float32 for fewer than 32 rows, where it is faster; rows are the first axis.
    """

    precision: Precision = "float32"

    def forward(self, x: Tensor) -> Tensor:
        """Return what the layers make of a batch, as float32: [B, ...] -> [B, ...]."""
        if self.precision != "bfloat16" or (x.device.type == "cpu" and len(x) < WORTH):
            return self._through(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self._through(x).float()

    def _through(self, x: Tensor) -> Tensor:
        with Quicker() if x.device.type == "cpu" else nullcontext():
            for layer in self:
                x = layer(x)
        return x


def _transformed() -> bool:
    """Return whether torch maps or differentiates forwards, for which it has rules of its own functions only."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _hooked() -> bool:
    """Return whether hooks take the tensors that autograd keeps."""
    return torch._C._autograd._top_saved_tensors_default_hooks(False) is not None


class Exact(nn.Linear):
    """A linear layer that no body computes in bfloat16: what says a mean and a scale."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs: [..., inputs] -> [..., outputs]."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return functional.linear(x.float(), self.weight, self.bias)


def bodies(model: Any) -> list[Body]:
    """Return the networks of a model whose precision can be chosen."""
    return [m for m in model.modules() if isinstance(m, Body)] if isinstance(model, nn.Module) else []


@contextmanager
def computing_in(precision: Precision, *models: Any) -> Iterator[None]:
    """Let the networks of models, and a GPU, compute in a precision inside a with-block, in float32 afterwards."""
    before = {switch: switch.allow_tf32 for switch in _switches()}
    _set(precision, models)
    for switch in before:
        switch.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        _set("float32", models)  # what was copied meanwhile too
        for switch, was in before.items():
            switch.allow_tf32 = was


def _set(precision: Precision, models: Sequence[Any]) -> None:
    for body in (body for model in models for body in bodies(model)):
        body.precision = precision


def _switches() -> Sequence[Any]:
    """Return torch's switches of what float32 is on a GPU; where there is none they are left alone."""
    # not fp32_precision: once it is set to "ieee", torch refuses to tell allow_tf32, which others ask for
    return (torch.backends.cuda.matmul, torch.backends.cudnn) if torch.cuda.is_available() else ()
