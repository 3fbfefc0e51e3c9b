"""Where a face is drawn: pixels, the coordinates of the head, and windows of rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench_faces.sdf import Number

RADIUS = 0.56  # of the cylinder that carries the features, in half pictures
MARGIN = 2.0  # pixels on either side of a window


@dataclass(frozen=True)
class Window:
    """Some rows of the canvas.

    ``x``, ``y`` are in the plane of the head; ``u`` is x on the face itself, which turns with the head. The unit is
    half a picture at scale 1, y points down, the origin is between the eyes: all [B, h, W].
    """

    rgb: Tensor
    x: Tensor
    y: Tensor
    u: Tensor
    pixel: Tensor

    def paint(self, distance: Tensor, color: Tensor, opacity: Number = 1.0, soft: Number = 0.0) -> None:
        """Lay a colour [B, 3, 1, 1] over the inside of a shape [B, h, W], its edge ``soft`` wide."""
        self.blend(self.cover(distance, soft), color, opacity)

    def cover(self, distance: Tensor, soft: Number = 0.0) -> Tensor:
        """Return how much of each pixel a shape covers: [B, h, W] in [0, 1]."""
        return (distance / (-self.pixel - soft)).add_(0.5).clamp_(0, 1)

    def blend(self, cover: Tensor, color: Tensor, opacity: Number = 1.0) -> None:
        """Lay a colour [B, 3, 1, 1] over what is covered, opacity times."""
        self.rgb.lerp_(color, (cover * opacity).unsqueeze(1))


class Canvas:
    """Pictures in the making, [B, 3, S, S] in [0, 1], with one pose each.

    ``pose`` holds, for each picture, [B, 1, 1]: cos and sin of the roll, the same of the azimuth, place and scale.
    """

    def __init__(self, size: int, pose: dict[str, Tensor], *, windowed: bool = True) -> None:
        self.size, self.pose, self.windowed = size, pose, windowed
        device = pose["scale"].device
        axis = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
        dx, dy = axis - pose["x"], axis[:, None] - pose["y"]
        cos, sin = pose["cos_roll"] / pose["scale"], pose["sin_roll"] / pose["scale"]
        self.x = cos * dx + sin * dy
        self.y = cos * dy - sin * dx
        self.u = self._turned(self.x)
        self.pixel = (2 / size) / pose["scale"]
        self.rgb = torch.empty(len(self.x), 3, size, size, device=device)
        places = (pose[name].flatten().tolist() for name in ("y", "scale", "cos_roll", "sin_roll"))
        self._places = list(zip(*places, strict=True))

    def _turned(self, x: Tensor) -> Tensor:
        depth = torch.sqrt((RADIUS**2 - x * x).clamp_(min=1e-4))
        return self.pose["cos_azimuth"] * x - self.pose["sin_azimuth"] * depth

    def rows(self, top: float, bottom: float, reach: float = 1.0) -> Window:
        """Return the rows that hold every point of top < y < bottom, |x| < reach of any of the heads."""
        start, stop = self._bounds(top, bottom, reach) if self.windowed else (0, self.size)
        part = slice(start, stop)
        return Window(self.rgb[:, :, part], self.x[:, part], self.y[:, part], self.u[:, part], self.pixel)

    def _bounds(self, top: float, bottom: float, reach: float) -> tuple[int, int]:
        lows = [y + k * (min(top, top * cos) - abs(sin) * reach) for y, k, cos, sin in self._places]
        highs = [y + k * (max(bottom, bottom * cos) + abs(sin) * reach) for y, k, cos, sin in self._places]
        low, high = ((value + 1) * self.size / 2 for value in (min(lows), max(highs)))
        start = max(0, math.floor(low - MARGIN))
        return start, max(start, min(self.size, math.ceil(high + MARGIN)))
