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


def standardised(ev: Evaluation, view: str) -> Features:
    """Return codes of mean 0 and spread 1 over training rows, dimensions that never vary set to 0."""
    train = finite_codes(ev, "train", view)
    mean, spread, varies = train.mean(0), train.std(0, correction=0), alive(train)
    scale = torch.where(varies, 1 / spread.where(varies, spread.new_ones(())), 0)

    def scaled(split: SplitName) -> Tensor:
        z = train if split == "train" else finite_codes(ev, split, view)
        return torch.nn.functional.pad((z - mean) * scale, (0, 1), value=1.0)

    return Features(scaled("train"), scaled("val"), scaled("test"))


def features(ev: Evaluation, view: str) -> Features:
    """Return standardised codes in uncorrelated coordinates.

    A rotation changes neither an L2-penalised fit nor its scores, but lets first-order methods run fast.
    """
    x = ev.shared(standardised, view=view)
    axes = torch.linalg.eigh(x.train[:, :-1].T @ x.train[:, :-1]).eigenvectors
    turn = torch.block_diag(axes, axes.new_ones(1, 1))
    return Features(x.train @ turn, x.val @ turn, x.test @ turn)


def alive(z: Tensor) -> Tensor:
    """Return which dimensions vary by more than rounding: [N, D] -> bool [D]."""
    return z.std(0, correction=0) > RESOLUTION * z.square().mean(0).sqrt()
