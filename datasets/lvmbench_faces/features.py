"""What moves in a face: eyes, brows, nose, mouth, and the lines of age."""

from __future__ import annotations

from torch import Tensor

from lvmbench_faces.canvas import Canvas, Window
from lvmbench_faces.face import BROW, MOUTH, NOSE, Looks
from lvmbench_faces.palette import flat
from lvmbench_faces.sdf import arc, both, circle, either, ellipse, stroke

EYE_X = 0.19


def eyes(canvas: Canvas, f: Looks) -> None:
    """Draw both eyes at once, on a mirrored face."""
    w = canvas.rows(-0.2, 0.2, 0.45)
    k = f["eye_scale"]
    half = 0.098 * k
    x = w.u.abs().sub_(EYE_X)
    rest = 1 - (x / half).square_()
    upper = 0.074 * k * (1 - 0.60 * f["eye_narrow"]) * (1 - 0.22 * f["old"])
    lower = 0.052 * k * (1 - 0.55 * f["eye_narrow"]) * (1 - 0.45 * f["smile"].clamp(min=0))
    lid = rest * -upper
    ball = both(lid - w.y, w.y - rest.mul_(lower))
    w.paint(ellipse(x, w.y + 0.03, half * 1.25, 0.11), f.colors["shadow"], 0.45, 0.06)
    w.paint(ball, flat("#f8f6f3", x))
    _iris(w, f, x, ball)
    _lids(w, f, x, lid, half)


def _iris(w: Window, f: Looks, x: Tensor, ball: Tensor) -> None:
    k = f["eye_scale"]
    y = w.y + 0.006
    d = circle(x, y, 0.058 * k)
    w.paint(both(d, ball), f.colors["iris_rim"])
    w.paint(both(d + 0.010 * k, ball), f.colors["iris"])
    w.paint(both(d + 0.034 * k, ball), flat("#000000", x))
    spark = circle(x + w.u.sign().mul_(0.020 * k), y.add_(0.022 * k), 0.015 * k)
    w.paint(both(spark, ball), flat("#ffffff", x), 0.9)


def _lids(w: Window, f: Looks, x: Tensor, lid: Tensor, half: Tensor) -> None:
    """Draw the lashes, with a wing for women, and the crease of the lid, deeper with age."""
    weight = 0.010 + 0.016 * f["female"]
    lash = both((w.y - lid).add_(0.4 * weight).abs_().sub_(weight), x.abs().sub_(half * 1.04))
    side = x - half * 1.06
    wing = both((side * 0.7).add_(w.y).add_(0.028).abs_().sub_(0.011), side.abs_().sub_(0.026))
    w.paint(either(lash, wing.add_(f["male"])), flat("#1d1719", x), 0.92)
    crease = lid.mul_(-1.2).add_(w.y).add_(0.035).abs_().sub_(0.007)
    w.paint(both(crease, x.abs().sub_(half * 0.95)), f.colors["fold"], 0.35 + 0.5 * f["old"])


def brows(canvas: Canvas, f: Looks) -> None:
    """Draw the brows: men's lie lower and are heavier, age lets their ends sink."""
    w = canvas.rows(-0.36, 0.0, 0.45)
    x = w.u.abs().sub_(EYE_X)
    arch = 0.018 + 0.055 * f["brow_arch"]
    rise = BROW + 0.030 * f["male"] + 0.020 * f["old"] - 0.015 * f["smile"] - 0.5 * arch
    y = (x * (0.10 - 0.12 * f["old"])).add_(w.y).sub_(rise)
    thick = 0.015 + 0.055 * f["brow_weight"] + 0.007 * f["male"]
    w.paint(arc(x, y, 0.135 + 0.02 * f["brow_weight"], arch, thick), f.colors["brow"], 0.95)


