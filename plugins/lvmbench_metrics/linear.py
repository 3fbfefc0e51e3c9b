"""Linear probes of z: learned on train codes, strength and view chosen on validation, asked of test rows."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench import Evaluation
from lvmbench_metrics.features import Features, features
from lvmbench_metrics.logistic import fit, logits, losses
from lvmbench_metrics.probing import Group, Probe, Probes, read
from lvmbench_metrics.views import readers

TOLERANCE = 1e-4  # of a gradient: a tenth of it costs twice the time and moves an AUROC by less than 1e-4
GRID = (0.01, 0.1, 1.0)  # of the greatest strength
STRENGTH = 0.1  # C of scikit-learn, the weight of a row against |w|²/2: of many rows
ALL_ROWS = 1200.0  # of few rows, what all of them weigh together


def strengths(rows: int) -> tuple[float, ...]:
    """Return the strengths that a reader of so many rows may choose from, the weight of one row each."""
    return tuple(share * max(STRENGTH, ALL_ROWS / max(rows, 1)) for share in GRID)


def chosen(
    train: Tensor, labels: Tensor, val: Tensor, val_labels: Tensor, classes: int, tolerance: float = TOLERANCE
) -> tuple[Tensor, Tensor]:
    """Return the weights of the strength of least loss on validation rows, and that loss: [T, D + 1, O], [T] nats.

    Codes are [N, D + 1], their last column 1, and labels [N, T], -1 where missing.
    """
    tried = fit(train, labels, classes, strengths(len(train)), tolerance)
    loss = torch.stack([losses(logits(val, weights), val_labels).sum(0) for weights in tried])  # [S, T]
    best, strength = loss.min(0)
    return tried[strength, torch.arange(len(best), device=loss.device)], best


def linear_probes(ev: Evaluation, view: str) -> Probes:
    """Return the linear probe of each attribute that has classes, or why there is none."""
    return readers(ev, view, _probes)


def _probes(ev: Evaluation, view: str) -> Probes:
    return read(ev, lambda group: _fit(features(ev, view), group))


def _fit(x: Features, group: Group) -> dict[str, Probe]:
    weights, best = chosen(x.train, group.train, x.val, group.val, group.classes)
    return group.probes(logits(x.val, weights), logits(x.test, weights), best)
