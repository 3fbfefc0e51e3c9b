"""What is put on: glasses."""

from __future__ import annotations

import torch

from lvmbench_faces.canvas import Canvas
from lvmbench_faces.face import Looks
from lvmbench_faces.palette import WHITE, flat
from lvmbench_faces.sdf import band, both, squircle


def glasses(canvas: Canvas, f: Looks) -> None:
    """Draw clear glasses or sunglasses, with bridge and temples."""
    w = canvas.rows(-0.25, 0.25, 0.6)
    sun, clear = f["sun_glasses"], f["clear_glasses"]
    worn = sun + clear
    u = w.u.abs()
    d = squircle(u - 0.205, w.y - 0.015, 0.165, 0.135, 0.6)
    frame = flat("#2a2326", u)
    w.paint(d, flat("#1c1e26", u), 0.95 * sun)
    w.paint(d, flat("#e8f2f8", u), 0.16 * clear)
    glare = both(d, (w.y + 1.3 * (w.u - torch.where(w.u < 0, -0.16, 0.25))).abs() - 0.045)
    w.paint(glare, flat(WHITE, u), 0.30 * worn, 0.01)
    w.paint(band(d, 0.017), frame, worn)
    w.paint(both((w.y + 0.01 + 3 * u.square()).abs() - 0.016, u - 0.05), frame, worn)
    arm = both((w.y + 0.03).abs() - 0.016, (w.x.abs() - 0.42).abs() - 0.07)
    w.paint(both(arm, 0.35 - u), frame, worn)
