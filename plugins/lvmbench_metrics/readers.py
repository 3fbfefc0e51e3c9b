"""Readers of z that say which dimensions they look at: sparse linear ones, and gradient-boosted trees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor
from torch import Tensor
from torch.nn.functional import softplus

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable
from lvmbench_metrics import sparse
from lvmbench_metrics.auroc import placements
from lvmbench_metrics.codes import SPLITS, SplitName, finite_codes, told_apart, weights_of
from lvmbench_metrics.features import standardised
from lvmbench_metrics.influence import moved
from lvmbench_metrics.probing import unfit

ROWS = 10_000  # training rows that a reader learns from
STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003)  # of the L1 penalty, in spreads of the target; the sparsest first
ERRORS = 2  # paired standard errors within which two readers are as good: with one, noise is read


@dataclass(frozen=True)
class Reading:
    """How much each dimension matters to one attribute [D], summing to 1 or 0, and what is read on test rows."""

    importance: Tensor
    informativeness: Estimate


@dataclass(frozen=True)
class Target:
    """The labels of one attribute, NaN where missing, by split: [N] each, the rows to learn from in ``train``.

    ``classes`` [K] are read one by one; a number has none.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    classes: Tensor

    @property
    def is_number(self) -> bool:
        """Whether the labels are a quantity."""
        return not len(self.classes)

    def columns(self, labels: Tensor) -> Tensor:
        """Return what is to be read, as numbers near 1 in size: [N] -> [N, K], a number's K being 1."""
        if not self.is_number:
            told = (labels[:, None] == self.classes).double()
            return torch.where(labels.isnan()[:, None], torch.nan, told)
        return (labels[:, None] - self.mean) / self.spread

    @property
    def mean(self) -> Tensor:
        """The mean over training rows."""
        return self.train.nanmean()

    @property
    def spread(self) -> Tensor:
        """The standard deviation over training rows."""
        return (self.train - self.mean).square().nanmean().sqrt()


Readings = dict[str, Reading | NotApplicable]


def logistic(ev: Evaluation, view: str) -> Readings:
    """Read every attribute from a weighted sum of standardised codes, with an L1 penalty.

    Classes are read one against the rest. Of the strengths tried, each takes the strongest whose loss on
    validation rows is within a standard error of the least, so that a reader that finds nothing is empty.
    """
    found: Readings = {}
    targets = _targets(ev, found)
    x = standardised(ev, view)
    val, test = x.val.double(), x.test.double()
    for number in (False, True):
        group = {name: target for name, target in targets.items() if target.is_number is number}
        if not group:
            continue
        y = torch.cat([t.columns(t.train) for t in group.values()], dim=1)
        y_val = torch.cat([t.columns(t.val) for t in group.values()], dim=1)
        weights = _sparsest(x.train[:ROWS], y, val, y_val, logistic=not number)
        sizes = [max(1, len(target.classes)) for target in group.values()]
        for (name, target), own in zip(group.items(), weights.split(sizes), strict=True):
            importance = own[:, :-1].abs().sum(0)
            found[name] = Reading(_shares(importance), _informativeness(ev, test @ own.T, target))
    return {a.name: found[a.name] for a in ev.schema.attributes}


def boosted(ev: Evaluation, view: str) -> Readings:
    """Read every attribute with 100 gradient-boosted trees of depth 3 for each class, as scikit-learn sets them."""
    found: Readings = {}
    train, test = (finite_codes(ev, split, view).cpu().numpy() for split in ("train", "test"))
    for name, target in _targets(ev, found).items():
        y = target.train.cpu()
        known = ~y.isnan()
        kind = GradientBoostingRegressor if target.is_number else GradientBoostingClassifier
        # of splits that are equally good one is drawn
        trees = kind(random_state=0).fit(train[:ROWS][known], y[known].numpy())
        said = trees.predict(test) if target.is_number else trees.decision_function(test)
        scores = torch.as_tensor(said, device=ev.device)
        scores = target.columns(scores) if target.is_number else scores.reshape(len(test), -1)
        importance = torch.as_tensor(trees.feature_importances_, device=ev.device)
        found[name] = Reading(_shares(importance), _informativeness(ev, scores, target))
    return {a.name: found[a.name] for a in ev.schema.attributes}


