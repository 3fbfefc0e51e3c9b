"""Encoders and decoders by name, for pictures of any size; a plugin's own are named by their module.

``conv`` has the shapes of Burgess et al. (2018) and Locatello et al. (2019): 4x4 kernels of stride 2,
32-32-64-64 channels, and a layer of 256 units between them and the code; ``resnet`` adds a residual block
(He et al. 2016) at each size. ``mlp`` has 512 and 256 units, ``burda`` the two layers of 200 tanh units and
Glorot's initial weights of Burda et al. (2016). With SiLU and the initial weights of He et al. (2015) a VAE
reaches an ELBO of 3760 nats within 12,800 faces, with ReLU and torch's own 2770. No layer looks at its
neighbours in the batch.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Protocol, cast

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn.functional import silu

from lvmbench.bodies import Body, Exact
from lvmbench.data import Schema
from lvmbench.errors import UsageError, nearest

WIDTHS = (32, 32, 64)  # channels of the first layers; every further one repeats the last
SMALLEST = 4  # the side at which halving stops
HIDDEN = 256  # units between the pictures and the code
MLP_HIDDEN = (512, 256)
BURDA_HIDDEN = (200, 200)
FAINTEST = 0.001  # the mean of a pixel that a decoder starts from, and 1 minus it


class Pair(Protocol):
    """A kind of net: a module, or any object, with these two functions.

    What they return may compute in bfloat16 while it trains (``--precision``); a last layer ``lvmbench.Exact`` says
    its outputs in float32 all the same, as means and scales should be.
    """

    def encoder(self, schema: Schema, outputs: int) -> nn.Module:
        """Return a network from pictures with values in [0, 1] to numbers: [B, C, H, W] -> [B, outputs]."""
        ...

    def decoder(self, schema: Schema, latent_dim: int) -> nn.Module:
        """Return a network from codes to the outputs of a likelihood: [B, latent_dim] -> [B, C, H, W]."""
        ...


@dataclass(frozen=True)
class _Dense:
    """Plain layers, of these widths from the picture to the code and back."""

    widths: tuple[int, ...]
    activation: Callable[[], nn.Module]
    initialise: Callable[[nn.Module], None]

    def encoder(self, schema: Schema, outputs: int) -> nn.Module:
        layers = _linear(self.activation, schema.dims, *self.widths)
        head = [self.activation(), Exact(self.widths[-1], outputs)]
        return _initialised(self.initialise, _Centred(schema), nn.Flatten(), *layers, *head)

    def decoder(self, schema: Schema, latent_dim: int) -> nn.Module:
        layers = _linear(self.activation, latent_dim, *reversed(self.widths))
        # a gaussian's mean in less than float32 costs a VAE of the faces five nats
        last = Exact if schema.pixels == "gaussian" else nn.Linear
        pixels = [self.activation(), last(self.widths[0], schema.dims), nn.Unflatten(1, schema.shape)]
        return _initialised(self.initialise, *layers, *pixels)


@dataclass(frozen=True)
class _Conv:
    """Convolutions that halve the picture until it is small, with or without a residual block at each size."""

    residual: bool

    def encoder(self, schema: Schema, outputs: int) -> nn.Module:
        *halvings, (height, width) = _sides(schema)
        channels = [schema.shape[0], *_widths(len(halvings))]
        layers: list[nn.Module] = []
        for a, b in pairwise(channels):
            layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), *self._block(b), nn.SiLU()]
        head = [nn.Linear(channels[-1] * height * width, HIDDEN), nn.SiLU(), Exact(HIDDEN, outputs)]
        return _initialised(_he, _Centred(schema), *layers, nn.Flatten(), *head)

    def decoder(self, schema: Schema, latent_dim: int) -> nn.Module:
        *halvings, (height, width) = _sides(schema)
        channels = [*reversed(_widths(len(halvings))), schema.shape[0]]
        layers = _linear(nn.SiLU, latent_dim, HIDDEN, channels[0] * height * width)
        layers.append(nn.Unflatten(1, (channels[0], height, width)))
        for (a, b), (h, w) in zip(pairwise(channels), reversed(halvings), strict=True):
            odd = h % 2, w % 2  # halving rounded such a side down
            doubling = nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, output_padding=odd)
            layers += [*self._block(a), nn.SiLU(), doubling]
        return _initialised(_he, *layers)

    def _block(self, channels: int) -> list[nn.Module]:
        return [_Residual(channels)] if self.residual else []


class _Tanh(nn.Tanh):
    """The hyperbolic tangent; where no gradient is needed, in a fifth of the time that torch takes on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return super().forward(x)
        # tanh(x) = 2 sigmoid(2 x) - 1, to 2e-7
        return (2 * x).sigmoid_().mul_(2).sub_(1)


