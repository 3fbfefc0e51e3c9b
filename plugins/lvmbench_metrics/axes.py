"""Whether each attribute has a dimension of its own, by how well single dimensions rank the test rows.

The area under the ROC curve of one dimension needs no fit: the dimension is the score, whichever way it points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import probes
from lvmbench_metrics.auroc import auroc_matrix, placements
from lvmbench_metrics.codes import class_labels, finite_codes
from lvmbench_metrics.features import alive
from lvmbench_metrics.influence import moved
from lvmbench_metrics.information import best_two, entropy, indicators, mutual

KEPT_AREA = 0.75  # of Yeats et al.: an attribute whose best dimension ranks worse is not captured
SHARED_INFORMATION = 0.2  # and one of whose entropy another attribute holds more is no attribute of its own

Scores = dict[str, Estimate | NotApplicable]


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    chance=0.0,
    paper="Kumar et al. 2018, arXiv 1711.00848, SAP",
    family="disentanglement",
    main=False,
)
def sap_auroc(ev: Evaluation, *, view: str = "mean") -> Scores:
    """Return how far the best single dimension is ahead of the next, for each attribute.

    A dimension scores |2 AUROC - 1| on classes, the mean of one-versus-rest where there are more than two,
    and the squared correlation on numbers.
    """
    z = _codes(ev, view)
    return {a.name: _separated(ev, z, a) for a in ev.schema.attributes}


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, None),
    chance=0.0,
    paper="Yeats et al. 2022, arXiv 2202.10454, TAD",
    family="disentanglement",
    main=False,
)
def tad(ev: Evaluation, *, view: str = "mean") -> Estimate:
    """Return the sum over kept attributes of the lead in AUROC of the best dimension over the next.

    Kept are binary attributes whose best dimension has an AUROC of .75 or more, and of whose entropy no other
    attribute holds more than .2. How many are kept depends on the code: two sums compare only beside it.
    """
    found = ev.shared(_leads, view=view)
    boot = moved(found.lead, found.influence, ev.weights())[:, found.kept].sum(1)
    value = float(found.lead[found.kept].sum())
    note = f"{int(found.kept.sum())} of {len(found.kept)} attributes kept"
    return Estimate(value, replicates=boot, n=len(found.influence), note=note)


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(-1, 1),
    chance=0.0,
    paper="Ridgeway & Mozer 2018, arXiv 1802.05312, section 3",
    family="disentanglement",
    main=False,
)
def explicitness(ev: Evaluation, *, view: str = "mean") -> Estimate:
    """Return 2 AUROC - 1 of the linear probe on test rows, the mean over attributes that have classes."""
    scores = ev.shared(probes.auroc.compute, view=view)
    assert isinstance(scores, dict)
    found = [s for s in scores.values() if isinstance(s, Estimate)]
    if not found:
        raise NotApplicable("no attribute has a probe")
    value = sum(2 * s.value - 1 for s in found) / len(found)
    boot = torch.stack([s.replicates for s in found if s.replicates is not None]).nanmean(0)
    missing = f" of {len(scores)}" if len(found) < len(scores) else ""
    n = len(ev.labels("test"))
    return Estimate(value, replicates=2 * boot - 1, n=n, note=f"{len(found)}{missing} attributes")


def _codes(ev: Evaluation, view: str) -> Tensor:
    """Return the test codes, a dimension that never changes in training set to 0: [N, D]."""
    return torch.where(alive(finite_codes(ev, "train", view)), finite_codes(ev, "test", view), 0)


def _separated(ev: Evaluation, z: Tensor, attribute: Attribute) -> Estimate | NotApplicable:
    labels = ev.labels("test")[:, ev.schema.index(attribute.name)].double()
    present = ~labels.isnan()
    values = labels[present].unique()
    if len(values) < 2:
        return NotApplicable("fewer than two classes or values among the labelled test rows")
    if attribute.is_number:
        score, influence = _of_number(z, labels, present)
    else:
        # with two classes, one against the other says all
        classes = values[1:] if len(values) == 2 else values
        score, influence = _of_classes(z, labels[:, None] == classes, present)
    boot = moved(score, influence, ev.weights())
    return Estimate(float(score), replicates=boot[:, 0], n=int(present.sum()))


def _of_classes(z: Tensor, positive: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lead of the best dimension, and every row's influence: [N, D], [N, C], [N] -> [1], [N, 1]."""
    present = present[:, None].expand_as(positive)
    strength = (2 * auroc_matrix(z, positive, present) - 1).abs().mean(1)
    lead, influence = z.new_zeros(1), z.new_zeros(len(z), 1)
    for d, sign in zip(_first_two(strength), (1, -1), strict=False):
        area, moves = placements(z[:, [d]].expand(positive.shape), positive, present)
        steps = 2 * sign * (area - 0.5).sign()
        lead = lead + (steps * (area - 0.5)).mean()
        influence = influence + (steps * moves).mean(1, keepdim=True)
    return lead, influence


