"""The head and what carries it: background, neck, clothes, ears, skin, light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench_faces.canvas import Canvas, Window
from lvmbench_faces.sdf import arc, ellipse, squircle

CROWN, CHIN, BROW, NOSE, MOUTH = -0.62, 0.60, -0.165, 0.205, 0.375  # heights, the eyes are at 0


@dataclass(frozen=True)
class Looks:
    """What a face is like: traits [B, 1, 1] by name, colours [B, 3, 1, 1] by name."""

    traits: Mapping[str, Tensor]
    colors: Mapping[str, Tensor]

    def __getitem__(self, trait: str) -> Tensor:
        return self.traits[trait]


def half_width(f: Looks) -> Tensor:
    """Return half the width of a face at its cheeks: [B, 1, 1]."""
    return 0.415 + 0.015 * f["male"] + 0.055 * f["chubby"]


def outline(w: Window, f: Looks) -> Tensor:
    """Return the distance to the outline of the face, without ears: [B, h, W].

    The jaw leads when the head turns; it tapers to the chin, less so for men and full cheeks.
    """
    x = w.x - 0.10 * f["turn"]
    below = w.y.clamp(min=0)
    taper = 0.34 - 0.16 * f["male"] - 0.16 * f["chubby"]
    stretch = torch.where(w.y < 0, -CROWN, chin(f))
    square = torch.where(w.y < 0, 0.20, 0.22 + 0.36 * f["male"] + 0.12 * f["chubby"])
    return squircle(x, w.y, half_width(f) * (1 - taper * below), stretch, square)


def chin(f: Looks) -> Tensor:
    """Return the height of the chin: [B, 1, 1]."""
    return CHIN * (1 + 0.05 * f["face_length"]) + 0.02 * f["male"]


def background(canvas: Canvas, f: Looks) -> None:
    """Fill the canvas, a little lighter behind the head."""
    w = canvas.rows(-9, 9)
    w.rgb.copy_(f.colors["background"].expand_as(w.rgb))
    glow = (1 - 0.45 * (w.x * w.x + w.y * w.y)).clamp_(0, 1).mul_(0.10)
    w.rgb.add_(glow.unsqueeze(1))


def neck_and_clothes(canvas: Canvas, f: Looks) -> None:
    """Draw the neck, the shadow of the chin on it, and the shoulders."""
    w = canvas.rows(0.2, 9)
    neck = 0.185 + 0.085 * f["male"] + 0.02 * f["chubby"]
    flare = (w.y - 0.62).clamp(min=0).square_().mul_(1.6)
    d = torch.maximum(w.x.abs() - flare - neck, 0.2 - w.y)
    w.paint(d, f.colors["skin"])
    w.paint(
        torch.maximum(d, ellipse(w.x - 0.1 * f["turn"], w.y - 0.42, 0.42, 0.36)),
        f.colors["shadow"],
        0.8,
        0.12,
    )
    w = canvas.rows(0.6, 9)
    shoulders = squircle(
        w.x, w.y - 1.42, 0.84 + 0.16 * f["male"] + 0.08 * f["chubby"], 0.66 + 0.03 * f["male"], 0.4
    )
    collar = ellipse(w.x, w.y - 0.70, neck + 0.10, 0.24)
    w.paint(torch.maximum(shoulders, -collar), f.colors["clothes"])
    w.paint(torch.maximum(shoulders, (collar - 0.015).abs() - 0.03), f.colors["clothes"] * 0.72)


def ears(canvas: Canvas, f: Looks) -> None:
    """Draw both ears: the far one hides behind the face when the head turns."""
    w = canvas.rows(-0.2, 0.3)
    x = (w.x + 0.10 * f["turn"]).abs() - half_width(f) - 0.005
    w.paint(ellipse(x, w.y - 0.04, 0.075, 0.13), f.colors["skin"])
    w.paint(ellipse(x, w.y - 0.04, 0.042, 0.085), f.colors["shadow"], 0.75, 0.02)


def head(canvas: Canvas, f: Looks) -> None:
    """Draw the skin, darker towards its edge, with blush on the cheeks and a double chin."""
    w = canvas.rows(CROWN - 0.06, 0.75)
    d = outline(w, f)
    cover = w.cover(d)
    w.blend(cover, f.colors["skin"])
    edge = (d + 0.16).mul_(1 / 0.16).clamp_(0, 1).square_()
    w.blend(cover.mul_(edge), f.colors["shadow"], 0.55)
    w = canvas.rows(0.0, 0.45)
    blush = ellipse(w.u.abs() - 0.25, w.y - 0.20 + 0.02 * f["smile"], 0.11, 0.085)
    w.paint(blush, f.colors["blush"], 0.30 + 0.12 * f["smile"].clamp(min=0), 0.16)
    w = canvas.rows(0.4, 0.7)
    fold = arc(w.u, w.y - chin(f) + 0.075, 0.21, -0.07, 0.02)
    w.paint(fold, f.colors["fold"], 0.65 * (f["chubby"] - 0.3).clamp(min=0), 0.02)


def light(canvas: Canvas, f: Looks) -> None:
    """Shade the picture as a ball lit from one side and from above."""
    w = canvas.rows(-9, 9)
    across = (w.x * 1.6).clamp_(-1, 1).mul_(0.17 * f["light_x"])
    down = (w.y * 1.1).clamp_(-1, 1).mul_(-0.07)
    w.rgb.mul_((across + down + f["light_intensity"]).unsqueeze(1))
