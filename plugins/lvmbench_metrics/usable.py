"""Usable information: by how much a probe of z shortens what is left to say of an attribute.

The reference is the best guess without z, the shares of the classes in training, held to the same test rows. So
both pay for what they learned wrongly, whether z is continuous or a code of many symbols, of which plug-in
estimates of information make far too much.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, metric
from lvmbench_metrics.linear import linear_probes
from lvmbench_metrics.logistic import losses
from lvmbench_metrics.probing import Probe
from lvmbench_metrics.scores import Scores, estimate, of_each
from lvmbench_metrics.views import BEST

_held_out = partial(
    metric,
    better="higher",
    needs=("codes", "labels"),
    chance=0.0,
    paper="Xu et al. 2020, arXiv 2002.10689, definition 2",
    family="probes",
)


@_held_out(bounds=(None, 1))
def usable_information(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return 1 - (cross-entropy of a linear probe) / (that of the training shares), on test rows."""
    return of_each(
        linear_probes(ev, view), lambda name, probe: _score(ev, probe, lambda m: m[:, 0] / m[:, 1])
    )


@_held_out(unit="bits", main=False)
def usable_bits(ev: Evaluation, *, view: str = BEST) -> Scores:
    """Return by how many bits a row a linear probe beats the training shares of the classes, on test rows."""
    return of_each(
        linear_probes(ev, view), lambda name, probe: _score(ev, probe, lambda m: m[:, 0] / math.log(2))
    )


def _score(ev: Evaluation, probe: Probe, of: Callable[[Tensor], Tensor]) -> Estimate:
    """Return a score of two means over rows, what z saves and what it could save: [R, 2] nats -> [R]."""
    learned = probe.prior[probe.test_labels].isfinite()  # training tells nothing of other classes
    labels = probe.test_labels[learned]
    without = -probe.prior.to(probe.test_scores)[labels]
    saved = without - losses(probe.test_scores[learned][:, None], labels[:, None])[:, 0]
    rows = torch.stack([saved, without], dim=1).double()

    def under(weights: Tensor) -> Tensor:
        return of(weights.double() @ rows / weights.sum(1, keepdim=True).double())

    return estimate(ev, probe.rows[learned], under, probe.note)