def _targets(ev: Evaluation, absent: Readings) -> dict[str, Target]:
    """Return the attributes that can be read; add to ``absent`` why the others cannot."""
    targets = {}
    for a in ev.schema.attributes:
        train, val, test = (ev.labels(split)[:, ev.schema.index(a.name)].double() for split in SPLITS)
        train = train[:ROWS]
        reason = _unread(a, {"train": train, "val": val, "test": test})
        if reason:
            absent[a.name] = NotApplicable(reason)
            continue
        classes = train.new_empty(0) if a.is_number else told_apart(train)
        targets[a.name] = Target(train, val, test, classes)
    return targets


def _unread(attribute: Attribute, labels: dict[SplitName, Tensor]) -> str:
    """Return why an attribute cannot be read, or nothing."""
    if not attribute.is_number:
        return unfit(attribute, {s: of.nan_to_num(nan=-1).round().long() for s, of in labels.items()})
    for split, of in labels.items():
        if len(of[~of.isnan()].unique()) < 2:
            return f"fewer than two different values among the {split} rows"
    return ""


def _sparsest(x: Tensor, y: Tensor, val: Tensor, y_val: Tensor, *, logistic: bool) -> Tensor:
    """Return the weights of the sparsest reader of each column that is as good as the best: -> [T, D + 1].

    Readers are fitted in single precision, which moves a weight by less than a thousandth.
    """
    tried = sparse.fit(x, y.float(), STRENGTHS, logistic=logistic).double()
    scores, known = val @ tried.transpose(1, 2), ~y_val.isnan()
    said = y_val.nan_to_num()
    loss = (softplus(scores) - said * scores) if logistic else (scores - said).square() / 2
    loss = torch.where(known, loss, 0)  # [S, N, T]
    n = known.sum(0).clamp(min=1)
    best = (loss.sum(1) / n).argmin(0)
    worse = loss - loss.gather(0, best.expand(1, *loss.shape[1:]))
    mean = worse.sum(1) / n
    error = ((worse - mean[:, None]) * known).square().sum(1).sqrt() / n
    first = (mean <= ERRORS * error).int().argmax(0)
    return tried[first, torch.arange(len(first), device=first.device)]


def _shares(importance: Tensor) -> Tensor:
    found = importance.clamp(min=0)  # a split that takes no impurity away may round to less than none
    total = found.sum()
    return found / torch.where(total > 0, total, 1)


def _informativeness(ev: Evaluation, scores: Tensor, target: Target) -> Estimate:
    """Return the mean over classes of 2 AUROC - 1, or R², of what is read on test rows: [N, K]."""
    present = ~target.test.isnan()
    n = int(present.sum())
    if target.is_number:
        return _r2(weights_of(ev, present), scores[present, 0], target.columns(target.test)[present, 0])
    positive = target.test[:, None] == target.classes
    shown = positive.any(0) & (~positive & present[:, None]).any(0)
    area, influence = placements(
        scores[:, shown], positive[:, shown], present[:, None].expand_as(positive)[:, shown]
    )
    value = 2 * area.mean()[None] - 1
    boot = moved(value, 2 * influence.mean(1, keepdim=True), ev.weights())
    return Estimate(float(value), replicates=boot[:, 0], n=n)


def _r2(weights: Tensor, predicted: Tensor, y: Tensor) -> Estimate:
    """Return 1 - (squared error) / (that of the training mean, which is 0): [R, n], [n], [n]."""
    squares = torch.stack([(y - predicted).square(), y.square()], dim=1)
    sums = torch.cat([weights.new_ones(1, len(y)), weights]).double() @ squares
    value = 1 - sums[:, 0] / sums[:, 1]
    return Estimate(float(value[0]), replicates=value[1:], n=len(y))
