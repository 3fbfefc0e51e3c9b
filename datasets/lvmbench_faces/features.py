"""What moves in a face: eyes, brows, nose, mouth, and the lines of age."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench_faces.canvas import Canvas, Window
from lvmbench_faces.face import BROW, MOUTH, NOSE, Looks
from lvmbench_faces.palette import BLACK, INK, WHITE, flat
from lvmbench_faces.sdf import arc, both, circle, ellipse

EYE_X = 0.19


def eyes(canvas: Canvas, f: Looks) -> None:
    """Draw both eyes at once, on a mirrored face."""
    w = canvas.rows(-0.2, 0.2, 0.6)
    k = f["eye_scale"]
    x = w.u.abs() - EYE_X
    half = 0.098 * k
    t = (x / half).square_()
    hood = 1 - 0.22 * f["old"]
    upper = 0.074 * k * (1 - 0.60 * f["eye_narrow"]) * hood
    lower = 0.052 * k * (1 - 0.55 * f["eye_narrow"]) * (1 - 0.25 * f["smile"].clamp(min=0))
    lid = upper * (t - 1)
    ball = torch.maximum(lid - w.y, w.y + lower * (t - 1))
    w.paint(ellipse(x, w.y + 0.03, half * 1.25, 0.11), f.colors["shadow"], 0.45, 0.06)
    w.paint(ball, flat("#f8f6f3", w.x))
    _iris(w, f, x, ball)
    _lids(w, f, x, lid, half)


def _iris(w: Window, f: Looks, x: Tensor, ball: Tensor) -> None:
    k = f["eye_scale"]
    y = w.y + 0.006
    d = circle(x, y, 0.058 * k)
    w.paint(both(d, ball), f.colors["iris_rim"])
    w.paint(both(d + 0.010 * k, ball), f.colors["iris"])
    w.paint(both(d + 0.034 * k, ball), flat(BLACK, x))
    side = torch.where(w.u < 0, -1.0, 1.0)
    spark = circle(x + side * 0.020 * k, y + 0.022 * k, 0.015 * k)
    w.paint(both(spark, ball), flat(WHITE, x), 0.9)


def _lids(w: Window, f: Looks, x: Tensor, lid: Tensor, half: Tensor) -> None:
    weight = 0.010 + 0.016 * f["female"]
    lash = torch.maximum((w.y - lid + 0.4 * weight).abs_().sub_(weight), x.abs() - half * 1.04)
    w.paint(lash, flat(INK, x), 0.92)
    wing_x, wing_y = x - half * 1.06, w.y + 0.028
    wing = both((wing_y + 0.7 * wing_x).abs_().sub_(0.014), wing_x.abs() - 0.035)
    w.paint(wing, flat(INK, x), f["female"] * 0.9)
    crease = (w.y - lid * 1.2 + 0.035).abs_().sub_(0.007)
    w.paint(torch.maximum(crease, x.abs() - half * 0.95), f.colors["fold"], 0.35 + 0.5 * f["old"])


def brows(canvas: Canvas, f: Looks) -> None:
    """Draw the brows: men's lie lower and are heavier."""
    w = canvas.rows(-0.36, 0.0, 0.6)
    x = w.u.abs() - EYE_X
    y = w.y - BROW - 0.030 * f["male"] + 0.015 * f["smile"]
    arch = 0.018 + 0.055 * f["brow_arch"]
    slope = (0.10 - 0.12 * f["old"]) * x
    thick = 0.017 + 0.040 * f["brow_weight"] + 0.010 * f["male"]
    w.paint(
        arc(x, y + slope + 0.5 * arch, 0.135 + 0.02 * f["brow_weight"], arch, thick), f.colors["brow"], 0.95
    )


