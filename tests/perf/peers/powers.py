"""Power laws: y = a x^b through some points, by least squares of the logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression


@dataclass(frozen=True)
class Power:
    """The exponent of a power law, and the largest distance of a point from it, as a factor."""

    exponent: float
    off: float


def fitted(x: Sequence[float], y: Sequence[float]) -> Power:
    """Return the power law through points whose coordinates are all above 0.

    Raises:
        ValueError: if there are fewer than two points.
    """
    if len(x) < 2:
        raise ValueError(f"{len(x)} points have no exponent: give two or more.")
    logs = [math.log(v) for v in x], [math.log(v) for v in y]
    slope, intercept = linear_regression(*logs)
    off = max(abs(b - intercept - slope * a) for a, b in zip(*logs, strict=True))
    return Power(slope, math.exp(off))
