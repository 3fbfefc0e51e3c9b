"""Whether each attribute has a dimension of its own, by the mutual information of binned dimensions and labels.

A code is cut into 20 bins that were laid out on training rows: of equally many rows (``quantile20``) or of equal
width (``width20``, as most published figures have it, which one outlier destroys). Labels that are numbers are
cut into 10 bins of equally many training rows. All else is of the test rows alone. A dimension that
never changes falls into one bin, and tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.codes import alive, class_labels, finite_codes, single_codes
from lvmbench_metrics.influence import moved
from lvmbench_metrics.information import Information, best_two, digitise, quantile_edges, width_edges

BINS = 20
DIMS = 32  # sorted at one time
NUMBER_BINS = 10

Scores = dict[str, Estimate | NotApplicable]
Score = Callable[[Tensor, Tensor], Tensor]

_card = partial(
    metric, better="higher", needs=("codes", "labels"), bounds=(0, 1), family="disentanglement", main=False
)


@_card(chance=0.0, paper="Chen et al. 2018, arXiv 1802.04942, eq. 6")
def mig_quantile20(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return how far the most informative dimension is ahead of the next, as a share of H(a), for each attribute.

    A code that holds an attribute in two dimensions, or turned between them, scores 0 however well it holds it.
    """
    return _by_attribute(ev, mutual_information_gap, "quantile", view)


@_card(chance=0.0, paper="Chen et al. 2018, arXiv 1802.04942, eq. 6")
def mig_width20(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return the mutual information gap of each attribute with bins of equal width."""
    return _by_attribute(ev, mutual_information_gap, "width", view)


@_card(paper="Li et al. 2020, arXiv 2002.10549")
def mig_sup_quantile20(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return how far the attribute that a dimension tells most of is ahead of the next, as shares of their H.

    The mean is over all dimensions, of which those without information score 0.
    """
    return _of_all(ev, mig_sup, view)


@_card(paper="Ridgeway & Mozer 2018, arXiv 1802.05312")
def modularity_quantile20(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return 1 - (squared information on all attributes but the best) / (the best's, A - 1 times), over dimensions.

    Only ratios matter, so that noise does not score 0: 0.2 where attributes are alike, and up to 1 the more they
    differ in their number of classes, by which estimates of no information differ. A dimension that never
    changes scores 0.
    """
    return _of_all(ev, lambda mutual, entropy: modularity(mutual), view)


@_card(paper="Sepliarskaia et al. 2019, arXiv 1910.05587")
def dcimig_quantile20(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return the largest lead that a dimension gives each attribute over the others, as a share of all entropy."""
    return _of_all(ev, dcimig, view)


def mutual_information_gap(mutual: Tensor, entropy: Tensor) -> Tensor:
    """Return (I of the best dimension - I of the second) / H of each attribute: [D, A], [A] -> [A]."""
    best, second = best_two(mutual)
    return (best - second) / entropy


def mig_sup(mutual: Tensor, entropy: Tensor) -> Tensor:
    """Return the mean over dimensions of their lead in I / H: [D, A], [A] -> []."""
    best, second = best_two((mutual / entropy).T)
    return (best - second).mean()


def modularity(mutual: Tensor) -> Tensor:
    """Return the mean over dimensions of 1 - sum_{a != best} I² / (I_best² (A - 1)): [D, A] -> []."""
    squares = mutual.square()
    best = squares.amax(1)
    told = best > 0
    rest = (squares.sum(1) - best) / (torch.where(told, best, 1) * (mutual.shape[1] - 1))
    return torch.where(told, 1 - rest, 0).mean()


def dcimig(mutual: Tensor, entropy: Tensor) -> Tensor:
    """Return sum_a max_d (lead of dimension d, if a is its best) / sum_a H(a): [D, A], [A] -> []."""
    best, second = best_two(mutual.T)
    lead = torch.where(mutual >= best[:, None], (best - second)[:, None], 0)
    return lead.amax(0).sum() / entropy.sum()


def _by_attribute(ev: Evaluation, score: Score, edges: str, view: str) -> Scores:
    table = ev.shared(_informed, edges=edges, view=view)
    found: Scores = dict(table.absent)
    value, influence = _with_influence(table.information, score)
    boot = moved(value, influence, ev.weights())
    for i, name in enumerate(table.names):
        n = int((table.information.labels[:, i] >= 0).sum())
        found[name] = Estimate(float(value[i]), replicates=boot[:, i], n=n)
    return {a.name: found[a.name] for a in ev.schema.attributes}


def _of_all(ev: Evaluation, score: Score, view: str) -> Estimate:
    table = ev.shared(_informed, edges="quantile", view=view)
    if len(table.names) < 2:
        raise NotApplicable("fewer than two attributes to tell apart")
    value, influence = _with_influence(table.information, score)
    boot = moved(value[None], influence.sum(1, keepdim=True), ev.weights())[:, 0]
    missing = f" of {len(ev.schema.attributes)}" if table.absent else ""
    note = f"{len(table.names)}{missing} attributes"
    return Estimate(float(value), replicates=boot, n=len(influence), note=note)


def _with_influence(told: Information, score: Score) -> tuple[Tensor, Tensor]:
    """Return a score, and each row's influence on it through each attribute: [A] or [], [N, A]."""
    with torch.enable_grad():
        mutual, entropy = (t.detach().requires_grad_() for t in (told.mutual, told.entropy))
        value = score(mutual, entropy)
        slopes = torch.autograd.grad(
            value.sum(), (mutual, entropy), allow_unused=True, materialize_grads=True
        )
    return value.detach(), told.influence(*slopes)


@dataclass(frozen=True)
class Informed:
    """The information of a code on the attributes ``names``, and why others have none."""

    names: tuple[str, ...]
    information: Information
    absent: dict[str, NotApplicable]


def _informed(ev: Evaluation, edges: str, view: str) -> Informed:
    columns, absent = {}, {}
    for a in ev.schema.attributes:
        labels = _classes(ev, a)
        if len(labels[labels >= 0].unique()) < 2:
            absent[a.name] = NotApplicable("fewer than two classes or values among the labelled test rows")
        else:
            columns[a.name] = labels
    if not columns:
        raise NotApplicable("no attribute has two classes or values among its labelled test rows")
    labels = torch.stack(list(columns.values()), dim=1)
    told = Information(_binned(ev, edges, view), labels, BINS, int(labels.max()) + 1)
    return Informed(tuple(columns), told, absent)


def _binned(ev: Evaluation, edges: str, view: str) -> Tensor:
    """Return the bins of the test codes, by edges laid out on the training codes: [N, D]."""
    train, test = single_codes(ev, "train", view), finite_codes(ev, "test", view)
    lay = quantile_edges if edges == "quantile" else width_edges
    laid = torch.cat([lay(part.double(), BINS) for part in train.split(DIMS, dim=1)])
    return torch.where(alive(train), digitise(test, laid), 0)


def _classes(ev: Evaluation, attribute: Attribute) -> Tensor:
    """Return the class or bin of every test row's label, -1 where missing: [N]."""
    column = ev.schema.index(attribute.name)
    if not attribute.is_number:
        return class_labels(ev, "test")[:, column]
    train, test = ev.labels("train")[:, column, None], ev.labels("test")[:, column, None]
    known = train[~train.isnan()][:, None]
    if not len(known):
        return torch.full_like(test[:, 0], -1).long()
    return torch.where(test.isnan(), -1, digitise(test, quantile_edges(known, NUMBER_BINS)))[:, 0]