def nose(canvas: Canvas, f: Looks) -> None:
    """Draw the nose by its shadows: bridge, wings, nostrils and the light on its tip."""
    w = canvas.rows(-0.15, 0.36, 0.6)
    size = f["nose_size"]
    u = w.u - (0.05 + 0.03 * size) * f["turn"]
    y = w.y - NOSE - 0.03 * size
    wide = 0.060 + 0.060 * size
    side = torch.where(f["light_x"] > 0, -1.0, 1.0)
    bridge = arc(w.y - 0.03, u - side * (0.045 + 0.02 * size), 0.16, 0.02, 0.018)
    w.paint(bridge, f.colors["shadow"], 0.5, 0.04)
    w.paint(
        ellipse(u.abs() - wide * 0.82, y, wide * 0.48, 0.040 + 0.016 * size), f.colors["shadow"], 0.8, 0.02
    )
    w.paint(ellipse(u, y - 0.002, wide * 0.72, 0.05 + 0.016 * size), f.colors["skin"], 0.95, 0.03)
    w.paint(ellipse(u, y + 0.02, 0.032 + 0.02 * size, 0.03), f.colors["glow"], 0.75, 0.05)
    w.paint(arc(u, y - 0.052 - 0.012 * size, wide, -0.03, 0.014), f.colors["fold"], 0.75)
    w.paint(
        ellipse(u.abs() - wide * 0.5, y - 0.036 - 0.012 * size, 0.024 + 0.012 * size, 0.014),
        f.colors["fold"] * 0.55,
    )


def mouth(canvas: Canvas, f: Looks) -> None:
    """Draw the mouth between two curves that rise at the corners when it smiles."""
    w = canvas.rows(MOUTH - 0.20, MOUTH + 0.28, 0.6)
    smile, opened = f["smile"], f["mouth_open"]
    half = 0.135 + 0.050 * smile.clamp(min=0) + 0.01 * f["male"]
    t = (w.u / half).square_()
    rest = 1 - t
    y = w.y - MOUTH - 0.030 * smile + 0.100 * smile * t
    gap = (0.095 * opened) * rest
    lip = (0.030 + 0.034 * f["lip_size"]) * (1 - 0.45 * f["old"])
    cupid = rest * (1 - 0.35 * (1 - 9 * t).clamp_(min=0))
    upper = torch.maximum(-y - lip * cupid, y - 0.004)
    lower = torch.maximum(-y, y - gap - 1.35 * lip * rest)
    w.paint(
        ellipse(w.u, y - 0.095 * opened - 1.35 * lip - 0.035, half * 0.6, 0.02), f.colors["shadow"], 0.6, 0.04
    )
    w.paint(lower, f.colors["lips"])
    w.paint(upper, f.colors["lips_dark"])
    w.paint(
        ellipse(w.u, y - 0.095 * opened - 0.7 * lip, half * 0.4, lip * 0.25),
        f.colors["lips_light"],
        0.7,
        0.03,
    )
    inside = torch.maximum(-y, y - gap)
    w.paint(inside, flat("#4a1418", y), opened.clamp(max=1))
    w.paint(torch.maximum(inside, y - 0.5 * gap - 0.01), flat("#fbf7f0", y), (2 * opened).clamp(max=1))
    w.paint(torch.maximum(y.abs() - 0.007, w.u.abs() - half), f.colors["fold"] * 0.6, 0.8 - 0.5 * opened)


def age_lines(canvas: Canvas, f: Looks) -> None:
    """Draw what the years leave: folds, bags, forehead lines, crow's feet, jowls."""
    ink, old = f.colors["fold"], f["old"]
    w = canvas.rows(-0.42, -0.14, 0.6)
    for height, half in ((-0.235, 0.24), (-0.295, 0.26), (-0.355, 0.22)):
        w.paint(arc(w.u, w.y - height, half, 0.02, 0.016), ink, 0.95 * old)
    w = canvas.rows(-0.12, 0.70, 0.6)
    u = w.u.abs()
    smile = f["smile"].clamp(min=0)
    w.paint(arc(u - EYE_X, w.y - 0.125, 0.115, -0.045, 0.020), ink, 0.95 * old, 0.01)
    for slope in (-0.5, 0.0, 0.5):
        x = u - 0.375
        w.paint(
            torch.maximum((w.y - 0.01 - slope * (x + 0.05)).abs_().sub_(0.009), x.abs() - 0.05),
            ink,
            0.8 * old,
        )
    fold = arc(w.y - 0.30, u - 0.185 - 0.03 * smile, 0.14, -0.05, 0.016)
    w.paint(fold, ink, (0.95 * old + 0.25 * smile).clamp(max=1))
    jowl = arc(w.y - 0.50, u - 0.235, 0.10, -0.03, 0.022)
    w.paint(jowl, ink, 0.85 * (2 * old - 0.7).clamp(0, 1), 0.02)
