"""What the nearest training codes say of an attribute: structure of z that need not be linear."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from lvmbench import Evaluation, NotApplicable, metric
from lvmbench_metrics.features import features
from lvmbench_metrics.probing import Group, Probe, Probes, read
from lvmbench_metrics.scores import Scores, balanced_accuracy_of, of_each

ROWS = 20_000  # training rows among which neighbours are looked for
CHUNK = 512


@metric(
    better="higher",
    needs=("codes", "labels"),
    bounds=(0, 1),
    paper="Cover & Hart 1967",
    family="probes",
    main=False,
)
def knn_balanced_accuracy(ev: Evaluation, *, k: Annotated[int, Ge(1)] = 20, view: str = "z") -> Scores:
    """Return the mean over classes of the recall of k nearest neighbours in standardised codes.

    The score of a class is its share among the labelled neighbours, judged as the linear probe's probability
    is: by the best threshold of validation rows, or by how far it rises above its share of the training rows.
    """
    probes = ev.shared(_probes, k=k, view=view)
    return of_each(probes, lambda name, probe: balanced_accuracy_of(ev, probe))


def _probes(ev: Evaluation, k: int, view: str) -> Probes:
    x = features(ev, view)
    train = x.train[:ROWS]
    if k > len(train):
        raise NotApplicable(f"{k} neighbours among {len(train)} training rows")
    val, test = (nearest(z, train, k) for z in (x.val, x.test))
    return read(ev, lambda group: _said(val, test, group))


def nearest(z: Tensor, train: Tensor, k: int) -> Tensor:
    """Return the places of the k training rows nearest to each row: [n, D], [N, D] -> [n, k]."""
    half = train.square().sum(1) / 2
    return torch.cat([(part @ train.T - half).topk(k, dim=1).indices for part in z.split(CHUNK)])


def _said(val: Tensor, test: Tensor, group: Group) -> dict[str, Probe]:
    prior = group.counts / group.counts.sum(1, keepdim=True)
    scores = [_shares(near, group.train[:ROWS], prior) for near in (val, test)]
    if group.classes == 2:
        val_scores, test_scores = (share[:, :, 1:] for share in scores)
    else:
        val_scores, test_scores = (share.log() for share in scores)
    return group.probes(val_scores, test_scores, torch.zeros(len(group.labels)))


def _shares(near: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
    """Return the share of each class among labelled neighbours, without any its prior: [n, k], [N, T] -> [n, T, C]."""
    around = labels[near]  # [n, k, T]
    counts = torch.stack([(around == c).sum(1) for c in range(prior.shape[1])], dim=2).double()
    labelled = counts.sum(2, keepdim=True)
    return torch.where(labelled > 0, counts / labelled.clamp(min=1), prior.double())
