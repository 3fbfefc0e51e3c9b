"""Clusters of z by name: the value of an attribute that a cluster's faces bear far more often than others do.

Names are chosen on training rows and stand only where test rows confirm them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, holm, metric
from lvmbench_metrics.clusters import assigned
from lvmbench_metrics.codes import (
    SplitName,
    class_labels,
    finite_codes,
    single_codes,
    value_name,
    with_classes,
)
from lvmbench_metrics.enrichment import Enrichment, enrichment, first_of_each
from lvmbench_metrics.kmeans import kmeans
from lvmbench_metrics.mixtures import Mixtures, Space, fit, start

LEVEL = 0.05
LEAST_ODDS = 2.0  # an odds ratio under this is no name, however sure
LEAST_SHARE = 0.5  # nor is what most of a cluster's faces do not bear
COMPONENTS = (1, 2, 4, 8, 16, 32)
ROWS = 5_000  # training rows that a mixture is fitted to

K = int | Literal["likelihood"]


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    chance=0.0,
    paper="Fisher 1935; Holm 1979",
    family="clusters",
    main=False,
)
def named_clusters(ev: Evaluation, *, k: K = 16, view: str = "z") -> Estimate:
    """Return the share of test rows in clusters whose name holds.

    A cluster's name is the value of an attribute that correlates most with being in it on training rows, of those
    that half of its rows bear, with an odds ratio of at least 2 and p < .05 after Holm's correction over all clusters
    and values. It holds if the same is true of test rows, corrected over all that were found. Where identities are
    known, one row of each counts. The clusters are those of k-means, the share a mean over its starts, or for
    ``k="likelihood"`` the components of a Gaussian mixture. The bootstrap holds names fixed.
    """
    found = ev.shared(namings, k=k, view=view)
    named = [torch.tensor([bool(names) for names in one.names], device=ev.device) for one in found]
    rows = torch.stack([own[one.clusters].double() for own, one in zip(named, found, strict=True)])
    of, names = (sum(map(count, found)) / len(found) for count in (_named, _different))
    note = f"{of:.3g} of {len(named[0])} clusters, {names:.3g} different names"
    return replace(Estimate.of_rows(rows.mean(0)), note=note)


@metric(better="neither", unit="clusters", needs=("codes",), family="clusters", main=False)
def gmm_clusters(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return how many components of a Gaussian mixture explain validation codes best, of 1, 2, 4, ... 32.

    Covariances are diagonal along the principal axes of all codes.
    """
    found = ev.shared(mixture, view=view)
    return Estimate(float(found[1].means.shape[1]), n=len(ev.codes("val", view)))


@dataclass(frozen=True)
class Name:
    """A value that a cluster is enriched in, as test rows tell it; ``p`` is corrected."""

    attribute: Attribute
    value: int
    odds: float
    low: float
    high: float
    p: float
    share: float
    base: float

    @property
    def label(self) -> str:
        """Return how people would call it."""
        return value_name(self.attribute, self.value)


@dataclass(frozen=True)
class Naming:
    """The clusters of the test rows [N], and of each its names, the best first: none where its best does not hold."""

    clusters: Tensor
    names: tuple[tuple[Name, ...], ...]


Pair = tuple[int, int]  # cluster, column of values


@dataclass(frozen=True)
class Borne:
    """Which rows of a split bear each value, and which are counted: bool [N, C] each."""

    bears: Tensor
    counted: Tensor


def _named(of: Naming) -> int:
    return sum(bool(names) for names in of.names)


def _different(of: Naming) -> int:
    return len({names[0].label for names in of.names if names})


def namings(ev: Evaluation, k: K, view: str) -> tuple[Naming, ...]:
    """Name the clusters of z, those of each start of k-means."""
    values = [(a, c) for a in with_classes(ev) for c in range(a.n_classes)]
    borne = [_borne(ev, split, values) for split in ("train", "test")]
    starts = zip(*(_clusters(ev, split, k, view) for split in ("train", "test")), strict=True)
    number = ev.shared(mixture, view=view)[1].means.shape[1] if isinstance(k, str) else k
    return tuple(_naming(values, borne, clusters, number) for clusters in starts)


