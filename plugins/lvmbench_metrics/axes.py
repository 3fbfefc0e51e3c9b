"""Whether each attribute has a dimension of its own, by how well single dimensions rank the test rows.

The area under the ROC curve of one dimension needs no fit: the dimension is the score, whichever way it points.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import probes
from lvmbench_metrics.auroc import auroc_matrix, placements
from lvmbench_metrics.codes import alive, class_labels, finite_codes, single_codes, told_apart
from lvmbench_metrics.influence import moved
from lvmbench_metrics.information import entropy, indicators, mutual

KEPT_AREA = 0.75  # of Yeats et al.: an attribute whose best dimension ranks worse is not captured
SHARED_INFORMATION = 0.2  # and one of whose entropy another attribute holds more is no attribute of its own

Scores = dict[str, Estimate | NotApplicable]
Leads = tuple[Tensor, Tensor]  # of the best dimension over the next, and every row's influence: [A], [N, A]


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    chance=0.0,
    paper="Kumar et al. 2018, arXiv 1711.00848",
    family="disentanglement",
    main=False,
)
def sap_auroc(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return how far the best single dimension is ahead of the next, for each attribute.

    A dimension scores |2 AUROC - 1| on classes, the mean of one-versus-rest where there are more than two,
    and the squared correlation on numbers.
    """
    z = _codes(ev, view)
    found: Scores = dict(_unseparable(ev))
    columns = {a.name: ev.schema.index(a.name) for a in ev.schema.attributes if a.name not in found}
    numbers = [name for name, i in columns.items() if ev.schema.attributes[i].is_number]
    classes = [name for name in columns if name not in numbers]
    leads = {name: _of_number(z, ev.labels("test")[:, columns[name]].double()) for name in numbers}
    if classes:
        each = _of_classes(z, class_labels(ev, "test")[:, [columns[name] for name in classes]])
        leads |= {name: (each[0][[i]], each[1][:, [i]]) for i, name in enumerate(classes)}
    for name, (lead, influence) in leads.items():
        n = int((~ev.labels("test")[:, columns[name]].isnan()).sum())
        boot = moved(lead, influence, ev.weights())[:, 0]
        found[name] = Estimate(float(lead), replicates=boot, n=n)
    return {a.name: found[a.name] for a in ev.schema.attributes}


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, None),
    chance=0.0,
    paper="Yeats et al. 2022, arXiv 2209.10677",
    family="disentanglement",
    main=False,
)
def tad(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return the sum over kept attributes of the lead in AUROC of the best dimension over the next.

    Kept are binary attributes whose best dimension has an AUROC of .75 or more, and of whose entropy no other
    attribute holds more than .2. How many are kept depends on the code: two sums compare only beside it.
    """
    lead, influence, kept = _kept(ev, view)
    boot = moved(lead, influence, ev.weights())[:, kept].sum(1)
    note = f"{int(kept.sum())} of {len(kept)} attributes kept"
    return Estimate(float(lead[kept].sum()), replicates=boot, n=len(influence), note=note)


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(-1, 1),
    chance=0.0,
    paper="Ridgeway & Mozer 2018, arXiv 1802.05312",
    family="disentanglement",
    main=False,
)
def explicitness(ev: Evaluation, *, view: str = "z") -> Estimate:
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
    return torch.where(alive(single_codes(ev, "train", view)), finite_codes(ev, "test", view), 0)


def _unseparable(ev: Evaluation) -> Iterator[tuple[str, NotApplicable]]:
    for a in ev.schema.attributes:
        labels = ev.labels("test")[:, ev.schema.index(a.name)]
        if len(labels[~labels.isnan()].unique()) < 2:
            yield a.name, NotApplicable("fewer than two classes or values among the labelled test rows")


def _of_classes(z: Tensor, labels: Tensor) -> Leads:
    """Return the lead of the best dimension for each attribute: [N, D], [N, A] in -1.. -> [A], [N, A]."""
    against = [told_apart(column) for column in labels.T]
    owner = torch.cat([torch.full_like(classes, i) for i, classes in enumerate(against)])
    share = one_hot(owner, len(against)).double()
    share /= share.sum(0)
    positive, present = labels[:, owner] == torch.cat(against), labels[:, owner] >= 0
    strength = (2 * auroc_matrix(z, positive, present) - 1).abs() @ share
    lead, influence = z.new_zeros(len(against)), z.new_zeros(labels.shape)
    for dims, sign in zip(_first_two(strength), (1, -1), strict=False):
        area, moves = placements(z[:, dims[owner]], positive, present)
        steps = 2 * sign * (area - 0.5).sign()
        lead = lead + (steps * (area - 0.5)) @ share
        influence = influence + (steps * moves) @ share
    return lead, influence


def _of_number(z: Tensor, labels: Tensor) -> Leads:
    """Return the lead of the best dimension for a number: [N, D], [N] NaN where missing -> [1], [N, 1]."""
    present = ~labels.isnan()
    x, y = _standard(z[present]), _standard(labels[present, None])
    r = (x * y).mean(0)
    lead, influence = z.new_zeros(1), z.new_zeros(len(z), 1)
    for d, sign in zip(_first_two(r.abs()), (1, -1), strict=False):
        lead = lead + sign * r[d].square()
        # d r = x y - r (x² + y²) / 2
        moves = x[:, [d]] * y - r[d] * (x[:, [d]].square() + y.square()) / 2
        influence[present] += 2 * sign * r[d] * moves * len(z) / len(x)
    return lead, influence


def _first_two(strength: Tensor) -> Tensor:
    """Return the best dimensions, two of them if there are as many: [D, ...] -> [2, ...]."""
    return strength.topk(min(2, len(strength)), dim=0).indices


def _standard(values: Tensor) -> Tensor:
    centred = values - values.mean(0)
    spread = centred.square().mean(0).sqrt()
    return centred / torch.where(spread > 0, spread, 1)


def _kept(ev: Evaluation, view: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the lead of the best dimension for each binary attribute, its influence, and whether it is kept."""
    binary = [ev.schema.index(a.name) for a in ev.schema.attributes if a.kind == "binary"]
    labels = class_labels(ev, "test")[:, binary]
    both = torch.stack([(labels == c).any(0) for c in (0, 1)]).all(0)
    if not both.any():
        raise NotApplicable("no binary attribute has both classes among the test rows")
    labels = labels[:, both]
    z = _codes(ev, view)
    best = (auroc_matrix(z, labels == 1, labels >= 0) - 0.5).abs().amax(0) + 0.5
    kept = (best >= KEPT_AREA) & (_most_shared(labels) <= SHARED_INFORMATION)
    lead, influence = _of_classes(z, labels)  # in |2 AUROC - 1|, twice the lead in AUROC
    return lead / 2, influence / 2, kept


def _most_shared(labels: Tensor) -> Tensor:
    """Return the largest share of each attribute's entropy that another one holds: [N, A] -> [A]."""
    shown = indicators(labels, 2)
    a = labels.shape[1]
    counts = (shown.T @ shown).double().view(a, 2, a, 2).transpose(1, 2)
    own = entropy(counts.sum(3))  # of attribute i among rows that have j too
    shared = torch.where(own > 0, mutual(counts) / own.where(own > 0, own.new_ones(())), 0)
    return shared.fill_diagonal_(0).amax(1)
