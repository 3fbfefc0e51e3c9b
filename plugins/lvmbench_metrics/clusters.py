"""What clusters of z stand for: k-means on training codes, read on test rows against every attribute.

Distances are Euclidean in z as it is, not standardised: a dimension that the model left unused has a
posterior mean that hardly moves, and must not be blown up to count as much as one that carries the picture.
Every score is the mean over 10 seeds of k-means, of more than 32 clusters over fewer seeds: the work is then the
same, and the scores of many clusters vary less from seed to seed.

``k`` is a number of clusters, ``classes`` for as many as an attribute has classes, or ``codebook`` for as many as a
model with a codebook uses entries: what its codes are, and clusters of its neighbours' z, are then compared alike.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.agreement import Agreement, Contributions
from lvmbench_metrics.codes import SplitName, class_labels, single_codes, weights_of, with_classes
from lvmbench_metrics.kmeans import assign, kmeans

SEEDS = 10
CENTRES = 320  # of all seeds together, where there are at least two

K = int | Literal["classes", "codebook"]
Scores = dict[str, Estimate | NotApplicable]

_card = partial(metric, needs=("codes", "labels"), family="clusters")


@_card(better="higher", bounds=(0, 1), paper="Manning et al. 2008, section 16.3")
def purity(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return the share of test rows that belong to the majority class of their cluster, for each attribute.

    It rises with k on noise and starts at the majority share: read it beside ``adjusted-purity``.
    """
    return _scores(ev, "purity", k, view)


@_card(better="neither", bounds=(0, 1))
def majority_share(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return the share of the commonest class among test rows, the purity of a single cluster."""
    return _scores(ev, "majority_share", k, view)


@_card(better="higher", bounds=(None, 1), chance=0.0)
def adjusted_purity(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return (P - E P) / (1 - E P), where E P is the mean purity of 100 permutations of the labels."""
    return _scores(ev, "adjusted_purity", k, view)


@_card(
    better="higher",
    bounds=(0, 1),
    main=False,
    paper="Strehl & Ghosh 2002, JMLR 3; Rosenberg & Hirschberg 2007",
)
def nmi(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return 2 I / (sum of entropies) of clusters and classes, which is also their V-measure.

    It is biased upwards, the more the more clusters: on noise it rises with k. Read ``ami`` instead.
    """
    return _scores(ev, "nmi", k, view)


@_card(better="higher", bounds=(None, 1), chance=0.0, paper="Vinh et al. 2010, JMLR 11")
def ami(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return (I - E I) / (mean of entropies - E I) of clusters and classes."""
    return _scores(ev, "ami", k, view)


@_card(better="higher", bounds=(0, 1), main=False, paper="Rand 1971")
def rand_index(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return the share of pairs of rows that clusters and classes both join, or both part.

    Clusters that know nothing score the more the more there are of them. Read ``ari`` instead.
    """
    return _scores(ev, "rand_index", k, view)


@_card(better="higher", bounds=(-0.5, 1), chance=0.0, main=False, paper="Hubert & Arabie 1985")
def ari(ev: Evaluation, *, k: K = 16, view: str = "z") -> Scores:
    """Return the Rand index of clusters and classes beyond chance."""
    return _scores(ev, "ari", k, view)


def _scores(ev: Evaluation, name: str, k: K, view: str) -> Scores:
    return {attribute: scores[name] for attribute, scores in ev.shared(_agreement, k=k, view=view).items()}


def _agreement(ev: Evaluation, k: K, view: str) -> dict[str, Scores]:
    labels = class_labels(ev, "test")
    found: dict[str, Scores] = {}
    for attribute in with_classes(ev):
        clusters = _number(ev, attribute, k)
        assigned = ev.shared(_clusters, k=clusters, view=view)
        column = labels[:, ev.schema.index(attribute.name)]
        note = f"{clusters} clusters" if isinstance(k, str) else ""
        found[attribute.name] = _against(ev, attribute, assigned, column, clusters, note)
    return found


def _number(ev: Evaluation, attribute: Attribute, k: K) -> int:
    if k == "classes":
        return attribute.n_classes
    return ev.shared(_used_codes) if k == "codebook" else k


def _used_codes(ev: Evaluation) -> int:
    """Return how many entries of its codebook a model uses over all test rows.

    Raises:
        NotApplicable: if it has no codebook.
    """
    view = next((view for view in ("bag", "one-hot") if view in ev.views), None)
    if view is None:
        raise NotApplicable("the model has no codebook")
    shares = ev.codes("test", view)
    if not torch.allclose(shares.sum(1), shares.new_ones(())):
        raise NotApplicable("the code is several variables, each with classes of its own: no codebook")
    return int((shares > 0).any(0).sum())


def _clusters(ev: Evaluation, k: int, view: str) -> Tensor:
    return assigned(ev, "test", k, view)


def assigned(ev: Evaluation, split: SplitName, k: int, view: str) -> Tensor:
    """Return the clusters of the rows of a split, from centres learned on training rows: [S, N]."""
    centre, centres = ev.shared(learned, k=k, view=view)
    return assign(single_codes(ev, split, view) - centre, centres)


def learned(ev: Evaluation, k: int, view: str) -> tuple[Tensor, Tensor]:
    """Return the mean of the training codes, and the centres of their clusters about it: [D], [S, K, D]."""
    train = single_codes(ev, "train", view)
    if k > len(train):
        raise NotApplicable(f"{k} clusters of {len(train)} training rows")
    centre = train.mean(0)
    seeds = min(SEEDS, max(2, CENTRES // k))
    return centre, kmeans(train - centre, k, seeds, ev.generator(f"k-means/{k}/{view}")).centres


def _against(
    ev: Evaluation, attribute: Attribute, clusters: Tensor, labels: Tensor, k: int, note: str
) -> Scores:
    present = (labels >= 0).nonzero().flatten()
    labels = labels[present]
    names = [field.name for field in fields(Agreement)]
    if (torch.bincount(labels, minlength=1) > 0).sum() < 2:
        nothing = NotApplicable(f"fewer than two classes among {len(labels)} labelled test rows")
        return dict.fromkeys(names, nothing)
    contributions = Contributions(clusters[:, present], labels, k, attribute.n_classes)
    one = contributions.scores(torch.ones(1, len(labels), dtype=torch.float64, device=labels.device))
    many = contributions.scores(weights_of(ev, present))

    def estimate(name: str) -> Estimate:
        value, boot = getattr(one, name).mean(), getattr(many, name).mean(1)
        return Estimate(float(value), replicates=boot, n=len(labels), note=note)

    return {name: estimate(name) for name in names}
