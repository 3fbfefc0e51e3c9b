"""The head and what carries it: background, neck, clothes, ears, skin, light."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from lvmbench_faces.canvas import ALL, Canvas, Window
from lvmbench_faces.sdf import arc, band, both, ellipse, squircle

CROWN, CHIN, BROW, NOSE, MOUTH = -0.62, 0.60, -0.165, 0.205, 0.375  # heights, the eyes are at 0


@dataclass(frozen=True)
class Looks:
    """What a face is like: traits [B, 1, 1] by name, colours [B, 3, 1, 1] by name."""

    traits: Mapping[str, Tensor]
    colors: Mapping[str, Tensor]

    def __getitem__(self, trait: str) -> Tensor:
        return self.traits[trait]

    def pick(self, rows: slice | Tensor) -> Looks:
        """Return the looks of some of the faces."""
        traits = {name: values[rows] for name, values in self.traits.items()}
        return Looks(traits, {name: values[rows] for name, values in self.colors.items()})


def half_width(f: Looks) -> Tensor:
    """Return half the width of a face at its cheeks: [B, 1, 1]."""
    return 0.415 + 0.015 * f["male"] + 0.075 * f["chubby"]


def outline(w: Window, f: Looks) -> Tensor:
    """Return the distance to the outline of the face, without ears: [B, h, W].

    The jaw leads when the head turns; it tapers to the chin, less so for men and full cheeks.
    """
    x = w.x - 0.10 * f["turn"]
    below = w.y.clamp(min=0)
    taper = 0.34 - 0.16 * f["male"] - 0.16 * f["chubby"]
    y = w.y.clamp(max=0).mul_(chin(f) / -CROWN).add_(below)
    square = (w.y * 8).clamp_(0, 1).mul_(0.02 + 0.36 * f["male"] + 0.12 * f["chubby"]).add_(0.20)
    return squircle(x, y, half_width(f) * (1 - taper * below), chin(f), square)


def chin(f: Looks) -> Tensor:
    """Return the height of the chin: [B, 1, 1]."""
    return CHIN * (1 + 0.05 * f["face_length"]) + 0.02 * f["male"]


def background(canvas: Canvas, f: Looks) -> None:
    """Fill the canvas, a little lighter behind the head."""
    w = canvas.rows(*ALL)
    w.rgb.copy_(f.colors["background"].expand_as(w.rgb))
    glow = (w.x * w.x).add_(w.y * w.y).mul_(-0.045).add_(0.10).clamp_(min=0)
    w.rgb.add_(glow.unsqueeze(1))


def neck_and_clothes(canvas: Canvas, f: Looks) -> None:
    """Draw the neck, the shadow of the chin on it, and the shoulders."""
    w = canvas.rows(0.2, ALL[1], 1.0)
    neck = 0.185 + 0.085 * f["male"] + 0.02 * f["chubby"]
    flare = (w.y - 0.62).clamp_(min=0).square_().mul_(1.6)
    cover = w.cover(both(w.x.abs() - flare - neck, 0.2 - w.y))
    w.blend(cover, f.colors["skin"])
    under_chin = w.cover(ellipse(w.x - 0.1 * f["turn"], w.y - 0.42, 0.40, 0.34), 0.12)
    w.blend(cover.mul_(under_chin).mul_(0.8), f.colors["shadow"])
    w = canvas.rows(0.6, ALL[1], 1.0)
    wide = 0.84 + 0.16 * f["male"] + 0.08 * f["chubby"]
    shoulders = squircle(w.x, w.y - 1.42, wide, 0.66 + 0.03 * f["male"], 0.4)
    collar = ellipse(w.x, w.y - 0.70, neck + 0.10, 0.24)
    w.paint(both(shoulders, -collar), f.colors["clothes"])
    w.paint(both(shoulders, band(collar - 0.015, 0.03)), f.colors["clothes"] * 0.72)


def ears(canvas: Canvas, f: Looks) -> None:
    """Draw both ears: the far one hides behind the face when the head turns."""
    w = canvas.rows(-0.2, 0.3)
    x = (w.x + 0.10 * f["turn"]).abs_() - half_width(f) - 0.005
    y = w.y - 0.04
    w.paint(ellipse(x, y, 0.075, 0.13), f.colors["skin"])
    w.paint(ellipse(x, y, 0.042, 0.085), f.colors["shadow"], 0.75, 0.02)


def head(canvas: Canvas, f: Looks) -> None:
    """Draw the skin, darker towards its edge, with blush on the cheeks."""
    w = canvas.rows(CROWN - 0.06, 0.75)
    d = outline(w, f)
    cover = w.cover(d)
    w.blend(cover, f.colors["skin"])
    edge = d.mul_(1 / 0.16).add_(1).clamp_(0, 1).square_().mul_(0.55)
    w.blend(cover.mul_(edge), f.colors["shadow"])
    w = canvas.rows(0.0, 0.45)
    blush = ellipse(w.u.abs() - 0.25, w.y - 0.20 + 0.02 * f["smile"], 0.11, 0.085)
    w.paint(blush, f.colors["blush"], (0.34 + 0.20 * f["smile"].clamp(min=0)) * (1 - 0.7 * f["old"]), 0.16)


def double_chin(canvas: Canvas, f: Looks) -> None:
    """Draw the fold under a full face."""
    w = canvas.rows(0.4, 0.7)
    fold = arc(w.u, w.y - chin(f) + 0.075, 0.21, -0.07, 0.02)
    w.paint(fold, f.colors["fold"], 0.95 * (f["chubby"] - 0.3), 0.02)


def shine(canvas: Canvas, f: Looks) -> None:
    """Draw the light on a bald head."""
    w = canvas.rows(-0.75, -0.2)
    w.paint(ellipse(w.u + 0.10, w.y + 0.44, 0.14, 0.07), f.colors["glow"], 0.55, 0.10)


def light(canvas: Canvas, f: Looks) -> None:
    """Shade the picture as a ball lit from one side and from above, and give it 255 levels."""
    w = canvas.rows(*ALL)
    shade = (w.x * 1.6).clamp_(-1, 1).mul_(0.17 * f["light_x"]).add_(f["light_intensity"])
    shade.add_((w.y * 1.1).clamp_(-1, 1), alpha=-0.07)
    w.rgb.mul_(shade.mul_(255).unsqueeze(1))
