"""Codes as a linear probe wants them: standardised by training rows, turned to their principal axes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench import Evaluation
from lvmbench_metrics.codes import SplitName, finite_codes

RESOLUTION = 1e-6  # a spread smaller than this share of the codes' size is float32 rounding, not information


@dataclass(frozen=True)
class Features:
    """Codes of the three splits with a last column of ones: [N, D + 1] each."""

    train: Tensor
    val: Tensor
    test: Tensor


def features(ev: Evaluation, view: str) -> Features:
    """Return standardised codes in uncorrelated coordinates, dimensions that never vary set to 0.

    A rotation changes neither an L2-penalised fit nor its scores, but lets first-order methods run fast.
    """
    train = finite_codes(ev, "train", view)
    mean, spread, varies = train.mean(0), train.std(0, correction=0), alive(train)
    scale = torch.where(varies, 1 / spread.where(varies, spread.new_ones(())), 0)
    standard = (train - mean) * scale
    axes = torch.linalg.eigh(standard.T @ standard).eigenvectors

    def turned(split: SplitName) -> Tensor:
        z = train if split == "train" else finite_codes(ev, split, view)
        return torch.nn.functional.pad((z - mean) * scale @ axes, (0, 1), value=1.0)

    return Features(turned("train"), turned("val"), turned("test"))


def alive(z: Tensor) -> Tensor:
    """Return which dimensions vary by more than rounding: [N, D] -> bool [D]."""
    return z.std(0, correction=0) > RESOLUTION * z.square().mean(0).sqrt()
