"""What a linear reader finds with few labels: how early an attribute can be read from z."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.auroc import placements
from lvmbench_metrics.features import Features, features
from lvmbench_metrics.influence import moved
from lvmbench_metrics.logistic import fit, logits
from lvmbench_metrics.probing import Group, Labels, read, shared_classes
from lvmbench_metrics.scores import Scores

STRENGTH = 0.1  # C of scikit-learn, fixed: to choose it takes labels that are not there
TOLERANCE = 1e-3
CHUNK = 256  # fits at once

Count = Annotated[int, Ge(1)]


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    chance=0.5,
    paper="Locatello et al. 2019, arXiv 1811.12359 (sample efficiency)",
    family="probes",
    main=False,
)
def auroc_100(ev: Evaluation, *, labels: Count = 100, draws: Count = 20, view: str = "z") -> Scores:
    """Return the AUROC of a linear probe that saw 100 labels, the mean over 20 draws of training rows.

    A draw that holds one class only knows nothing and scores 1/2.
    """
    x = features(ev, view)
    return read(ev, lambda group: _of_group(ev, x, group, labels, draws))


def _of_group(ev: Evaluation, x: Features, group: Group, labels: int, draws: int) -> Scores:
    known = dict(zip(group.labels, group.counts.sum(1).tolist(), strict=True))
    few = {
        name: NotApplicable(f"{n} labelled training rows, fewer than {labels}")
        for name, n in known.items()
        if n < labels
    }
    enough = Group({name: of for name, of in group.labels.items() if name not in few}, group.classes)
    if not enough.labels:
        return {**few}
    rows = drawn(enough.train >= 0, labels, draws)  # [T, S, n]
    weights = _weights(x.train, enough.train, rows, group.classes)
    return few | {
        name: _score(ev, logits(x.test, own), of, group.classes)
        for (name, of), own in zip(enough.labels.items(), weights, strict=True)
    }


def drawn(present: Tensor, n: int, draws: int) -> Tensor:
    """Return the first n labelled rows of each task in each of some orders of the rows: [N, T] -> [T, S, n]."""
    orders = torch.stack([torch.randperm(len(present)) for _ in range(draws)]).to(present.device)
    found = []
    for order in orders:
        labelled = present[order].T  # [T, N]
        first = labelled & (labelled.cumsum(1) <= n)
        found.append(order[first.nonzero()[:, 1]].view(-1, n))
    return torch.stack(found, dim=1)


def _weights(x: Tensor, labels: Tensor, rows: Tensor, classes: int) -> Tensor:
    """Return the weights of all fits: [N, D + 1], [N, T], [T, S, n] -> [T, S, D + 1, O]."""
    tasks = torch.arange(labels.shape[1], device=x.device)[:, None, None]
    y = labels[rows, tasks].flatten(0, 1)  # [T × S, n]
    parts = zip(rows.flatten(0, 1).split(CHUNK), y.split(CHUNK), strict=True)
    weights = torch.cat([fit(x[r], of.T, classes, (STRENGTH,), TOLERANCE)[0] for r, of in parts])
    knows = (y != y[:, :1]).any(1)
    found: Tensor = (weights * knows[:, None, None]).unflatten(0, rows.shape[:2])
    return found


def _score(ev: Evaluation, scores: Tensor, labels: Labels, classes: int) -> Estimate:
    """Return the mean over draws, and over classes, of one-versus-rest: [N, S, O]."""
    y = labels["test"]
    if classes == 2:
        counted, scores = [1], scores.flatten(1)
    else:
        counted = shared_classes(labels, classes, "test").nonzero().flatten().tolist()
        scores = scores.log_softmax(2)[:, :, counted].flatten(1)
    positive = (y[:, None] == torch.tensor(counted, device=y.device)).repeat(
        1, scores.shape[1] // len(counted)
    )
    area, influence = placements(scores, positive, (y >= 0)[:, None].expand_as(positive))
    value = area.mean()
    boot = moved(value[None], influence.mean(1, keepdim=True), ev.weights())[:, 0]
    return Estimate(float(value), replicates=boot, n=int((y >= 0).sum()))
