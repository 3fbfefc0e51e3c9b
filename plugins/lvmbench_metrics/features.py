"""Codes as a linear probe wants them: standardised by training rows, turned to their principal axes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lvmbench import Evaluation
from lvmbench_metrics.codes import SplitName, alive, finite_codes
from lvmbench_metrics.views import codes_of


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
        return pad((z - mean) * scale, (0, 1), value=1.0)

    return Features(scaled("train"), scaled("val"), scaled("test"))


def features(ev: Evaluation, view: str) -> Features:
    """Return standardised codes in uncorrelated coordinates, those of wide codes their leading ones.

    A rotation changes neither an L2-penalised fit nor its scores, but lets first-order methods run fast.
    """
    codes = codes_of(ev, view)
    scale = torch.where(codes.spread > 0, 1 / codes.spread, 0)
    standard = codes.train * scale
    turn = scale[:, None] * torch.linalg.eigh(standard.T @ standard).eigenvectors
    return Features(*(pad(z @ turn, (0, 1), value=1.0) for z in (codes.train, codes.val, codes.test)))
