"""How many bits it takes to send the labels to one who has z: what an attribute costs to learn, and to tell."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, metric
from lvmbench_metrics.features import Features, features
from lvmbench_metrics.linear import chosen
from lvmbench_metrics.logistic import logits, losses
from lvmbench_metrics.probing import Group, read
from lvmbench_metrics.scores import Scores

SHARES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5, 1.0)  # of the training rows
TOLERANCE = 1e-3


@metric(
    better="lower",
    unit="bits",
    needs=("codes", "labels"),
    bounds=(0, None),
    paper="Voita & Titov 2020, arXiv 2003.12298, eq. 3",
    family="probes",
    main=False,
)
def codelength(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return the online code length of the training labels given z, in bits a label.

    Labels are sent in blocks, each under a linear probe of those before (its strength chosen on validation
    rows), the first under equal chances. A probe p of n labels codes with (n p + 1) / (n + C), so that a class
    not met before has a finite length.
    """
    x = features(ev, view)
    order = ev.shared(_order)
    return read(ev, lambda group: _of_group(x, group, order))


def _order(ev: Evaluation) -> Tensor:
    return torch.randperm(len(ev.labels("train"))).to(ev.device)


def _of_group(x: Features, group: Group, order: Tensor) -> dict[str, Estimate]:
    z, labels = x.train[order], group.train[order]
    ends = sorted({max(1, round(share * len(order))) for share in SHARES})
    nats = (labels[: ends[0]] >= 0).sum(0) * math.log(group.classes)
    for start, end in pairwise(ends):
        weights, _ = chosen(z[:start], labels[:start], x.val, group.val, group.classes, TOLERANCE)
        n = (labels[:start] >= 0).sum(0)
        sent = labels[start:end]
        length = smoothed(losses(logits(z[start:end], weights), sent), n, group.classes)
        nats = nats + length.where(sent >= 0, 0).sum(0)
    known = (labels >= 0).sum(0)
    bits = nats / known / math.log(2)
    return {name: Estimate(float(bits[t]), n=int(known[t])) for t, name in enumerate(group.labels)}


def smoothed(nats: Tensor, n: Tensor, classes: int) -> Tensor:
    """Return -log of (n p + 1) / (n + C) from -log p: [N, T], [T] -> [N, T]."""
    return ((n + classes) / (n * (-nats).exp() + 1)).log()