def _borne(ev: Evaluation, split: SplitName, values: list[tuple[Attribute, int]]) -> Borne:
    labels = class_labels(ev, split)[:, [ev.schema.index(a.name) for a, _ in values]]
    wanted, groups = torch.tensor([c for _, c in values], device=labels.device), ev.groups(split)
    known = labels >= 0
    return Borne(labels == wanted, known if groups is None else first_of_each(groups, known))


def _naming(
    values: list[tuple[Attribute, int]], borne: list[Borne], rows: tuple[Tensor, Tensor], clusters: int
) -> Naming:
    """Name the clusters of training and test rows: [N] each."""
    learned, told = (
        enrichment(own, of.bears, of.counted, clusters) for own, of in zip(rows, borne, strict=True)
    )
    found = _holding(learned, [(i, j) for i in range(clusters) for j in range(len(values))])
    held = _holding(told, list(found))
    names = []
    for i in range(clusters):
        ranked = sorted((pair for pair in found if pair[0] == i), key=lambda pair: -float(learned.phi[pair]))
        holds = bool(ranked) and ranked[0] in held
        names.append(
            tuple(_name(told, values, pair, held[pair]) for pair in ranked if pair in held) if holds else ()
        )
    return Naming(rows[1], tuple(names))


def _clusters(ev: Evaluation, split: SplitName, k: K, view: str) -> Tensor:
    """Return the clusters of the rows of a split, of one start or several: [S, N]."""
    if not isinstance(k, str):
        return assigned(ev, split, k, view)
    space, found = ev.shared(mixture, view=view)
    chunks = single_codes(ev, split, view).split(4096)
    return torch.cat([found.joint(space.into(z)[None])[0].argmax(1) for z in chunks])[None]


def mixture(ev: Evaluation, view: str) -> tuple[Space, Mixtures]:
    """Return the Gaussian mixture of training codes whose number of components explains validation codes best."""
    every = single_codes(ev, "train", view)
    # at random, for a file may be sorted by class
    some = torch.randperm(len(every), generator=ev.generator(f"mixture/rows/{view}"))[:ROWS]
    train = every[some.to(every.device)].double()
    space = Space.of(train)
    u, val = space.into(train), space.into(finite_codes(ev, "val", view))
    everyone = u.new_ones(1, len(u))
    tried = []
    for k in COMPONENTS:
        if k > len(u) or not u.shape[1]:
            break
        centres = kmeans(u.float(), k, 1, ev.generator(f"mixture/{k}/{view}"), iterations=10).centres
        tried.append(fit(u[None], everyone, start(centres.double())))
    if not tried:
        raise NotApplicable("the codes of all training rows are the same")
    return space, max(tried, key=lambda m: float(m.joint(val[None]).logsumexp(2).mean()))


def _holding(of: Enrichment, pairs: list[Pair]) -> dict[Pair, float]:
    """Return the pairs that stand against chance and are no small matter, with their corrected p."""
    p = of.p.tolist()
    corrected = holm([p[i][j] for i, j in pairs])
    large = ((of.odds >= LEAST_ODDS) & (of.share >= LEAST_SHARE)).tolist()
    return {(i, j): q for (i, j), q in zip(pairs, corrected, strict=True) if q < LEVEL and large[i][j]}


def _name(of: Enrichment, values: list[tuple[Attribute, int]], pair: Pair, p: float) -> Name:
    odds, low, high, share, base = (float(t[pair]) for t in (of.odds, of.low, of.high, of.share, of.base))
    attribute, value = values[pair[1]]
    return Name(attribute, value, odds, low, high, p, share, base)
