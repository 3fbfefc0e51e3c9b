"""Intervals: the bootstrap over test rows, and how seeds and rows combine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

REPLICATES = 1000
LEVEL = 0.95


def bootstrap_weights(keys: Sequence[int], replicates: int = REPLICATES) -> Tensor:
    """Return Poisson(1) bootstrap weights keyed by row or identity: [N] keys -> float32 [R, N].

    Rows of one key share their weights (a clustered bootstrap), and a key has the same weights in every data set
    and for every model, which makes replicates paired (Chamandy et al. 2012).
    """
    drawn = {key: np.random.Generator(np.random.Philox(key=key)).poisson(1.0, replicates) for key in set(keys)}
    return torch.from_numpy(np.stack([drawn[key] for key in keys], axis=1).astype(np.float32))
