"""Signed distances: negative inside a shape, positive outside, in the units of the coordinates.

Right to first order near the edge, where anti-aliasing needs it, and of the right sign elsewhere. Per pixel only
operations that IEEE 754 rounds correctly: a picture must not depend on which lanes of a vector unit drew it.
"""

from __future__ import annotations

import torch
from torch import Tensor

Number = Tensor | float


def circle(x: Tensor, y: Tensor, r: Number) -> Tensor:
    """Return the distance to a circle at the origin: [B, h, W]."""
    return (x * x).add_(y * y).sqrt_().sub_(r)


def ellipse(x: Tensor, y: Tensor, a: Number, b: Number) -> Tensor:
    """Return about the distance to an ellipse of half-axes a and b, best where they are alike: [B, h, W]."""
    k = (x / a).square_().add_((y / b).square_()).sqrt_()
    return k.sub_(1).mul_(2 * a * b / (a + b))


def squircle(x: Tensor, y: Tensor, a: Number, b: Number, q: Number) -> Tensor:
    """Return about the distance to a squircle, an ellipse at q = 0 and almost a box at q = 1: [B, h, W].

    The level set X² + Y² - q X² Y² = 1 (Fernández-Guasti 1992), which past X² = 1 / q would turn inside again.
    """
    XX, YY = (x / a).square_().clamp_(max=1 / q), (y / b).square_().clamp_(max=1 / q)
    k = (XX + YY).sub_(XX.mul_(YY).mul_(q)).sqrt_()
    return k.sub_(1).mul_(2 * a * b / (a + b))


def arc(x: Tensor, y: Tensor, half: Number, bend: Number, thick: Number) -> Tensor:
    """Return the distance to a stroke y = bend (x / half)² over |x| < half, tapering to its ends: [B, h, W]."""
    t = (x / half).square_()
    return stroke(y - bend * t, t, thick)


def stroke(offset: Tensor, t: Tensor, thick: Number) -> Tensor:
    """Return the distance to a stroke ``offset`` from its middle line, thinning as t goes from 0 to 1: [B, h, W]."""
    past = t - 1
    return torch.maximum(offset.abs().add_(past * thick), past.mul_(0.08))


def band(d: Tensor, half: Number) -> Tensor:
    """Return the distance to the outline of a shape, drawn 2 × half wide: [B, h, W]."""
    return d.abs().sub_(half)


def both(first: Tensor, *others: Tensor) -> Tensor:
    """Return the distance to what all shapes share: [B, h, W]."""
    for other in others:
        first = torch.maximum(first, other)
    return first


def either(first: Tensor, *others: Tensor) -> Tensor:
    """Return the distance to all shapes together: [B, h, W]."""
    for other in others:
        first = torch.minimum(first, other)
    return first


def wave(t: Tensor) -> Tensor:
    """Return a smooth wave of period 1 and range [-1, 1], of parabolas: [B, h, W]."""
    t = (t - torch.floor(t)).mul_(2).sub_(1)
    return (1 - t.abs()).mul_(t).mul_(4)
