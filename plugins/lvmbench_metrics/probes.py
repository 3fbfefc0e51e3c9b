"""What a linear reader finds in z, attribute by attribute, through the view that validation rows choose."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import auroc as rank
from lvmbench_metrics.codes import class_name, weights_of
from lvmbench_metrics.influence import moved
from lvmbench_metrics.linear import linear_probes
from lvmbench_metrics.precision import average_precision as area
from lvmbench_metrics.probing import Probe, labels_of
from lvmbench_metrics.regressions import Regression, regressions
from lvmbench_metrics.scores import (
    Scores,
    auroc_of,
    balanced_accuracy_of,
    estimate,
    of_each,
    one_versus_rest,
    spearman_of,
)
from lvmbench_metrics.views import BEST

RARE = 0.05
FEWEST = 10  # rows of a class that an AUROC within a part of the rows is worth looking at

_probed = partial(metric, needs=("codes", "labels"), family="probes")


@_probed(better="higher", bounds=(0, 1), chance=0.5, paper="Hanley & McNeil 1982", headline=True, version=2)
def auroc(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return the probe's area under the ROC curve, for more than two classes the mean of one-versus-rest."""
    return of_each(linear_probes(ev, view), lambda name, probe: auroc_of(ev, probe))


@_probed(better="higher", bounds=(0, 1), paper="Brodersen et al. 2010", version=2)
def balanced_accuracy(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return the mean over classes of the probe's recall; chance is one over the number of classes.

    The threshold between two classes is the best one on validation rows. Among more, the class wins whose
    probability has risen most above its share of the training rows: Bayes' rule for this score.
    """
    return of_each(linear_probes(ev, view), lambda name, probe: balanced_accuracy_of(ev, probe))


@_probed(better="higher", bounds=(None, 1), chance=0.0, headline=True, version=2)
def r2(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return 1 - (squared error of a ridge regression) / (that of the training mean), for each number."""
    if not any(a.is_number for a in ev.schema.attributes):
        raise NotApplicable("no attribute of the data set is a number")
    return of_each(regressions(ev, view), lambda name, found: _r2(ev, found))


def _r2(ev: Evaluation, found: Regression) -> Estimate:
    errors = [found.truth - found.predicted, found.truth - found.mean]
    both = torch.stack(errors, dim=1).square()

    def under(weights: Tensor) -> Tensor:
        squares = weights.double() @ both
        return 1 - squares[:, 0] / squares[:, 1]

    return estimate(ev, found.rows, under, found.note)


@_probed(better="higher", bounds=(-1, 1), chance=0.0, main=False, paper="Spearman 1904")
def spearman(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return the rank correlation of what a probe expects with the label, for numbers and for ordered classes."""
    ordered = [a.name for a in ev.schema.attributes if a.kind == "ordinal" and a.n_classes > 2]
    if not ordered and not any(a.is_number for a in ev.schema.attributes):
        raise NotApplicable("no attribute of the data set is ordered")
    probes = linear_probes(ev, view) if ordered else {}
    numbers = of_each(
        regressions(ev, view), lambda name, of: spearman_of(ev, of.predicted, of.truth, of.rows, of.note)
    )
    return numbers | of_each({name: probes[name] for name in ordered}, lambda name, of: _of_classes(ev, of))


def _of_classes(ev: Evaluation, probe: Probe) -> Estimate | NotApplicable:
    places = torch.arange(len(probe.prior), device=probe.prior.device, dtype=torch.float64)
    expected = probe.test_scores.exp() @ places
    return spearman_of(ev, expected, probe.test_labels, probe.rows, probe.note)


@_probed(better="higher", bounds=(0, 1), main=False, paper="Davis & Goadrich 2006")
def average_precision(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return the probe's average precision where a class is rarer than 5 % of training rows; chance is its share.

    For more than two classes the mean over those that are rare, each against the rest. Where nothing is rare,
    AUROC tells more.
    """
    return of_each(linear_probes(ev, view), lambda name, probe: _average_precision(ev, probe))


def _average_precision(ev: Evaluation, probe: Probe) -> Estimate | NotApplicable:
    share = probe.prior.exp()[1:] if len(probe.prior) == 2 else probe.prior.exp()[probe.scored]
    rare = [pair for pair, s in zip(one_versus_rest(probe), share.tolist(), strict=True) if s < RARE]
    if not rare:
        return NotApplicable(f"nothing is rare here: at least {float(share.min()):.1%} of the training rows")

    def under(weights: Tensor) -> Tensor:
        return torch.stack([area(s, positive, weights) for s, positive in rare]).nanmean(0)

    found = estimate(ev, probe.rows, under, probe.note)
    assert found.replicates is not None
    # a positive that is drawn twice agrees with itself, which lifts every replicate
    lift = found.replicates.nanmean() - found.value
    return replace(found, replicates=found.replicates - lift)


@_probed(better="higher", bounds=(0, 1), chance=0.5, main=False)
def within_gender_auroc(ev: Evaluation, *, within: str = "Male", view: str = BEST) -> Scores:
    """Return the mean of the probe's AUROC within each class of another attribute.

    The probe is learned on all rows. What z tells of an attribute only because it tells the other, say of
    baldness because it knows a man, scores 1/2 here.
    """
    attribute = next((a for a in ev.schema.attributes if a.name == within and not a.is_number), None)
    if attribute is None:
        raise NotApplicable(f"the data set has no attribute '{within}' with classes")
    sides = labels_of(ev)[within]["test"]
    return of_each(
        linear_probes(ev, view),
        lambda name, probe: (
            NotApplicable("it is what the rows are parted by")
            if name == within
            else _within(ev, probe, attribute, sides[probe.rows])
        ),
    )


def _within(ev: Evaluation, probe: Probe, attribute: Attribute, side: Tensor) -> Estimate | NotApplicable:
    cells = [(side == c, pair) for c in range(attribute.n_classes) for pair in one_versus_rest(probe)]
    sizes = [(int((on & yes).sum()), int((on & ~yes).sum())) for on, (_, yes) in cells]
    few = [(place, size) for place, size in enumerate(sizes) if min(size) < FEWEST]
    if few:
        place, (yes, no) = few[0]
        name = class_name(attribute, place // (len(cells) // attribute.n_classes))
        return NotApplicable(
            f"only {yes} positive and {no} negative test rows where {attribute.name} is {name}"
        )
    parts = torch.stack([on for on, _ in cells], dim=1)
    scores, members = zip(*(pair for _, pair in cells), strict=True)
    area, influence = rank.placements(torch.stack(scores, dim=1), torch.stack(members, dim=1), parts)
    value = area.mean()
    boot = moved(value[None], influence.mean(1, keepdim=True), weights_of(ev, probe.rows))[:, 0]
    return Estimate(float(value), replicates=boot, n=int((side >= 0).sum()), note=probe.note)