class _Residual(nn.Module):
    """Adds to its input what two convolutions make of it; at first they make nothing (Goyal et al. 2017, 5.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(silu(self.first(silu(x))))
        return x + self.gain * change


def encoder(schema: Schema, outputs: int, kind: str = "conv") -> nn.Module:
    """Return a network from pictures with values in [0, 1] to numbers: [B, C, H, W] -> [B, outputs]."""
    return Body(*_layers(_pair(kind).encoder(schema, outputs)))


def decoder(schema: Schema, latent_dim: int, kind: str = "conv") -> nn.Module:
    """Return a network from codes to the outputs of a likelihood: [..., latent_dim] -> [..., C, H, W]."""
    return _Leading(*_layers(_pair(kind).decoder(schema, latent_dim)))


def _layers(net: nn.Module) -> Iterable[nn.Module]:
    return net if type(net) is nn.Sequential else [net]  # any other has a forward of its own


def centre_at(encoder: nn.Module, mean: Tensor) -> None:
    """Let an encoder see pictures less their mean: [C, H, W]."""
    for module in encoder.modules():
        if isinstance(module, _Centred):
            module.mean.copy_(mean)


def start_at(decoder: nn.Module, mean: Tensor) -> None:
    """Set the bias of a decoder's last layer so that its sigmoid is the mean picture: [C, H, W].

    A convolution has one bias for each channel; a net that ends in neither layer is left as it is.
    """
    layers = [m for m in decoder.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    for layer in layers[-1:]:
        level = mean.flatten() if isinstance(layer, nn.Linear) else mean.mean((1, 2))
        if layer.bias is not None and layer.bias.shape == level.shape:
            with torch.no_grad():
                layer.bias.copy_(level.clamp(FAINTEST, 1 - FAINTEST).logit())


def _sides(schema: Schema) -> list[tuple[int, int]]:
    """Return the sides of a picture as it is halved, until the shorter is at most ``SMALLEST``."""
    sides = [schema.shape[1:]]
    while min(sides[-1]) > SMALLEST:
        sides.append((sides[-1][0] // 2, sides[-1][1] // 2))
    return sides


def _widths(layers: int) -> list[int]:
    return [*WIDTHS, *[WIDTHS[-1]] * layers][:layers]


def _linear(activation: Callable[[], nn.Module], *sizes: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return layers[:-1]


def _initialised(initialise: Callable[[nn.Module], None], *layers: nn.Module) -> nn.Sequential:
    net = nn.Sequential(*layers)
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            initialise(layer)
            nn.init.zeros_(cast(Tensor, layer.bias))
    # convolutions on the CPU run some 8 % faster on pictures that are stored channels last
    return net.to(memory_format=torch.channels_last)


def _he(layer: nn.Module) -> None:
    """Draw weights under which signals neither grow nor fade (He et al. 2015, eq. 10)."""
    nn.init.normal_(cast(Tensor, layer.weight), std=math.sqrt(2 / _inputs(layer)))


def _glorot(layer: nn.Module) -> None:
    """Draw weights from Glorot & Bengio (2010), eq. 16."""
    nn.init.xavier_uniform_(cast(Tensor, layer.weight))


def _inputs(layer: nn.Module) -> int:
    """Return how many numbers each output of a layer is a sum of."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        kernel = math.prod(layer.kernel_size)
        if isinstance(layer, nn.ConvTranspose2d):  # of which an output meets one in stride² places
            kernel //= math.prod(layer.stride)
        return layer.in_channels * kernel
    return cast(nn.Linear, layer).in_features


class _Centred(nn.Module):
    """Takes the mean picture away, so that a first layer sees numbers around 0; it is grey until it is known."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.mean: Tensor
        self.register_buffer("mean", torch.full(schema.shape, 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


class _Leading(Body):
    """Lets a network of one batch axis take any number of them."""

    def forward(self, z: Tensor) -> Tensor:
        out = super().forward(z.reshape(-1, z.shape[-1]))
        return out.reshape(*z.shape[:-1], *out.shape[1:])


NETS: dict[str, Pair] = {
    "conv": _Conv(residual=False),
    "resnet": _Conv(residual=True),
    "mlp": _Dense(MLP_HIDDEN, nn.SiLU, _he),
    "burda": _Dense(BURDA_HIDDEN, _Tanh, _glorot),
}


def _pair(kind: str) -> Pair:
    """Return the net of this name, or the module of this name that has an encoder and a decoder.

    Raises:
        UsageError: if there is neither.
    """
    if kind in NETS:
        return NETS[kind]
    known = f"Known: {', '.join(NETS)}, or a module with the functions encoder and decoder."
    try:
        found = importlib.import_module(kind) if "." in kind else None
    except Exception as error:  # it is somebody's own source
        raise UsageError(f"net = '{kind}' cannot be imported ({error}). {known}") from error
    if not (hasattr(found, "encoder") and hasattr(found, "decoder")):
        raise UsageError(f"No net '{kind}'.{nearest(kind, NETS)} {known}")
    return cast(Pair, found)


def _known(kind: str) -> str:
    try:
        _pair(kind)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return kind


Net = Annotated[str, AfterValidator(_known), Field(description=f"{' | '.join(NETS)} | your.module")]
