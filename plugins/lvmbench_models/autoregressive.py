"""The autoregressive contrast: p(x) exactly, one pixel after another, and no z."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, conv1d, linear, logsigmoid, pad, silu

from lvmbench import Schema

LEVELS = 256
SCALE_FLOOR = math.sqrt(3) / math.pi  # grey levels: a logistic of this scale has a deviation of one
FIRST_SCALE = 32.0  # grey levels
SCALE_GAIN = 10.0  # Adam moves any number one learning rate a step; the log of a scale has furthest to go


class MADE(nn.Module):
    """Masked autoencoder: p(x) = prod_i p(x_i | x_1 .. x_i-1), pixel by pixel in raster order; it has no z.

    The colours of a pixel stand side by side. Hidden units see all of the picture up to a place each; the
    row before a value reaches it directly too, by weights that all places share. A gaussian pixel is a mixture of
    ``components`` discretised logistics. The last layer has 3 ``hidden`` ``components`` weights for each value:
    7 million for a picture of 3 x 32 x 32.
    """

    paper: ClassVar[str] = "Germain et al. 2015, section 4; Salimans et al. 2017, eq. 2"

    def __init__(
        self,
        schema: Schema,
        *,
        hidden: Annotated[int, Ge(1)] = 256,
        layers: Annotated[int, Ge(1)] = 1,
        components: Annotated[int, Ge(1)] = 3,
    ) -> None:
        super().__init__()
        self.schema = schema
        outputs = 1 if schema.pixels == "bernoulli" else 3 * components
        places = torch.arange(1, schema.dims + 1)
        degrees = torch.linspace(1, max(1, schema.dims - 1), hidden).round()
        befores = [places, *[degrees] * (layers - 1)]
        self.hidden = nn.ModuleList(Masked(degrees[:, None] >= before) for before in befores)
        self.output = Masked(places[:, None] > degrees, outputs)
        self.direct = Direct(schema, outputs)
        with torch.no_grad():
            self.output.weight.zero_()  # what is learned starts from pixels that do not depend on each other
            if schema.pixels == "gaussian":
                _, mean, raw_scale = self.output.bias.chunk(3)
                mean.copy_(((torch.arange(components) + 0.5) / components - 0.5)[:, None].expand_as(mean))
                raw_scale.fill_(-math.log(FIRST_SCALE / SCALE_FLOOR - 1) / SCALE_GAIN)

    def loss(self, x: Tensor) -> Tensor:
        """Return -log p(x) in nats: [B, C, H, W] -> [B]."""
        return -self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, of gaussian pixels x = (v + u) / 256 the density: [B, C, H, W] -> [B]."""
        values = x.movedim(1, -1).flatten(1)  # in raster order
        if self.schema.pixels == "bernoulli":
            logits = self.conditionals(2 * values - 1).squeeze(1)
            return -binary_cross_entropy_with_logits(logits, values, reduction="none").sum(1)
        level = (LEVELS * values).floor().clamp(max=LEVELS - 1)
        log_p = logistics(level, self.conditionals(level / 127.5 - 1))
        # p(x) = 256^d P(v): v decides x but for u, which is uniform
        return log_p.sum(1) + self.schema.dims * math.log(LEVELS)

    def conditionals(self, values: Tensor) -> Tensor:
        """Return the parameters of p(x_i | x_1 .. x_i-1), from values in [-1, 1]: [B, d] -> [B, P, d]."""
        h = values
        for layer in self.hidden:
            h = silu(layer(h).squeeze(1))
        outputs: Tensor = self.output(h) + self.direct(values)
        return outputs


class Masked(nn.Module):
    """A linear layer with the weights that a mask leaves, P outputs for each of its rows: [B, n] -> [B, P, m]."""

    def __init__(self, mask: Tensor, outputs: int = 1) -> None:
        super().__init__()
        self.mask: Tensor
        self.register_buffer("mask", mask.float(), persistent=False)
        # He et al. 2015, eq. 10, by the inputs that a unit is left with
        std = (2 / self.mask.sum(1, keepdim=True).clamp(min=1)).sqrt()
        self.weight = nn.Parameter(std * torch.randn(outputs, *mask.shape))
        self.bias = nn.Parameter(torch.zeros(outputs, len(mask)))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (W * M)' + b: [B, n] -> [B, P, m]."""
        # h(x) = g(b + (W * M) x) (Germain et al. 2015, section 4.1)
        out: Tensor = linear(x, (self.weight * self.mask).flatten(0, 1), self.bias.flatten())
        return out.reshape(len(x), *self.bias.shape)


class Direct(nn.Module):
    """Weights from the values just before each to its P outputs, the same at every place: [B, d] -> [B, P, d]."""

    def __init__(self, schema: Schema, outputs: int) -> None:
        super().__init__()
        self.colours, _, width = schema.shape
        self.reach = self.colours * (width + 1)  # values: to the pixel above, and to its left
        window = self.reach + self.colours - 1
        # the c-th colour of a pixel sees c values more than the first
        mask = torch.arange(window) < self.reach + torch.arange(self.colours)[:, None]
        self.mask: Tensor
        self.register_buffer("mask", mask.float(), persistent=False)
        self.weight = nn.Parameter(torch.zeros(outputs, self.colours, window))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sums of what stands before each value: [B, d] -> [B, P, d]."""
        kernels = (self.weight * self.mask).flatten(0, 1)[:, None]
        out: Tensor = conv1d(pad(x[:, None], (self.reach, -1)), kernels, stride=self.colours)
        by_colour = out.reshape(len(x), *self.weight.shape[:2], -1)
        return by_colour.transpose(2, 3).flatten(2)


def logistics(level: Tensor, parameters: Tensor) -> Tensor:
    """Return log P(v) of grey levels under a mixture of K logistics, in nats: [B, d], [B, 3 K, d] -> [B, d].

    The first and the last level take the tails (Salimans et al. 2017, section 2.1).
    """
    weight, mean, raw_scale = parameters.chunk(3, dim=1)
    # 1 / s, neither over that of the floor nor ever 0
    steepness = torch.sigmoid(SCALE_GAIN * raw_scale).clamp(min=1e-6) / SCALE_FLOOR
    v = level[:, None]
    error = v - 127.5 * (1 + mean)
    # P(v) = sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - e^(a - b)) at the two sides a < b of v, without loss
    below = logsigmoid((error + 0.5) * steepness).masked_fill(v == LEVELS - 1, 0)
    above = logsigmoid((0.5 - error) * steepness).masked_fill(v == 0, 0)
    inside = torch.log(-torch.expm1(-steepness)).masked_fill((v == 0) | (v == LEVELS - 1), 0)
    return torch.logsumexp(weight.log_softmax(1) + below + above + inside, dim=1)
