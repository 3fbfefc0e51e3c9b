"""Signed distances: negative inside a shape, positive outside, in the units of the coordinates.

Exact near the edge, where anti-aliasing needs it, and of the right sign elsewhere. Only operations that IEEE 754
rounds correctly are used per pixel: a picture must not depend on which lanes of a vector unit drew it.
"""

from __future__ import annotations

import torch
from torch import Tensor

Number = Tensor | float


def circle(x: Tensor, y: Tensor, r: Number) -> Tensor:
    """Return the distance to a circle at the origin: [B, h, W]."""
    return torch.sqrt(x * x + y * y).sub_(r)


def ellipse(x: Tensor, y: Tensor, a: Number, b: Number) -> Tensor:
    """Return the distance to an ellipse of half-axes a and b, to first order at its edge: [B, h, W]."""
    x, y = x / a, y / b
    k0 = x * x + y * y
    k1 = torch.sqrt((x / a).square_().add_((y / b).square_()).add_(1e-9))
    # (|p|² - 1) / (2 |p / r|) has the gradient of the true distance at the edge
    return k0.sub_(1).div_(k1.mul_(2))


def squircle(x: Tensor, y: Tensor, a: Number, b: Number, q: Number) -> Tensor:
    """Return the distance to a squircle, an ellipse at q = 0 and almost a box at q = 1: [B, h, W].

    X² + Y² - q X² Y² = 1 (Fernández-Guasti 1992).
    """
    X, Y = (x / a).clamp_(-1.35, 1.35), (y / b).clamp_(-1.35, 1.35)
    XX, YY = X * X, Y * Y
    slope_x = X.mul_(1 - q * YY).div_(a)
    slope_y = Y.mul_(1 - q * XX).div_(b)
    slope = torch.sqrt(slope_x.square_().add_(slope_y.square_()).add_(1e-9)).mul_(2)
    f = XX + YY
    return f.sub_(XX.mul_(YY).mul_(q)).sub_(1).div_(slope)


def arc(x: Tensor, y: Tensor, half: Number, bend: Number, thick: Number) -> Tensor:
    """Return the distance to a stroke y = bend (x / half)² over |x| < half, tapering to its ends: [B, h, W]."""
    t = (x / half).square_()
    middle = torch.abs(y - bend * t)
    return torch.maximum(middle.sub_(thick * (1 - t).clamp_(min=-1)), x.abs() - half)


def box(x: Tensor, y: Tensor, a: Number, b: Number) -> Tensor:
    """Return the distance to a box of half-sides a and b: [B, h, W]."""
    return torch.maximum(x.abs() - a, y.abs() - b)


def band(d: Tensor, half: Number) -> Tensor:
    """Return the distance to the outline of a shape, drawn 2 × half wide: [B, h, W]."""
    return d.abs().sub_(half)


def both(*ds: Tensor) -> Tensor:
    """Return the distance to what all shapes share: [B, h, W]."""
    out = ds[0]
    for d in ds[1:]:
        out = torch.maximum(out, d)
    return out


def wave(t: Tensor) -> Tensor:
    """Return a smooth wave of period 1 and range [-1, 1], of parabolas: [B, h, W]."""
    t = t - torch.floor(t)
    t = t.mul_(2).sub_(1)
    return t.mul_(1 - t.abs()).mul_(4)
