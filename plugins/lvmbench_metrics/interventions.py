"""What a code does when one factor of the picture is held: scores that need a generator of pictures.

All three read the same pictures: for every factor, 32 groups of 16 that share its value, all other factors drawn
independently. Where a score learns, it learns on the first half of the groups and is told of the other.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn.functional import one_hot, pad

from lvmbench import Estimate, Evaluation, LvmbenchError, metric, observe
from lvmbench_metrics.codes import alive
from lvmbench_metrics.logistic import fit, logits

BATCH = 256
ACTIVE = 0.05  # the standard deviation over all pictures under which a dimension is dead, in units of z
STRENGTH = 1.0  # C of scikit-learn

Groups = Annotated[int, Ge(2)]
Each = Annotated[int, Ge(2)]


@metric(
    better="higher",
    needs=("codes", "generator"),
    bounds=(0, 1),
    paper="Higgins et al. 2017, ICLR, section 3",
    family="disentanglement",
    main=False,
)
def beta_vae_score(ev: Evaluation, *, groups: Groups = 32, each: Each = 16) -> Estimate:
    """Return how often a linear classifier names the shared factor from the mean |z - z'| of pairs that share it.

    The pairs of a point share different values. Chance is one over the number of factors.
    """
    train, test = halves(ev.shared(_codes, groups=groups, each=each))
    right = named_from_differences(differences(train), differences(test))
    return _of_votes(right, "")


@metric(
    better="higher",
    needs=("codes", "generator"),
    bounds=(0, 1),
    paper="Kim & Mnih 2018, arXiv 1802.05983, section 4",
    family="disentanglement",
    main=False,
)
def factor_vae_score(ev: Evaluation, *, groups: Groups = 32, each: Each = 16) -> Estimate:
    """Return how often the dimension that varies least in a group names the factor that the group shares.

    Variances are in units of those over all pictures; dimensions whose standard deviation is below .05 do not
    vote. Chance is one over the number of factors.
    """
    codes = ev.shared(_codes, groups=groups, each=each)
    active = codes.flatten(0, 2).std(0) >= ACTIVE
    note = f"{int(active.sum())} of {len(active)} dimensions active"
    if not active.any():
        chance = 1 / len(codes)
        return Estimate(chance, note=f"chance {chance:.3f}, {note}")
    dims = codes[..., active]
    train, test = halves(dims.var(2) / dims.flatten(0, 2).var(0))
    return _of_votes(named_from_variances(train, test), f", {note}")


@metric(
    better="higher",
    needs=("codes", "generator"),
    bounds=(None, 1),
    chance=0.0,
    paper="Suter et al. 2019, arXiv 1811.00007",
    family="disentanglement",
    main=False,
)
def irs(ev: Evaluation, *, groups: Groups = 32, each: Each = 16) -> Estimate:
    """Return how little a dimension moves while its best factor is held, whatever happens to the others.

    It is 1 - (largest deviation in a group) / (that in groups of equal size that share nothing), a mean over
    groups, of the factor that is best on the other half of the groups. The mean is over dimensions, weighted by
    how far they move.
    """
    codes = ev.shared(_codes, groups=groups, each=each)
    train, test = (deviations(half) for half in halves(codes))
    free = deviations(mixed(codes)).mean(0)
    active = free > 0
    note = f"{int(active.sum())} of {len(active)} dimensions active"
    if not active.any():
        return Estimate(0.0, note=note)
    held = test.gather(0, train.argmin(0, keepdim=True))[0]
    # sum_d free_d (1 - held_d / free_d) / sum_d free_d
    return Estimate(float(1 - held.sum() / free.sum()), note=note)


def halves(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the groups to learn from and the others: [F, G, ...] -> [F, G // 2, ...], [F, G - G // 2, ...]."""
    middle = groups.shape[1] // 2
    return groups[:, :middle], groups[:, middle:]


def mixed(codes: Tensor) -> Tensor:
    """Return groups of which each has the members of different groups: [F, G, E, ...] -> the same shape."""
    g, e = codes.shape[1:3]
    member = torch.arange(e, device=codes.device)
    return codes[:, (torch.arange(g, device=codes.device)[:, None] + member) % g, member]


def differences(codes: Tensor) -> Tensor:
    """Return the mean |z - z'| over pairs, each from another group: [F, G, E, D] -> [F, G, D]."""
    pairs = (codes[:, :, 0:-1:2] - codes[:, :, 1::2]).abs()
    return mixed(pairs).mean(2)


def named_from_differences(train: Tensor, test: Tensor) -> Tensor:
    """Return which test points a logistic regression on the training points names rightly: [F, G, D] -> [F, G]."""
    points = train.flatten(0, 1)
    scale = torch.where(alive(points), 1 / points.std(0, correction=0), 0)
    x, asked = (pad((of.flatten(0, 1) - points.mean(0)) * scale, (0, 1), value=1.0) for of in (train, test))
    factor = torch.arange(len(train), device=train.device)
    labels = factor.repeat_interleave(train.shape[1])
    weights = fit(x, labels[:, None], len(train), (STRENGTH,))[0]
    said = logits(asked, weights)[:, 0]
    named = said.argmax(1) if said.shape[1] > 1 else (said[:, 0] > 0).long()
    return named.view(test.shape[:2]) == factor[:, None]


def named_from_variances(train: Tensor, test: Tensor) -> Tensor:
    """Return which test votes the majority of the training votes names rightly: [F, G, D] -> [F, G].

    A vote is the dimension of least variance; one that no training group voted for names nothing.
    """
    votes = one_hot(train.argmin(2), train.shape[2]).sum(1)  # [F, D]
    name = torch.where(votes.any(0), votes.argmax(0), -1)
    factor = torch.arange(len(train), device=train.device)
    return name[test.argmin(2)] == factor[:, None]


def deviations(codes: Tensor) -> Tensor:
    """Return the mean over groups of the largest deviation from a group's mean: [F, G, E, D] -> [F, D]."""
    return (codes - codes.mean(2, keepdim=True)).abs().amax(2).mean(1)


def _of_votes(right: Tensor, note: str) -> Estimate:
    return Estimate(float(right.double().mean()), n=right.numel(), note=f"chance {1 / len(right):.3f}{note}")


@torch.no_grad()
def _codes(ev: Evaluation, groups: int, each: int) -> Tensor:
    """Return the codes of pictures in groups that share a factor, for every factor: [F, G, E, D]."""
    found = []
    generator = torch.Generator().manual_seed(0)  # the same noise for every model
    for factor in ev.dataset.factor_names:
        pictures = ev.dataset.sharing(factor, groups, each).flatten(0, 1)
        z = torch.cat(
            [
                ev.model.encode(observe(ev.schema, some, generator).to(ev.device)).flatten(1)
                for some in pictures.split(BATCH)
            ]
        )
        found.append(z.double().unflatten(0, (groups, each)))
    codes = torch.stack(found)
    broken = int((~codes.isfinite().all(3)).sum())
    if broken:
        raise LvmbenchError(
            f"the codes of {broken} of {codes[..., 0].numel()} drawn pictures are not finite."
        )
    return codes
