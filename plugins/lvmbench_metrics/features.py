"""Codes as a linear probe wants them: standardised by training rows, turned to their principal axes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from lvmbench import Evaluation
from lvmbench_metrics.blocks import gram, times
from lvmbench_metrics.views import Codes, codes_of, narrow


@dataclass(frozen=True)
class Features:
    """Codes of the three splits with a last column of ones: float32 [N, D + 1] each."""

    train: Tensor
    val: Tensor
    test: Tensor


def standardised(ev: Evaluation, view: str) -> Features:
    """Return codes of mean 0 and spread 1 over training rows, dimensions that never vary set to 0."""
    codes = narrow(ev, view)
    scale = _scale(codes)

    def scaled(z: Tensor) -> Tensor:
        return pad(z * scale.float(), (0, 1), value=1.0)

    return Features(scaled(codes.train), scaled(codes.val), scaled(codes.test))


def features(ev: Evaluation, view: str) -> Features:
    """Return standardised codes in uncorrelated coordinates, those of wide codes their leading ones.

    A rotation changes neither an L2-penalised fit nor its scores, but lets first-order methods run fast.
    """
    return ev.recent(_features, view=ev.latent if view == "z" else view)


def _features(ev: Evaluation, view: str) -> Features:
    codes = codes_of(ev, view)
    scale = _scale(codes)
    turn = scale[:, None] * torch.linalg.eigh(scale[:, None] * gram(codes.train) * scale).eigenvectors
    turn = pad(turn, (0, 1))  # room for the ones
    turned = [times(z, turn) for z in (codes.train, codes.val, codes.test)]
    for z in turned:
        z[:, -1] = 1
    return Features(*turned)


def _scale(codes: Codes) -> Tensor:
    return torch.where(codes.spread > 0, 1 / codes.spread, 0)
