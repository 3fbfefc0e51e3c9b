"""Hair: behind the head, over the skull, on the face."""

from __future__ import annotations

from torch import Tensor

from lvmbench_faces.canvas import Canvas, Window
from lvmbench_faces.face import CROWN, MOUTH, Looks, chin, half_width, outline
from lvmbench_faces.sdf import both, either, ellipse, squircle, wave

LONG = 0.45  # hair_length from which hair hangs beside the face
CURL = 3.4  # waves in half a picture


def behind(canvas: Canvas, f: Looks) -> None:
    """Draw long hair behind the neck, down to the shoulders."""
    w = canvas.rows(-0.80, 1.1)
    top, bottom = CROWN - 0.06, _lowest(f) + 0.12
    swing = wave(w.y * CURL).mul_(0.035 * f["wavy"] * f["hair_length"])
    x = swing.add_(w.x).add_(0.05 * f["turn"])
    wide = half_width(f) - 0.03 + 0.17 * f["hair_length"]
    d = squircle(x, w.y - (top + bottom) / 2, wide, (bottom - top) / 2, 0.5)
    _fill(w, f, w.cover(d), f.colors["depth"], 0.22)


def long(canvas: Canvas, f: Looks) -> None:
    """Draw hair that parts in an arch over the forehead and hangs beside the face."""
    w = canvas.rows(-0.84, 1.0)
    length = f["hair_length"]
    top, bottom = CROWN - 0.085 - 0.02 * length, _lowest(f)
    wide = half_width(f) + 0.022 + 0.085 * length
    cap = squircle(w.x + 0.04 * f["turn"], w.y - (top + bottom) / 2, wide, (bottom - top) / 2, 0.40)
    _scalp(w, f, cap, _opening(w, f, half_width(f) - 0.062, 0.06, 0.34))


def cropped(canvas: Canvas, f: Looks) -> None:
    """Draw short hair that slants over the forehead and ends above the ears, with sideburns before them."""
    w = canvas.rows(-0.84, 0.15)
    wide = half_width(f) + 0.025 + 0.06 * f["hair_length"]
    cap = squircle(w.x + 0.04 * f["turn"], w.y - 0.02, wide, 0.73, 0.20)
    side = (w.x.abs() - half_width(f) + 0.06).clamp_(min=0)
    above_ears = side.mul_(1.6).add_(w.y).sub_(0.03 + 0.15 * f["hair_length"])
    _scalp(w, f, both(cap, above_ears), _opening(w, f, half_width(f) - 0.040, 0.20, 0.58))


def _lowest(f: Looks) -> Tensor:
    """Return where long hair ends, between chin and shoulders: [B, 1, 1]."""
    return -0.05 + 0.90 * f["hair_length"]


def _opening(w: Window, f: Looks, wide: Tensor, slant: float, square: float) -> Tensor:
    """Return the distance to the part of the head below the hairline, which may recede in two bays: [B, h, W]."""
    recede = f["hairline"]
    u = (w.u * 0.6).add_(w.x, alpha=0.4).sub_(0.04 * f["turn"])
    y = (w.y - 0.1).sub_(slant * (1 - recede) * u).clamp_(max=0)
    middle = squircle(u, y, wide, 0.53 + 0.12 * recede, square)
    bays = ellipse(u.abs_().sub_(0.20), w.y + 0.35, 0.12, 0.18)
    return either(middle, bays.add_(9.0 * (recede < 0.5)))


def _scalp(w: Window, f: Looks, cap: Tensor, opening: Tensor) -> None:
    """Draw what a cap leaves of the head, greying at the temples."""
    bumps = (w.x * 4).add_(w.y, alpha=3)
    bumps = wave(bumps).mul_(0.022 * f["wavy"])
    cover = w.cover(both(cap.add_(bumps), bumps.sub_(opening)))
    _fill(w, f, cover, f.colors["hair"], 0.26)
    grey = w.u.abs().mul_(4).sub_(1).clamp_(0, 1).mul_(0.8 * (1.8 * f["old"] - 0.65).clamp(0, 1))
    w.blend(grey.mul_(cover), f.colors["temple"])


def _fill(w: Window, f: Looks, cover: Tensor, color: Tensor, contrast: float) -> None:
    """Draw hair with light and dark strands: they fan out from the crown, straight or in waves."""
    w.blend(cover, color)
    swing = w.x.abs().add_(w.y, alpha=CURL)
    swing = wave(swing).mul_(0.055 * f["wavy"])
    strand = wave(swing.add_((w.x + 0.03).div_(w.y + 1.9)).mul_(9))
    strand.mul_(contrast * (1 + 1.2 * f["wavy"])).mul_(cover)
    w.blend(strand.clamp(min=0), f.colors["strand"])
    w.blend(strand.neg_().clamp_(min=0), f.colors["depth"])


def bangs(canvas: Canvas, f: Looks) -> None:
    """Draw a fringe over the forehead, with its shadow."""
    w = canvas.rows(-0.75, -0.05)
    fringe = wave(w.u * 5 + 0.2).mul_(0.020).add_(w.u.square(), alpha=0.16).sub_(0.225)
    below = w.y - fringe
    cap = squircle(w.x + 0.02 * f["turn"], w.y, half_width(f) + 0.01, 0.66, 0.25)
    w.paint(both(cap + 0.05, below - 0.02), f.colors["shadow"], 0.6, 0.03)
    cover = w.cover(both(cap, below))
    w.blend(cover, f.colors["hair"])
    swing = wave(w.y * 5).mul_(0.06 * f["wavy"])
    lock = wave(swing.add_(w.u).mul_(5).add_(0.7)).clamp_(min=0)
    tip = below.mul_(1 / 0.12).add_(1).clamp_(0, 1).mul_(0.5).add_(0.3)
    w.blend(cover.mul_(lock).mul_(tip), f.colors["depth"])


def stubble(canvas: Canvas, f: Looks) -> None:
    """Draw the shadow of a beard."""
    w = canvas.rows(-0.1, 0.80)
    w.paint(_jaw(w, f, 0.03), f.colors["stubble"], 0.55, 0.04)


def beard(canvas: Canvas, f: Looks) -> None:
    """Draw a full beard, which hides the jaw; the mouth comes after."""
    w = canvas.rows(-0.1, 0.80)
    w.paint(_jaw(w, f, -0.035), f.colors["beard"], 0.97, 0.02)


def _jaw(w: Window, f: Looks, inset: float) -> Tensor:
    """Return the distance to where a beard grows: [B, h, W]."""
    bare = squircle(w.u, w.y - 0.06, half_width(f) - 0.085, 0.27, 0.3)
    return both(outline(w, f) + inset, -bare, 0.02 - w.y)


def goatee(canvas: Canvas, f: Looks) -> None:
    """Draw a beard on the chin alone."""
    w = canvas.rows(0.35, 0.80)
    patch = squircle(w.u, w.y - chin(f) + 0.055, 0.135, 0.115, 0.3)
    w.paint(patch, f.colors["beard"], 0.97, 0.015)


def moustache(canvas: Canvas, f: Looks) -> None:
    """Draw a moustache, on its own or above a beard."""
    w = canvas.rows(MOUTH - 0.2, MOUTH + 0.1, 0.6)
    t = (w.u / 0.20).square_()
    y = w.y - MOUTH + 0.050 - 0.030 * f["smile"] + 0.075 * f["smile"] * t
    d = both(-y - 0.058 * (1 - t) - 0.002, y - 0.036 * (1 - 0.9 * t) - 0.05 * t, w.u.abs() - 0.20)
    w.paint(d, f.colors["beard"], 0.97)
