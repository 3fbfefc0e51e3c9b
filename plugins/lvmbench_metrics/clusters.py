"""What clusters of z stand for: k-means on training codes, read on test rows against every attribute.

Distances are Euclidean in z as it is, not standardised: a dimension that the model left unused has a
posterior mean that hardly moves, and must not be blown up to count as much as one that carries the picture.
Every score is the mean over 10 seeds of k-means.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.agreement import Contributions
from lvmbench_metrics.codes import class_labels, finite_codes, weights_of, with_classes
from lvmbench_metrics.kmeans import assign, kmeans

SEEDS = 10

K = int | Literal["classes"]
Scores = dict[str, Estimate | NotApplicable]


@metric(better="higher", needs=("codes", "labels"), bounds=(0, 1), paper="Manning et al. 2008, section 16.3")
def purity(ev: Evaluation, *, k: K = 16, view: str = "mean") -> Scores:
    """Return the share of test rows that belong to the majority class of their cluster, for each attribute.

    It rises with k on noise and starts at the majority share: read it beside ``adjusted-purity``.
    """
    return _scores(ev, "purity", k, view)


@metric(better="neither", needs=("codes", "labels"), bounds=(0, 1))
def majority_share(ev: Evaluation, *, k: K = 16, view: str = "mean") -> Scores:
    """Return the share of the commonest class among test rows, the purity of a single cluster."""
    return _scores(ev, "majority_share", k, view)


@metric(better="higher", needs=("codes", "labels"), bounds=(None, 1), chance=0.0)
def adjusted_purity(ev: Evaluation, *, k: K = 16, view: str = "mean") -> Scores:
    """Return (P - E P) / (1 - E P), where E P is the mean purity of 100 permutations of the labels."""
    return _scores(ev, "adjusted_purity", k, view)


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(None, 1),
    chance=0.0,
    paper="Vinh et al. 2010, JMLR 11",
)
def ami(ev: Evaluation, *, k: K = 16, view: str = "mean") -> Scores:
    """Return (I - E I) / (mean of entropies - E I) of clusters and classes."""
    return _scores(ev, "ami", k, view)


@metric(
    better="higher", needs=("codes", "labels"), bounds=(-0.5, 1), chance=0.0, paper="Hubert & Arabie 1985"
)
def ari(ev: Evaluation, *, k: K = 16, view: str = "mean") -> Scores:
    """Return the Rand index of clusters and classes beyond chance."""
    return _scores(ev, "ari", k, view)


def _scores(ev: Evaluation, name: str, k: K, view: str) -> Scores:
    return {attribute: scores[name] for attribute, scores in ev.shared(_agreement, k=k, view=view).items()}


def _agreement(ev: Evaluation, k: K, view: str) -> dict[str, Scores]:
    labels = class_labels(ev, "test")
    found: dict[str, Scores] = {}
    for attribute in with_classes(ev):
        clusters = attribute.n_classes if k == "classes" else k
        assigned = ev.shared(_clusters, k=clusters, view=view)
        found[attribute.name] = _against(
            ev, attribute, assigned, labels[:, ev.schema.index(attribute.name)], clusters
        )
    return found


def _clusters(ev: Evaluation, k: int, view: str) -> Tensor:
    """Return the clusters of the test rows, from centres learned on training rows: [S, N]."""
    train = finite_codes(ev, "train", view).float()
    if k > len(train):
        raise NotApplicable(f"{k} clusters of {len(train)} training rows")
    centre = train.mean(0)
    found = kmeans(train - centre, k, SEEDS, ev.generator(f"k-means/{k}/{view}"))
    return assign(finite_codes(ev, "test", view).float() - centre, found.centres)


def _against(ev: Evaluation, attribute: Attribute, clusters: Tensor, labels: Tensor, k: int) -> Scores:
    present = (labels >= 0).nonzero().flatten()
    labels = labels[present]
    names = ("purity", "majority_share", "adjusted_purity", "ami", "ari")
    if (torch.bincount(labels, minlength=1) > 0).sum() < 2:
        nothing = NotApplicable(f"fewer than two classes among {len(labels)} labelled test rows")
        return dict.fromkeys(names, nothing)
    contributions = Contributions(clusters[:, present], labels, k, attribute.n_classes)
    one = contributions.scores(torch.ones(1, len(labels), dtype=torch.float64, device=labels.device))
    many = contributions.scores(weights_of(ev, present))
    return {
        name: Estimate(
            float(getattr(one, name).mean()), replicates=getattr(many, name).mean(1), n=len(labels)
        )
        for name in names
    }
