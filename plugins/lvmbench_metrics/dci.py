"""Disentanglement, completeness and informativeness, from how much each dimension matters to a reader of z.

The three depend on the reader more than on the code, which is why it stands in the name: ``logistic``, sparse
linear readers, the importance of a dimension being |w| on standardised codes; ``gbt``, gradient-boosted trees,
the importance being the impurity that its splits take away. An attribute's importances are scaled to sum to 1,
so that none weighs more for its number of classes; a reader that found nothing has no importance at all.
Readers learn on the first 10,000 training rows.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import readers
from lvmbench_metrics.readers import Reading

Backend = Literal["logistic", "gbt"]
Scores = dict[str, Estimate | NotApplicable]
PAPER = "Eastwood & Williams 2018, ICLR, section 2"

_score = metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    chance=0.0,
    paper=PAPER,
    family="disentanglement",
    main=False,
)
_informativeness = metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(None, 1),
    chance=0.0,
    paper=PAPER,
    family="disentanglement",
    main=False,
)


@_score
def dci_disentanglement_logistic(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return how far each dimension matters to one attribute only, weighted by how much it matters."""
    return _disentanglement(ev, "logistic", view)


@_score
def dci_completeness_logistic(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return how far one dimension only matters to each attribute, 0 where none does."""
    return _completeness(ev, "logistic", view)


@_informativeness
def dci_informativeness_logistic(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return what the sparse linear reader finds on test rows: 2 AUROC - 1 of classes, R² of numbers."""
    return _informed(ev, "logistic", view)


@_score
def dci_disentanglement_gbt(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return how far each dimension matters to one attribute only, by gradient-boosted trees."""
    return _disentanglement(ev, "gbt", view)


@_score
def dci_completeness_gbt(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return how far one dimension only matters to each attribute, by gradient-boosted trees."""
    return _completeness(ev, "gbt", view)


@_informativeness
def dci_informativeness_gbt(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return what gradient-boosted trees find on test rows: 2 AUROC - 1 of classes, R² of numbers."""
    return _informed(ev, "gbt", view)


def disentanglement(importance: Tensor) -> float:
    """Return sum_d rho_d (1 - H_A(R_d)), rho the share of all importance: [D, A] -> a number."""
    return float(_concentration(importance) @ _share(importance.sum(1)))


def completeness(importance: Tensor) -> float:
    """Return sum_a rho_a (1 - H_D(R_a)), rho the share of all importance: [D, A] -> a number."""
    return disentanglement(importance.T)


def _concentration(importance: Tensor) -> Tensor:
    """Return 1 - entropy of each row to the base of its length, 0 where it is empty: [D, A] -> [D]."""
    rows = importance / importance.sum(1, keepdim=True).clamp(min=torch.finfo(importance.dtype).tiny)
    spread = torch.special.entr(rows).sum(1) / math.log(importance.shape[1])
    return torch.where(importance.sum(1) > 0, 1 - spread, 0)


def _share(values: Tensor) -> Tensor:
    return values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)


def _disentanglement(ev: Evaluation, backend: Backend, view: str) -> Estimate:
    found = _readings(ev, backend, view)
    tried = [r.importance for r in found.values() if isinstance(r, Reading)]
    read = sum(bool(importance.any()) for importance in tried)
    if read < 2:
        raise NotApplicable(f"{read} of {len(found)} attributes can be read: there are no two to tell apart")
    return Estimate(
        disentanglement(torch.stack(tried, dim=1)), note=f"{read} of {len(found)} attributes read"
    )


def _completeness(ev: Evaluation, backend: Backend, view: str) -> Scores:
    return {name: _complete(reading) for name, reading in _readings(ev, backend, view).items()}


def _complete(reading: Reading | NotApplicable) -> Estimate | NotApplicable:
    if isinstance(reading, NotApplicable):
        return reading
    if len(reading.importance) < 2:
        return NotApplicable("the code has one dimension")
    best = int(reading.importance.argmax())
    note = f"most in dimension {best}" if reading.importance.any() else "no dimension matters to the reader"
    return Estimate(completeness(reading.importance[:, None]), note=note)


def _informed(ev: Evaluation, backend: Backend, view: str) -> Scores:
    found = _readings(ev, backend, view).items()
    return {name: r if isinstance(r, NotApplicable) else r.informativeness for name, r in found}


def _readings(ev: Evaluation, backend: Backend, view: str) -> dict[str, Reading | NotApplicable]:
    return ev.shared(readers.logistic if backend == "logistic" else readers.boosted, view=view)
