"""What a reader with one hidden layer finds in z, and by how much it beats a linear one.

Every attribute has a network of its own, D - 64 - C with ReLU; all are trained at once, as stacked weights, which
start from one stream of random numbers. Adam, 400 steps of 256 rows at a learning
rate that falls from 0.01 to 0; of every network the weights count that were best on validation rows, looked at
every 20 steps and before that at steps 1, 2, 4 and 8.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LinearLR

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import probes
from lvmbench_metrics.features import Features, features
from lvmbench_metrics.logistic import losses
from lvmbench_metrics.probing import Group, Probe, Probes, read
from lvmbench_metrics.scores import Scores, auroc_of, of_each

WIDTH = 64
STEPS = 400
BATCH = 256
RATE = 1e-2
LOOKS = {1, 2, 4, 8, *range(20, STEPS + 1, 20)}  # with few rows the best is soon over
CHUNK = 1024

_probed = partial(metric, better="higher", needs=("codes", "labels"), family="probes", main=False)


@_probed(bounds=(0, 1), chance=0.5, paper="Hewitt & Liang 2019, arXiv 1909.03368 (MLP-1)")
def mlp_auroc(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return the area under the ROC curve of a probe with one hidden layer, the mean of one-versus-rest."""
    return of_each(ev.shared(_probes, view=view), lambda name, probe: auroc_of(ev, probe))


@_probed(bounds=(-1, 1), chance=0.0)
def mlp_gap(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return by how much the AUROC of the probe with a hidden layer exceeds the linear one's."""
    deep, linear = (cast("Scores", ev.shared(of.compute, view=view)) for of in (mlp_auroc, probes.auroc))
    return of_each(deep, lambda name, of: _beyond(of, linear[name]))


def _beyond(a: Estimate, b: Estimate | NotApplicable) -> Estimate | NotApplicable:
    if isinstance(b, NotApplicable) or a.replicates is None or b.replicates is None:
        return b
    return Estimate(a.value - b.value, replicates=a.replicates - b.replicates, n=a.n)


def _probes(ev: Evaluation, view: str) -> Probes:
    x = features(ev, view)
    return read(ev, lambda group: _fit(x, group))


class Networks(nn.Module):
    """T networks side by side, inputs - hidden - outputs; the last input is 1."""

    def __init__(self, inputs: int, tasks: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Parameter((2 * torch.rand(inputs, tasks * WIDTH) - 1) * math.sqrt(6 / inputs))
        self.second = nn.Parameter((2 * torch.rand(tasks, WIDTH, outputs) - 1) / math.sqrt(WIDTH))
        self.offset = nn.Parameter(torch.zeros(tasks, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores of every network: [N, D + 1] -> [N, T, O]."""
        hidden = (x @ self.first).relu().view(len(x), -1, WIDTH)
        if self.second.shape[2] == 1:  # summed in place: half the time of a batch of small GEMMs
            return (hidden * self.second[:, :, 0]).sum(2, keepdim=True) + self.offset
        return (hidden.transpose(0, 1) @ self.second).transpose(0, 1) + self.offset

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """Return the scores of many rows, some at a time: [N, D + 1] -> [N, T, O]."""
        return torch.cat([self(part) for part in x.split(CHUNK)])

    @torch.no_grad()
    def take(self, other: Networks, which: Tensor) -> None:
        """Take the weights of some of another's networks: bool [T]."""
        for own, new in zip(self.parameters(), other.parameters(), strict=True):
            tasks = (
                which.repeat_interleave(WIDTH)
                if own is self.first
                else which.view(-1, *[1] * (own.dim() - 1))
            )
            own.copy_(torch.where(tasks, new, own))


def _fit(x: Features, group: Group) -> dict[str, Probe]:
    train, val = group.train, group.val
    nets = Networks(x.train.shape[1], train.shape[1], 1 if group.classes == 2 else group.classes).to(x.train)
    best, least = copy.deepcopy(nets), torch.full((train.shape[1],), torch.inf, device=x.train.device)
    optimiser = Adam(nets.parameters(), lr=RATE)
    falling = LinearLR(optimiser, 1.0, 0.0, STEPS)
    for step, rows in enumerate(_batches(len(train)), start=1):
        rows = rows.to(train.device)
        optimiser.zero_grad()
        _mean(losses(nets(x.train[rows]), train[rows]), train[rows]).sum().backward()
        optimiser.step()
        falling.step()
        if step in LOOKS:
            loss = _mean(losses(nets.scores(x.val), val), val)
            best.take(nets, loss < least)
            least = torch.minimum(loss, least)
    return group.probes(best.scores(x.val), best.scores(x.test), least)


def _batches(n: int) -> Iterator[Tensor]:
    """Yield the rows of every step, all rows once before any twice."""
    size = min(BATCH, n)
    order = torch.cat([torch.randperm(n) for _ in range(STEPS * size // n + 1)])
    yield from order.split(size)[:STEPS]


def _mean(loss: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of labelled rows: [N, T] twice -> [T]."""
    return loss.sum(0) / (labels >= 0).sum(0).clamp(min=1)
