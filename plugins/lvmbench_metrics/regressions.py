"""Ridge regressions of the attributes that are numbers, strength and view chosen on validation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lvmbench import Evaluation, NotApplicable
from lvmbench_metrics.codes import SPLITS
from lvmbench_metrics.features import Features, features
from lvmbench_metrics.linear import strengths
from lvmbench_metrics.ridge import ridge
from lvmbench_metrics.views import Reader, readers


@dataclass(frozen=True)
class Regression(Reader):
    """What a ridge regression says of labelled test rows: predictions and labels, [n] each.

    ``rows`` [N] says which test rows are labelled, ``mean`` is that of the training labels, ``loss`` the squared
    error of the validation rows.
    """

    predicted: Tensor
    truth: Tensor
    rows: Tensor
    mean: Tensor


Regressions = dict[str, Regression | NotApplicable]


def regressions(ev: Evaluation, view: str) -> Regressions:
    """Return the regression of each attribute that is a number, or why there is none."""
    return readers(ev, view, _regressions)


def _regressions(ev: Evaluation, view: str) -> Regressions:
    x = features(ev, view)
    return {a.name: _regression(ev, x, ev.schema.index(a.name)) for a in ev.schema.attributes if a.is_number}


def _regression(ev: Evaluation, x: Features, column: int) -> Regression | NotApplicable:
    y = {split: ev.labels(split)[:, column].double() for split in SPLITS}
    present = {split: ~values.isnan() for split, values in y.items()}
    for split, rows in present.items():
        if not rows.any() or y[split][rows].min() == y[split][rows].max():
            return NotApplicable(f"fewer than two different values among the {split} rows")
    train, val, test = (y[split][present[split]] for split in SPLITS)
    mean, spread = train.mean(), train.std(correction=0)
    weights = ridge(x.train[present["train"]], (train - mean) / spread, strengths(len(train)))
    on_val = ((x.val[present["val"]].double() @ weights.T) * spread + mean - val[:, None]).square().sum(0)
    best = weights[on_val.argmin()]
    predicted = x.test[present["test"]].double() @ best * spread + mean
    return Regression(predicted, test, present["test"], mean, loss=float(on_val.min()))