def _of_number(z: Tensor, labels: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lead of the best dimension, and every row's influence: [N, D], [N], [N] -> [1], [N, 1]."""
    y = _standard(labels[present, None])
    x = _standard(z[present])
    r = (x * y).mean(0)
    lead, influence = z.new_zeros(1), z.new_zeros(len(z), 1)
    for d, sign in zip(_first_two(r.abs()), (1, -1), strict=False):
        lead = lead + sign * r[d].square()
        # d r = x y - r (x² + y²) / 2
        moves = x[:, [d]] * y - r[d] * (x[:, [d]].square() + y.square()) / 2
        influence[present] += 2 * sign * r[d] * moves * len(z) / len(x)
    return lead, influence


def _first_two(strength: Tensor) -> list[int]:
    return [int(d) for d in strength.topk(min(2, len(strength))).indices]


def _standard(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    spread = centred.square().mean(0).sqrt()
    return centred / torch.where(spread > 0, spread, 1)


@dataclass(frozen=True)
class Leads:
    """The lead of the best dimension for each binary attribute [A], each row's influence [N, A], which are kept [A]."""

    lead: Tensor
    influence: Tensor
    kept: Tensor


def _leads(ev: Evaluation, view: str) -> Leads:
    binary = [ev.schema.index(a.name) for a in ev.schema.attributes if a.kind == "binary"]
    labels = class_labels(ev, "test")[:, binary]
    both = torch.stack([(labels == c).any(0) for c in (0, 1)]).all(0)
    if not both.any():
        raise NotApplicable("no binary attribute has both classes among the test rows")
    labels = labels[:, both]
    positive, present = labels == 1, labels >= 0
    z = _codes(ev, view)
    strength = (auroc_matrix(z, positive, present) - 0.5).abs()
    best, second = best_two(strength)
    kept = (best + 0.5 >= KEPT_AREA) & (_most_shared(labels) <= SHARED_INFORMATION)
    order = strength.topk(min(2, len(strength)), dim=0).indices
    influence = torch.zeros_like(positive, dtype=torch.float64)
    for d, sign in zip(order, (1, -1), strict=False):
        area, moves = placements(z[:, d], positive, present)
        influence += sign * (area - 0.5).sign() * moves
    return Leads(best - second, influence, kept)


def _most_shared(labels: Tensor) -> Tensor:
    """Return the largest share of each attribute's entropy that another one holds: [N, A] -> [A]."""
    shown = indicators(labels, 2)
    a = labels.shape[1]
    counts = (shown.T @ shown).double().view(a, 2, a, 2).transpose(1, 2)
    own = entropy(counts.sum(3))  # of attribute i among rows that have j too
    shared = torch.where(own > 0, mutual(counts) / own.where(own > 0, own.new_ones(())), 0)
    return shared.fill_diagonal_(0).amax(1)
