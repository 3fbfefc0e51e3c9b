"""Pictures drawn to order: z from the density of a value, decoded, and judged by a network that saw the labels.

Every score is a mean over the values of an attribute that have a density, so that a rare one counts as much as a
common one. The judge sees exactly one value in each draw of the density of all codes: where every value has a density
of its own, their mean is one over the number of values, the chance level, and at most that where some have none.
What a judge says counts only if it tells the values of real test pictures better than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.codes import class_labels, columns
from lvmbench_metrics.densities import Density, Values, densities
from lvmbench_metrics.judging import pictures, said, said_of_real, said_of_reconstructed

DRAWS = 100  # pictures of each value
NEEDS = ("codes", "decoder", "labels", "judge")

Scores = dict[str, Estimate | NotApplicable]


@metric(better="higher", needs=NEEDS, bounds=(0, 1), family="generation", main=False)
def generated_share(ev: Evaluation) -> Scores:
    """Return the share of pictures drawn for a value in which the judge sees it, mean over values.

    Its interval is a bootstrap of the draws, which are the same for no two models.
    """
    return _judged(ev, {a: _estimate(told, _share) for a, told in ev.shared(generated).items()})


@metric(better="higher", needs=NEEDS, bounds=(None, 1), chance=0.0, family="generation")
def generated_lift(ev: Evaluation) -> Scores:
    """Return (share - base) / (1 - base), where base is the same share among draws of the density of all codes.

    Its interval is a bootstrap of both sets of draws, which are the same for no two models.
    """
    return _judged(ev, {a: _estimate(told, _lift) for a, told in ev.shared(generated).items()})


@metric(better="higher", needs=NEEDS, bounds=(0, 1), family="generation", main=False)
def reconstructed_share(ev: Evaluation) -> Scores:
    """Return the share of reconstructed test pictures in which the judge sees the value they bear, mean over values."""
    return _judged(ev, _recalls(ev, ev.shared(said_of_reconstructed)))


@metric(better="higher", needs=("labels", "judge"), bounds=(0, 1), family="generation", main=False)
def judge_accuracy(ev: Evaluation) -> Scores:
    """Return the share of test pictures in which the judge sees the value they bear, mean over values."""
    return ev.shared(_of_real)


def _of_real(ev: Evaluation) -> Scores:
    return _recalls(ev, ev.shared(said_of_real))


def _judged(ev: Evaluation, scores: Scores) -> Scores:
    """Return the scores of the attributes that the judge can tell in real pictures, of others why there are none."""
    blind = ev.shared(_blind)
    return {
        a: score if isinstance(score, NotApplicable) else blind.get(a, score) for a, score in scores.items()
    }


def _blind(ev: Evaluation) -> Mapping[str, NotApplicable]:
    """Return, for the attributes on which the judge cannot be believed, why not."""
    labels, found = class_labels(ev, "test"), {}
    for name, told in ev.shared(_of_real).items():
        column = labels[:, ev.schema.index(name)]
        if isinstance(told, NotApplicable):
            found[name] = told
        elif _lowest(told) <= 1 / len(torch.unique(column[column >= 0])):
            found[name] = NotApplicable("the judge cannot tell it in real pictures")
    return found


def _lowest(told: Estimate) -> float:
    """Return the lower end of the 95 % interval of an estimate."""
    assert told.replicates is not None
    low: Tensor = told.replicates[~told.replicates.isnan()].quantile(0.025)
    return float(low)


@dataclass(frozen=True)
class Generated:
    """Of each value, the share of its own draws that bear it and of draws of all codes that do: [V] each.

    The replicates [R, V] are bootstraps of the draws.
    """

    values: tuple[int, ...]
    share: Tensor
    base: Tensor
    share_replicates: Tensor
    base_replicates: Tensor


def draws(ev: Evaluation, density: Density, name: str) -> Tensor:
    """Return the draws of a density that are judged: [DRAWS, D]."""
    return density.sample(DRAWS, ev.generator(f"draws/{name}"))


def generated(ev: Evaluation) -> Mapping[str, Generated | NotApplicable]:
    """Draw pictures of each value of each attribute, and have them judged."""
    learned = ev.shared(densities)
    everyone = said(ev, pictures(ev, draws(ev, learned.everyone, "everyone")))
    return {
        name: own if isinstance(own, NotApplicable) else _generated(ev, name, own, everyone)
        for name, own in learned.by_attribute.items()
    }


def _generated(ev: Evaluation, name: str, own: Values, everyone: Tensor) -> Generated:
    column = ev.schema.index(name)
    z = torch.cat([draws(ev, density, f"{name}/{value}") for value, density in own.items()])
    seen = said(ev, pictures(ev, z))[:, column].view(len(own), DRAWS)
    wanted = torch.tensor(list(own), device=seen.device)
    right, by_chance = seen == wanted[:, None], everyone[:, column] == wanted[:, None]
    return Generated(
        tuple(own),
        right.double().mean(1),
        by_chance.double().mean(1),
        _bootstrap(ev, right, f"{name}/own"),
        _bootstrap(ev, by_chance, f"{name}/everyone"),
    )


def _bootstrap(ev: Evaluation, right: Tensor, name: str) -> Tensor:
    """Return the shares of resampled draws, the same ones for all values: [V, DRAWS] -> [R, V]."""
    replicates = len(ev.weights())
    picked = torch.randint(DRAWS, (replicates, DRAWS), generator=ev.generator(f"bootstrap/{name}"))
    counts = torch.zeros(replicates, DRAWS).scatter_add_(1, picked, torch.ones(replicates, DRAWS))
    return counts.double().to(right.device) @ right.double().T / DRAWS


def _share(share: Tensor, base: Tensor) -> Tensor:
    return share.mean(-1)


def _lift(share: Tensor, base: Tensor) -> Tensor:
    by_chance = base.mean(-1)
    return (share.mean(-1) - by_chance) / (1 - by_chance)


def _estimate(
    told: Generated | NotApplicable, score: Callable[[Tensor, Tensor], Tensor]
) -> Estimate | NotApplicable:
    if isinstance(told, NotApplicable):
        return told
    many = score(told.share_replicates, told.base_replicates)
    return Estimate(float(score(told.share, told.base)), replicates=many, n=DRAWS * len(told.values))


def _recalls(ev: Evaluation, seen: Tensor) -> Scores:
    """Return the mean over values of the share of their test rows in which the judge sees them: [N, A].

    All values of all attributes are weighed by one GEMM; its sums are whole numbers, exact in float32.
    """
    labels = class_labels(ev, "test")
    values = [
        (a.name, i, c) for a, i in columns(ev) for c in torch.unique(labels[labels[:, i] >= 0, i]).tolist()
    ]
    at, wanted = (torch.tensor([v[part] for v in values], device=labels.device).long() for part in (1, 2))
    bears = (labels[:, at] == wanted).float()
    right = bears * (seen[:, at] == wanted)
    weights = torch.cat([torch.ones_like(ev.weights()[:1]), ev.weights()])
    recall = (weights @ right).double() / (weights @ bears).double()
    found: Scores = {}
    for a, i in columns(ev):
        own = [place for place, (name, _, _) in enumerate(values) if name == a.name]
        n = int((labels[:, i] >= 0).sum())
        mean = recall[:, own].nanmean(1)
        found[a.name] = (
            Estimate(float(mean[0]), replicates=mean[1:], n=n)
            if len(own) > 1
            else NotApplicable(f"fewer than two classes among {n} labelled test rows")
        )
    return found
