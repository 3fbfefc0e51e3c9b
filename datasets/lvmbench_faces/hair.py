"""Hair: behind the head, over the skull, on the face."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench_faces.canvas import Canvas, Window
from lvmbench_faces.face import CROWN, MOUTH, Looks, chin, half_width, outline
from lvmbench_faces.sdf import both, ellipse, squircle, wave


def _curls(w: Window, f: Looks) -> Tensor:
    """Return how far the hair swings sideways at each height: [B, h, W]."""
    return 0.032 * f["wavy"] * wave(w.y * 3.6)


def _strands(w: Window, f: Looks, cover: Tensor, light: float) -> None:
    """Draw light and dark strands, straight or in waves, on what the hair covers."""
    swing = 0.075 * f["wavy"] * wave(w.y * 3.6 + w.x.abs())
    strand = wave((w.x + swing) * 7.5)
    contrast = light * (1 + 0.9 * f["wavy"])
    w.blend(cover * strand.clamp(min=0), f.colors["strand"], contrast)
    w.blend(cover.mul_((-strand).clamp_(min=0)), f.colors["depth"], contrast)


def behind(canvas: Canvas, f: Looks) -> None:
    """Draw long hair behind the neck and shoulders."""
    w = canvas.rows(-0.85, 1.2)
    length = f["hair_length"]
    bottom = 0.15 + 0.75 * length
    top = CROWN - 0.08
    wide = half_width(f) + 0.05 + 0.10 * length
    x = w.x + 0.06 * f["turn"] + _curls(w, f) * length
    d = squircle(x, w.y - (top + bottom) / 2, wide, (bottom - top) / 2, 0.55)
    cover = w.cover(d).mul_(f["hairy"] * (3 * length).clamp(max=1))
    w.blend(cover, f.colors["depth"])
    _strands(w, f, cover, 0.30)


def front(canvas: Canvas, f: Looks) -> None:
    """Draw the hair that frames the face: a cap, less the opening under the hairline."""
    w = canvas.rows(-0.90, 0.75)
    length, wavy = f["hair_length"], f["wavy"]
    bumps = 0.020 * wavy * wave(w.x * 4 + w.y * 3)
    cap = squircle(
        w.x + 0.04 * f["turn"],
        w.y - 0.02 - 0.33 * length,
        half_width(f) + 0.055 + 0.045 * length,
        0.73 + 0.33 * length,
        0.25 + 0.2 * length,
    )
    d = both(cap + bumps, -_opening(w, f) + bumps, w.y - _lowest(f))
    cover = w.cover(d).mul_(f["hairy"])
    w.blend(cover, f.colors["hair"])
    grey = cover * (w.u.abs() * 4 - 1).clamp_(0, 1)
    w.blend(grey, f.colors["temple"], 0.75 * (2 * f["old"] - 0.9).clamp(0, 1))
    _strands(w, f, cover, 0.35)
    _bangs(canvas, f)


def _lowest(f: Looks) -> Tensor:
    """Return where hair beside the face ends: sideburns when cropped, below the chin when long."""
    return 0.02 + 0.72 * f["hair_length"]


def _opening(w: Window, f: Looks) -> Tensor:
    """Return the distance to the part of the head without hair: [B, h, W]."""
    recede = f["hairline"]
    top = -0.41 - 0.13 * recede
    wide = half_width(f) - 0.045 - 0.02 * f["hair_length"]
    low = 0.75
    middle = squircle(w.u, w.y - (top + low) / 2, wide, (low - top) / 2, 0.72)
    bays = ellipse(w.u.abs() - 0.23, w.y + 0.36, 0.14, 0.24)
    return torch.where(recede > 0.5, torch.minimum(middle, bays), middle)


def _bangs(canvas: Canvas, f: Looks) -> None:
    w = canvas.rows(-0.75, -0.1)
    wavy = f["wavy"]
    fringe = -0.225 + 0.022 * wave(w.u * 5) + 0.10 * w.u.square()
    cap = squircle(w.x + 0.02 * f["turn"], w.y, half_width(f) + 0.02, 0.66, 0.25)
    d = both(cap, w.y - fringe)
    cover = w.cover(d).mul_(f["hairy"] * f["bangs"])
    w.blend(cover, f.colors["hair"])
    swing = 0.06 * wavy * wave(w.y * 5)
    w.blend(cover * wave((w.u + swing) * 8).clamp_(min=0), f.colors["depth"], 0.45)
    edge = (w.y - fringe + 0.06).mul_(1 / 0.06).clamp_(0, 1)
    w.blend(cover.mul_(edge), f.colors["depth"], 0.5)


def facial(canvas: Canvas, f: Looks) -> None:
    """Draw stubble, beard and goatee; the mouth comes after."""
    w = canvas.rows(-0.1, 0.80)
    face = outline(w, f)
    bare = squircle(w.u, w.y - 0.06, half_width(f) - 0.085, 0.27, 0.3)
    region = both(-bare, 0.02 - w.y)
    w.paint(both(face + 0.012, region), f.colors["stubble"], 0.50 * f["stubble"], 0.05)
    w.paint(both(face - 0.035, region), f.colors["beard"], 0.97 * f["beard"], 0.02)
    patch = squircle(w.u, w.y - chin(f) + 0.055, 0.135, 0.115, 0.3)
    w.paint(patch, f.colors["beard"], 0.97 * f["goatee"], 0.015)


def moustache(canvas: Canvas, f: Looks) -> None:
    """Draw a moustache, of its own or of a beard; a goatee has a thin one."""
    w = canvas.rows(MOUTH - 0.2, MOUTH + 0.1, 0.6)
    t = (w.u / 0.20).square_()
    y = w.y - MOUTH + 0.050 - 0.030 * f["smile"] + 0.075 * f["smile"] * t
    d = torch.maximum(-y - 0.058 * (1 - t) - 0.002, y - 0.036 * (1 - 0.9 * t) - 0.05 * t)
    w.paint(torch.maximum(d, w.u.abs() - 0.20), f.colors["beard"], 0.97 * (f["moustache"] + f["beard"]))
