"""Whether training had settled, from the learning curve on validation data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from lvmbench.descent import WARM_UP, decay

STILL_LEARNING = 0.02  # of a phase's whole progress, made from its third quarter to its last: not converged


def has_converged(
    curve: Sequence[tuple[int, float]], images: int, steps: int, settled: float = 0.0
) -> bool | None:
    """Return whether a curve of (images seen, loss) had settled while the learning rate was constant.

    It had if the mean of the last quarter of these looks differs from that of the quarter before by at most 2 %
    of all that was gained, and twice the standard error that the jitter from look to look explains; a loss that
    rises has not settled. The decay of the learning rate, which flatters any curve, is not looked at, nor is
    what comes before the share ``settled``, when a schedule still changes what is minimised.
    """
    begin = max(WARM_UP, settled) * images
    constant = [loss for seen, loss in curve if begin <= seen <= (1 - decay(steps)) * images]
    quarter = len(constant) // 4
    if quarter < 2:
        return None
    late = constant[-2 * quarter :]
    gain = fmean(late[:quarter]) - fmean(late[quarter:])
    jitter = fmean((b - a) ** 2 for a, b in pairwise(late)) / 2  # variance of one look, without the trend
    return abs(gain) <= STILL_LEARNING * (constant[0] - min(constant)) + 2 * math.sqrt(2 * jitter / quarter)
