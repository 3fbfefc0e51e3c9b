"""How a schema turns 8-bit pictures into what a model sees, and outputs into a likelihood of them.

The family and the measure belong to the schema; a model owns only the scale, and the scale has a floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn.functional import mse_loss, softplus

from lvmbench.data import Schema, Split

LEVELS = 256
MEAN_ROWS = 1024  # enough for a mean, and few enough for the memory at any size
EVENT = (-3, -2, -1)  # the axes of a picture
CACHED = 2**18  # numbers that a processor's own cache holds: one pass finds what the last one left
FOLDS = 4
SCALE_FLOOR = 1 / LEVELS  # a likelihood narrower than one grey level would reward memorised 8-bit values


def observe(schema: Schema, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return what the density is of: uint8 [B, C, H, W] -> float [B, C, H, W], one draw of the pixel noise.

    Bernoulli pixels are binarised with their grey value as probability; gaussian pixels become (x + u) / 256,
    whose log-density bounds that of the 8-bit picture (Theis et al. 2016).
    """
    noise = _whole_numbers(images.shape, images.device, generator)
    if schema.pixels == "bernoulli":
        # of 2^16 numbers as many lie below as the picture is bright: none for black, all for white
        bright = (images * (2**16 / 255)).round_().sub_(2**15)
        return torch.sub(bright, noise).clamp(0, 1)
    # u in steps of 2^-16: what float32 keeps of it beside a bright pixel
    return torch.add(images + 0.5, noise, alpha=2.0**-16).div_(LEVELS)


def _whole_numbers(shape: Sequence[int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return random numbers from -2^15 to 2^15 - 1: int16 of a shape, in a third of the time of as many floats."""
    count = math.prod(shape)
    words = torch.empty(math.ceil(count / 4), dtype=torch.int64, device=device)
    words = words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[:count].view(shape)


def expected(schema: Schema, images: Tensor) -> Tensor:
    """Return the mean of ``observe`` without its noise: uint8 [B, C, H, W] -> float in [0, 1]."""
    return images / 255 if schema.pixels == "bernoulli" else (images + 0.5) / LEVELS


def mean_picture(schema: Schema, train: Split) -> Tensor:
    """Return the mean of the first pictures of a split, with values in [0, 1]: [C, H, W]."""
    return expected(schema, train.images[:MEAN_ROWS]).mean(0)


def likelihood(schema: Schema, outputs: Tensor, raw_scale: Tensor) -> Distribution:
    """Return p(x|z) from a decoder's outputs: [..., C, H, W] -> batch [...], event [C, H, W].

    ``raw_scale`` (any shape that broadcasts, [] is fastest) is what a model learns of the gaussian scale;
    bernoulli pixels have none. The scale is sqrt(floor² + exp(2 raw_scale)), never under one grey level.
    """
    if schema.pixels == "bernoulli":
        return _Bits(Bernoulli(logits=outputs, validate_args=False), 3, validate_args=False)
    scale = torch.sqrt(torch.exp(2 * raw_scale) + SCALE_FLOOR**2)
    return gaussian(torch.sigmoid(outputs), scale)


def gaussian(mean: Tensor, scale: Tensor) -> Distribution:
    """Return N(mean, scale²) for each pixel: [..., C, H, W] -> batch [...], event [C, H, W]."""
    if scale.dim() == 0:
        return _OneScale(mean, scale)
    return Independent(Normal(mean, scale, validate_args=False), 3, validate_args=False)


class _OneScale(Independent[Normal]):
    """Normal pixels of one scale: their log-density takes two passes where torch's takes nine."""

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__(Normal(mean, scale, validate_args=False), 3, validate_args=False)
        self.scale = scale

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log N(value; mean, scale²) in nats: [..., C, H, W] -> [...]."""
        mean, value = torch.broadcast_tensors(self.base_dist.loc, value)
        error = mse_loss(mean, value, reduction="none").sum(EVENT)
        # log N = -|x - mu|² / (2 s²) - D (log s + log sqrt(2 pi))
        constant = self.event_shape.numel() * (self.scale.log() + 0.5 * math.log(2 * math.pi))
        return -error / (2 * self.scale**2) - constant


class _Bits(Independent[Bernoulli]):
    """Bernoulli pixels: their log-density, and its gradient, take a fifth of the time of torch's."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log Bernoulli(value; logits) in nats: [..., C, H, W] -> [...]."""
        logits = self.base_dist.logits
        if logits.shape != value.shape:
            logits, whole = torch.broadcast_tensors(logits, value)
            value = whole if value.requires_grad else value
        nats: Tensor = _BitLogProb.apply(logits, value)
        return nats


class _BitLogProb(torch.autograd.Function):
    """The sum over pixels of x l - log(1 + e^l), and its gradient x - sigmoid(l).

    torch takes the logarithm of 1 + e^-|l| at a tenth of the speed of that of a sigmoid, which is the same number.
    """

    @staticmethod
    def forward(logits: Tensor, x: Tensor) -> Tensor:
        """Return the log-densities: logits [..., C, H, W], x that broadcasts to them -> [...]."""
        if logits.device.type != "cpu":  # where every call is a launch, and logarithms are cheap
            return (x * logits - softplus(logits)).sum(EVENT)
        rows = CACHED // max(1, logits[:1].numel())
        if logits.dim() in (x.dim(), len(EVENT)) or len(logits) <= rows:
            return _bit_log_prob(logits, x)
        return torch.cat([_bit_log_prob(some, x) for some in logits.split(max(1, rows))])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keep what the gradient is made of."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of logits and x: [...] -> [..., C, H, W] each."""
        logits, x = ctx.saved_tensors
        gradient = gradient[..., None, None, None]
        wanted = ctx.needs_input_grad
        return (
            gradient * (x - logits.sigmoid()) if wanted[0] else None,
            gradient * logits if wanted[1] else None,
        )

    @staticmethod
    def vmap(info: Any, dims: Sequence[int | None], logits: Tensor, x: Tensor) -> tuple[Tensor, int]:
        """Return the log-densities of all members of a cohort at once: [M, ..., C, H, W] -> [M, ...]."""
        first, second = (
            t.movedim(d, 0) if d is not None else t[None] for t, d in zip((logits, x), dims, strict=True)
        )
        rank = max(first.dim(), second.dim())
        first, second = (t.reshape(len(t), *[1] * (rank - t.dim()), *t.shape[1:]) for t in (first, second))
        nats: Tensor = _BitLogProb.apply(first, second)
        return nats, 0


def _bit_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    # x l - log(1 + e^l) = (x - 1/2) l - |l| / 2 + log sigmoid(|l|)
    sure = logits.abs()
    linear = (
        ((x - 0.5) * logits).sub_(sure, alpha=0.5).sum(EVENT)
    )  # pixel by pixel: large numbers that cancel
    together = sure.sigmoid_().flatten(-len(EVENT))
    # one logarithm for sixteen: of numbers from 1/2 to 1 no product of so many underflows
    for _ in range(FOLDS):
        if together.shape[-1] % 2 == 0:
            first, second = together.chunk(2, dim=-1)
            together = first * second
    nats: Tensor = together.log_().sum(-1).add_(linear)
    return nats


def bits_per_dim(schema: Schema, nats: Tensor) -> Tensor:
    """Return bits per pixel value from log-densities in nats, a bound on the 8-bit likelihood: [N] -> [N]."""
    offset = 0.0 if schema.pixels == "bernoulli" else math.log2(LEVELS)
    return offset - nats / (schema.dims * math.log(2))
