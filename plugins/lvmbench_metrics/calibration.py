"""Whether the probability that a probe gives an attribute, p(a|z), is the share of rows that have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from lvmbench import Estimate, Evaluation, metric
from lvmbench_metrics.linear import linear_probes
from lvmbench_metrics.logistic import fit, losses
from lvmbench_metrics.probing import Probe
from lvmbench_metrics.scores import Scores, estimate, of_each
from lvmbench_metrics.views import BEST

WEAK = 1e3  # strength of the data against the penalty: two parameters need none
SHARPNESS = tuple(10 ** (k / 40) for k in range(-40, 41))  # inverse temperatures from 0.1 to 10

Bins = Annotated[int, Ge(1)]


@metric(
    better="lower",
    needs=("codes", "labels"),
    bounds=(0, 1),
    paper="Guo et al. 2017, arXiv 1706.04599, eq. 3",
    family="probes",
    main=False,
)
def ece(ev: Evaluation, *, bins: Bins = 15, view: str = BEST) -> Scores:
    """Return the mean distance of predicted from observed shares, over bins of equally many test rows.

    What is predicted is the second of two classes, for several whether the likeliest is right; probabilities
    are calibrated on validation rows, by Platt's sigmoid and by one temperature. A bin's share is never exact, so
    that a calibrated probe does not score 0 but about the error of a share: compare at equal rows and bins.
    """
    return of_each(linear_probes(ev, view), lambda name, probe: _ece(ev, probe, bins))


@dataclass(frozen=True)
class Reliability:
    """A reliability curve: mean prediction, observed share, and number of rows of each bin that has any, [K] each."""

    predicted: Tensor
    observed: Tensor
    counts: Tensor

    @property
    def error(self) -> float:
        """The mean distance of predicted from observed shares over rows (Naeini et al. 2015)."""
        return float(((self.predicted - self.observed).abs() * self.counts).sum() / self.counts.sum())


def reliability(predicted: Tensor, observed: Tensor, bins: int = 15) -> Reliability:
    """Return the curve of probabilities [n] against what happened, bool [n]."""
    member = torch.nn.functional.one_hot(_places(predicted, bins), bins).double()
    counts = member.sum(0)
    some = counts > 0
    sums = torch.stack([predicted.double(), observed.double()]) @ member
    shares = sums[:, some] / counts[some]
    return Reliability(shares[0], shares[1], counts[some].long())


def calibrated(probe: Probe) -> tuple[Tensor, Tensor]:
    """Return calibrated probabilities of labelled test rows, and whether what they are of is so: [n], bool [n]."""
    if probe.test_scores.shape[1] == 1:
        return _sigmoid(probe), probe.test_labels == 1
    learned = probe.prior[probe.val_labels].isfinite()
    scores, labels = probe.val_scores[learned], probe.val_labels[learned]
    tried = torch.stack([losses((s * scores)[:, None], labels[:, None]).sum() for s in SHARPNESS])
    sure, said = (SHARPNESS[int(tried.argmin())] * probe.test_scores).softmax(1).max(1)
    return sure, said == probe.test_labels


def _sigmoid(probe: Probe) -> Tensor:
    """Return sigmoid(a s + b) of the log-odds s, with the a and b of least loss on validation rows: -> [n]."""
    mean, spread = probe.val_scores.mean(), probe.val_scores.std(correction=0).clamp(min=1e-12)
    val, test = (
        torch.nn.functional.pad((s - mean) / spread, (0, 1), value=1.0)
        for s in (probe.val_scores, probe.test_scores)
    )
    found: Tensor = test @ fit(val, probe.val_labels[:, None], 2, (WEAK,))[0, 0, :, 0]
    return found.sigmoid()


def _places(predicted: Tensor, bins: int) -> Tensor:
    """Return the bin of each row, bins of equally many rows but for ties, which share one: [n] -> [n]."""
    ends = torch.arange(1, bins, device=predicted.device) * len(predicted) // bins
    return torch.searchsorted(predicted.sort().values[ends], predicted, right=True)


def _ece(ev: Evaluation, probe: Probe, bins: int) -> Estimate:
    predicted, observed = calibrated(probe)
    member = torch.nn.functional.one_hot(_places(predicted, bins), bins).double()
    off = observed.double() - predicted.double()
    # which way a bin is off is held at the sample: distances counted anew in every replicate would be too long
    towards = (off @ member).sign()[_places(predicted, bins)] * off

    def under(weights: Tensor) -> Tensor:
        mean: Tensor = weights.double() @ towards / weights.double().sum(1)
        return mean.clamp(min=0)

    return estimate(ev, probe.rows, under, probe.note)