def nose(canvas: Canvas, f: Looks) -> None:
    """Draw the nose by its shadows: bridge, wings, nostrils and the light on its tip."""
    w = canvas.rows(-0.2, 0.36, 0.45)
    size = f["nose_size"]
    u = w.u - (0.05 + 0.03 * size) * f["turn"]
    y = w.y - NOSE - 0.045 * size + 0.01
    wide = 0.055 + 0.080 * size
    side = -f["light_x"].sign()
    bridge = arc(w.y - 0.03, u - side * (0.040 + 0.035 * size), 0.16, 0.02, 0.016 + 0.008 * size)
    w.paint(bridge, f.colors["shadow"], 0.5, 0.04)
    w = canvas.rows(0.05, 0.36, 0.45)
    u, y = (t[:, -w.y.shape[1] :] for t in (u, y))
    wings = ellipse(u.abs().sub_(wide * 0.82), y, wide * 0.48, 0.038 + 0.026 * size)
    w.paint(wings, f.colors["shadow"], 0.8, 0.02)
    w.paint(ellipse(u, y, wide * 0.72, 0.046 + 0.026 * size), f.colors["skin"], 0.95, 0.03)
    w.paint(ellipse(u, y + 0.02, 0.032 + 0.02 * size, 0.03), f.colors["glow"], 0.75, 0.05)
    y = y - (0.034 + 0.020 * size)
    w.paint(arc(u, y - 0.016, wide, -0.03, 0.012 + 0.010 * size), f.colors["fold"], 0.8)
    w.paint(
        ellipse(u.abs().sub_(wide * 0.5), y, 0.022 + 0.020 * size, 0.013 + 0.008 * size),
        f.colors["fold"] * 0.55,
    )


def mouth(canvas: Canvas, f: Looks) -> None:
    """Draw the mouth between two curves that rise at the corners when it smiles."""
    w = canvas.rows(MOUTH - 0.20, MOUTH + 0.30, 0.45)
    smile, opened = f["smile"] + 0.17, f["mouth_open"]
    half = 0.130 + 0.065 * smile.clamp(min=0) + 0.01 * f["male"]
    t = (w.u / half).square_()
    rest = 1 - t
    y = (t * (0.115 * smile)).add_(w.y).sub_(MOUTH + 0.035 * smile)
    lip = (0.030 + 0.034 * f["lip_size"]) * (1 - 0.45 * f["old"])
    sunk = y - (0.095 * opened + 1.35 * lip)
    ends = w.u.abs().sub_(half)
    above, gap = both(-y, ends), y - rest * (0.095 * opened)
    cupid = t.mul_(9).sub_(1).clamp_(max=0).mul_(0.35).add_(1).mul_(rest)
    w.paint(ellipse(w.u, sunk - 0.035, half * 0.6, 0.02), f.colors["shadow"], 0.6, 0.04)
    w.paint(both(above, gap - rest * (1.35 * lip)), f.colors["lips"])
    w.paint(both(above - cupid.mul_(lip), y - 0.004), f.colors["lips_dark"])
    w.paint(
        ellipse(w.u, sunk.add_(0.65 * lip), half * 0.4, lip * 0.25 + 0.01), f.colors["lips_light"], 0.7, 0.03
    )
    inside = both(above, gap)
    teeth = both(inside, y - rest * (0.0475 * opened) - 0.01)
    w.paint(inside, flat("#4a1418", y), opened)
    w.paint(teeth, flat("#fbf7f0", y), (2 * opened).clamp(max=1))
    w.paint(both(y.abs_().sub_(0.007), ends), f.colors["fold"] * 0.6, 0.8 - 0.5 * opened)


def age_lines(canvas: Canvas, f: Looks) -> None:
    """Draw what the years leave: lines on the forehead, crow's feet, bags, folds, jowls."""
    ink, lines = f.colors["fold"], f["lines"]
    w = canvas.rows(-0.42, -0.14, 0.45)
    t = (w.u / 0.25).square_()
    y = t.mul(0.02).sub_(w.y)
    forehead = either(*(stroke(y + height, t, 0.016) for height in (-0.235, -0.295, -0.355)))
    w.paint(forehead, ink, 0.95 * lines)
    w = canvas.rows(-0.12, 0.22, 0.45)
    u = w.u.abs()
    bags = arc(u - EYE_X, w.y - 0.125, 0.115, -0.045, 0.020)
    x = u.sub_(0.375)
    away = (w.y - 0.01).abs_()
    feet = either(away - 0.009, (x + 0.05).mul_(-0.5).add_(away).abs_().sub_(0.009))
    w.paint(either(bags, both(feet, x.abs_().sub_(0.05))), ink, 0.92 * lines, 0.005)
    w = canvas.rows(0.06, 0.66, 0.45)
    u = w.u.abs()
    smile = f["smile"].clamp(min=0)
    fold = arc(w.y - 0.30, u - 0.185 - 0.03 * smile, 0.14, -0.05, 0.016)
    jowl = arc(w.y - 0.49, u - 0.17 - 0.05 * f["male"] - 0.04 * f["chubby"], 0.08, -0.02, 0.020)
    w.paint(either(fold, jowl), ink, 0.92 * lines, 0.005)
