"""What is put on: glasses."""

from __future__ import annotations

from lvmbench_faces.canvas import Canvas
from lvmbench_faces.face import Looks
from lvmbench_faces.palette import flat
from lvmbench_faces.sdf import band, both, either, squircle


def glasses(canvas: Canvas, f: Looks) -> None:
    """Draw clear glasses or sunglasses, with bridge and temples."""
    w = canvas.rows(-0.25, 0.25, 0.6)
    u, sun = w.u.abs(), f["sunglasses"]
    d = squircle(u - 0.205, w.y - 0.015, 0.165, 0.135, 0.45)
    w.paint(d, flat("#1c1e26", u), 0.95 * sun)
    w.paint(d, flat("#e8f2f8", u), 0.16 * (1 - sun))
    glare = (w.y + 1.3 * (w.u - 0.045 - 0.205 * w.u.sign())).abs_().sub_(0.045)
    w.paint(both(d, glare), flat("#ffffff", u), 0.30, 0.01)
    bridge = both((w.y + 0.01 + 3 * u.square()).abs_().sub_(0.016), u - 0.05)
    arms = both((w.y + 0.03).abs_().sub_(0.016), (w.x.abs() - 0.42).abs_().sub_(0.07), 0.35 - u)
    w.paint(either(band(d, 0.017), bridge, arms), flat("#2a2326", u))
