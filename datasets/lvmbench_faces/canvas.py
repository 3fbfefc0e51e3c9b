"""Where a face is drawn: pixels, the coordinates of the head, and windows of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench_faces.sdf import Number

RADIUS = 0.56  # of the cylinder that carries the features, in half pictures
MARGIN = 2.0  # pixels on either side of a window
ALL = (-9.0, 9.0)  # heights beyond any picture


@dataclass(frozen=True)
class Window:
    """Some rows of the canvas.

    ``x``, ``y`` are in the plane of the head; ``u`` is x on the face itself, which turns with the head. The unit
    is half a picture, y points down, the origin is between the eyes: all [B, h, W].
    """

    rgb: Tensor
    x: Tensor
    y: Tensor
    u: Tensor
    pixel: Tensor

    def paint(self, distance: Tensor, color: Tensor, opacity: Number = 1.0, soft: Number = 0.0) -> None:
        """Lay a colour [B, 3, 1, 1] over the inside of a shape [B, h, W], its edge ``soft`` wide."""
        cover = self.cover(distance, soft)
        self.blend(cover if isinstance(opacity, float) and opacity == 1 else cover.mul_(opacity), color)

    def cover(self, distance: Tensor, soft: Number = 0.0) -> Tensor:
        """Return how much of each pixel a shape covers: [B, h, W] in [0, 1]."""
        return (distance * (-1 / (self.pixel + soft))).add_(0.5).clamp_(0, 1)

    def blend(self, cover: Tensor, color: Tensor) -> None:
        """Lay a colour [B, 3, 1, 1] over what is covered [B, h, W]."""
        self.rgb.lerp_(color, cover.unsqueeze(1))


@dataclass(frozen=True)
class Pose:
    """How heads lie in their pictures: place, scale, roll and azimuth, [B, 1, 1] each."""

    x: Tensor
    y: Tensor
    scale: Tensor
    cos_roll: Tensor
    sin_roll: Tensor
    cos_azimuth: Tensor
    sin_azimuth: Tensor

    def pick(self, rows: slice) -> Pose:
        """Return the poses of some of the heads."""
        return Pose(**{name: values[rows] for name, values in vars(self).items()})


@dataclass(frozen=True)
class Extent:
    """How far apart the heads of a canvas lie: what bounds a window that must suit all of them."""

    low: float
    high: float
    small: float
    large: float
    tilt: float

    @classmethod
    def of(cls, pose: Pose) -> Extent:
        """Return the extent of some poses."""
        small, large = float((pose.scale * pose.cos_roll).min()), float(pose.scale.max())
        tilt = large * float(pose.sin_roll.abs().max())
        return cls(float(pose.y.min()), float(pose.y.max()), small, large, tilt)

    def rows(self, top: float, bottom: float, reach: float, size: int) -> slice:
        """Return the rows of a picture that any point with top < y < bottom, |x| < reach may fall into."""
        first = self.low + top * (self.large if top < 0 else self.small) - self.tilt * reach
        last = self.high + bottom * (self.small if bottom < 0 else self.large) + self.tilt * reach
        start = math.floor((first + 1) * size / 2 - MARGIN)
        stop = math.ceil((last + 1) * size / 2 + MARGIN)
        return slice(min(max(start, 0), size), min(max(stop, 0), size))


@dataclass(frozen=True)
class Canvas:
    """Pictures in the making, [B, 3, S, S] in [0, 1], with the coordinates of their heads, [B, S, S] each."""

    rgb: Tensor
    x: Tensor
    y: Tensor
    u: Tensor
    pixel: Tensor
    extent: Extent | None  # None: every window is the whole canvas

    @classmethod
    def of(cls, pose: Pose, size: int, *, windowed: bool = True) -> Canvas:
        """Return an unpainted canvas for heads that lie so."""
        axis = (torch.arange(size, device=pose.x.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
        dx, dy = axis - pose.x, axis[:, None] - pose.y
        cos, sin = pose.cos_roll / pose.scale, pose.sin_roll / pose.scale
        x, y = cos * dx + sin * dy, cos * dy - sin * dx
        depth = (RADIUS**2 - x * x).clamp_(min=1e-4).sqrt_()
        u = pose.cos_azimuth * x - pose.sin_azimuth * depth
        rgb = torch.empty(len(x), 3, size, size, device=x.device)
        return cls(rgb, x, y, u, (2 / size) / pose.scale, Extent.of(pose) if windowed else None)

    def rows(self, top: float, bottom: float, reach: float = 0.65) -> Window:
        """Return the rows that hold every point of top < y < bottom, |x| < reach of any of the heads."""
        size = self.rgb.shape[-1]
        part = self.extent.rows(top, bottom, reach, size) if self.extent else slice(0, size)
        return Window(self.rgb[:, :, part], self.x[:, part], self.y[:, part], self.u[:, part], self.pixel)

    def pick(self, rows: Tensor) -> Canvas:
        """Return a copy of some of the pictures."""
        tensors = (self.rgb[rows], self.x[rows], self.y[rows], self.u[rows], self.pixel[rows])
        return Canvas(*tensors, self.extent)
