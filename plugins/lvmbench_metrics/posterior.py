"""p(a | x) through z: a logistic regression on the codes, its confidence set right on validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench import Attribute, Evaluation, NotApplicable
from lvmbench_metrics.codes import SPLITS, SplitName, class_labels, class_name, columns, finite_codes
from lvmbench_metrics.linear import chosen
from lvmbench_metrics.logistic import logits, losses
from lvmbench_metrics.mixtures import Space

TEMPERATURES = tuple(2 ** (i / 8) for i in range(-16, 17))  # 1/4 to 4


@dataclass(frozen=True)
class Reader:
    """What the codes say of one attribute: log p(class | z) of validation and test rows, [N, C] each.

    ``towards`` [C, E] is what raises the score of a class over the mean of the others', in coordinates of unit
    spread, and ``goal`` [C] the mean of that score over validation rows that bear the class.
    """

    val: Tensor
    test: Tensor
    towards: Tensor
    goal: Tensor


Readers = Mapping[str, Reader | NotApplicable]


def space_of(ev: Evaluation) -> Space:
    """Return the space of the training codes.

    Raises:
        NotApplicable: if they are all the same.
    """
    space = Space.of(finite_codes(ev, "train", "z"))
    if not len(space.spread):
        raise NotApplicable("the codes of all training rows are the same")
    return space


def readers(ev: Evaluation) -> Readers:
    """Return what reads each attribute, those of equally many classes fitted together."""
    labels = {split: class_labels(ev, split) for split in SPLITS}
    found: dict[str, Reader | NotApplicable] = {}
    for a, i in columns(ev):
        if reason := _unfit(a, {split: of[:, i] for split, of in labels.items()}):
            found[a.name] = NotApplicable(reason)
    fitting = [(a, i) for a, i in columns(ev) if a.name not in found]
    for classes in sorted({a.n_classes for a, _ in fitting}):
        group = {a.name: i for a, i in fitting if a.n_classes == classes}
        own = {split: of[:, list(group.values())] for split, of in labels.items()}
        found |= dict(zip(group, _fit(ev, own, classes), strict=True))
    return {a.name: found[a.name] for a, _ in columns(ev)}


def _unfit(attribute: Attribute, labels: Mapping[SplitName, Tensor]) -> str:
    for split, of in labels.items():
        occurs = torch.unique(of[of >= 0])
        if len(occurs) < 2:
            which = f"only '{class_name(attribute, int(occurs[0]))}'" if len(occurs) else "no label"
            return f"{which} among the {split} rows"
    return ""


def _fit(ev: Evaluation, labels: Mapping[SplitName, Tensor], classes: int) -> list[Reader]:
    space = ev.shared(space_of)
    u = {split: space.into(finite_codes(ev, split, "z")) for split in SPLITS}
    x = {split: torch.nn.functional.pad(of, (0, 1), value=1.0) for split, of in u.items()}
    weights, _ = chosen(x["train"], labels["train"], x["val"], labels["val"], classes)
    scores = {split: logits(x[split], weights) for split in ("val", "test")}
    temperature = _temperature(scores["val"], labels["val"])[:, None]
    said = {split: _log_probs(of / temperature) for split, of in scores.items()}
    towards = _towards(weights[:, :-1])
    goals = _means(torch.einsum("ne,tce->ntc", u["val"], towards), labels["val"])
    return [Reader(said["val"][:, t], said["test"][:, t], towards[t], goals[t]) for t in range(len(towards))]


def _temperature(scores: Tensor, labels: Tensor) -> Tensor:
    """Return what to divide the scores by, for the best likelihood of labels: [N, T, O], [N, T] -> [T].

    Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    tried = torch.tensor(TEMPERATURES, dtype=scores.dtype, device=scores.device)
    loss = torch.stack([losses(scores / t, labels).sum(0) for t in tried])
    return tried[loss.argmin(0)]


def _log_probs(scores: Tensor) -> Tensor:
    """Return log-probabilities of classes: [N, T, O] -> [N, T, C]; one score is the log-odds of the second."""
    both = scores if scores.shape[2] > 1 else torch.cat([torch.zeros_like(scores), scores], dim=2)
    return both.log_softmax(2)


def _towards(weights: Tensor) -> Tensor:
    """Return each class's direction: [T, E, O] -> [T, C, E]."""
    each = weights.mT
    if each.shape[1] == 1:
        return torch.cat([-each, each], dim=1)
    others = (each.sum(1, keepdim=True) - each) / (each.shape[1] - 1)
    return each - others


def _means(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean score of each class over the rows that bear it, the highest where none does: -> [T, C]."""
    bears = labels[:, :, None] == torch.arange(scores.shape[2], device=labels.device)
    mean = (scores * bears).sum(0) / bears.sum(0)
    return torch.where(bears.any(0), mean, scores.amax(0))
