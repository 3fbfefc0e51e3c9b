"""What one latent dimension alone tells of an attribute: dimension and direction chosen on validation rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics import auroc as rank
from lvmbench_metrics.codes import SplitName, finite_codes
from lvmbench_metrics.influence import moved
from lvmbench_metrics.probing import Group, read, shared_classes
from lvmbench_metrics.scores import Scores, of_each, spearman_of
from lvmbench_metrics.views import WIDEST

BEST = 2  # the gap needs no more

_axis = partial(metric, better="higher", needs=("codes", "labels"), family="probes", main=False)
_yeats = partial(_axis, paper="Yeats et al. 2022, arXiv 2209.10677 (TAD, without its threshold)")


@_yeats(bounds=(0, 1), chance=0.5)
def best_dimension(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return the AUROC of the one dimension that is best on validation rows, the mean of one-versus-rest."""

    def score(name: str, axes: Axes) -> Estimate:
        return Estimate(float(axes.areas[0]), None, axes.replicates[:, 0], axes.n, f"dim {axes.dims[0]}")

    return of_each(ev.shared(_axes, view=view), score)


@_yeats(bounds=(-1, 1), chance=0.0)
def dimension_gap(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return the AUROC of the best dimension less that of the second, both as validation rows rank them."""

    def score(name: str, axes: Axes) -> Estimate | NotApplicable:
        if len(axes.dims) < 2:
            return NotApplicable("z has one dimension")
        gap, boot = axes.areas[0] - axes.areas[1], axes.replicates[:, 0] - axes.replicates[:, 1]
        return Estimate(float(gap), None, boot, axes.n, f"dim {axes.dims[0]} before {axes.dims[1]}")

    return of_each(ev.shared(_axes, view=view), score)


@_axis(bounds=(-1, 1), chance=0.0, paper="Spearman 1904")
def best_dimension_spearman(ev: Evaluation, *, view: str = "z") -> Scores:
    """Return the rank correlation of each number with the dimension that is best on validation rows, made positive."""
    numbers = [a for a in ev.schema.attributes if a.is_number]
    if not numbers:
        raise NotApplicable("no attribute of the data set is a number")
    return {a.name: _of_number(ev, ev.schema.index(a.name), view) for a in numbers}


@dataclass(frozen=True)
class Axes:
    """The best dimensions of an attribute by validation rows, and their AUROC on n test rows: [K], [R, K]."""

    dims: list[int]
    areas: Tensor
    replicates: Tensor
    n: int


def _axes(ev: Evaluation, view: str) -> dict[str, Axes | NotApplicable]:
    val, test = _narrow(ev, "val", view), _narrow(ev, "test", view)
    return read(ev, lambda group: _of_group(val, test, group, ev.weights()))


def _of_group(val: Tensor, test: Tensor, group: Group, weights: Tensor) -> dict[str, Axes]:
    dims, sign = _chosen(val, group)
    labels = torch.stack([of["test"] for of in group.labels.values()], dim=1)
    positive, present = _one_versus_rest(labels, group.classes)
    of_class = torch.stack(
        [shared_classes(of, group.classes, "test") for of in group.labels.values()]
    ).double()
    of_class /= of_class.sum(1, keepdim=True)
    areas, boots = [], []
    for each, towards in zip(dims.repeat_interleave(group.classes, dim=1), sign, strict=True):
        area, influence = rank.placements(test[:, each] * towards.flatten(), positive, present)
        mean, moves = (
            (x.nan_to_num().unflatten(-1, towards.shape) * of_class).sum(-1) for x in (area, influence)
        )
        areas.append(mean)
        boots.append(moved(mean, moves, weights))
    area, boot, n = torch.stack(areas, dim=1), torch.stack(boots, dim=2), (labels >= 0).sum(0).tolist()
    return {name: Axes(dims[:, t].tolist(), area[t], boot[:, t], n[t]) for t, name in enumerate(group.labels)}


def _chosen(val: Tensor, group: Group) -> tuple[Tensor, Tensor]:
    """Return the best dimensions on validation rows and which way each class lies on them: [K, T], [K, T, C]."""
    beyond = rank.auroc_matrix(val, *_one_versus_rest(group.val, group.classes)) - 0.5
    beyond = beyond.unflatten(1, (-1, group.classes))  # [D, T, C]
    dims = beyond.abs().nanmean(2).argsort(stable=True, dim=0, descending=True)[:BEST]
    return dims, torch.where(beyond.gather(0, dims[:, :, None].expand(-1, -1, group.classes)) < 0, -1.0, 1.0)


def _one_versus_rest(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return membership of each class, and whether a label is there: [N, T] -> bool [N, T × C] twice."""
    member = torch.stack([labels == c for c in range(classes)], dim=2)
    return member.flatten(1), (labels >= 0)[:, :, None].expand_as(member).flatten(1)


def _narrow(ev: Evaluation, split: SplitName, view: str) -> Tensor:
    z = finite_codes(ev, split, view)
    if z.shape[1] > WIDEST:
        raise NotApplicable(f"{z.shape[1]} dimensions: none of them is meant to tell anything alone")
    return z


def _of_number(ev: Evaluation, column: int, view: str) -> Estimate | NotApplicable:
    seen = {}
    for split in ("val", "test"):
        y = ev.labels(split)[:, column]
        rows = (~y.isnan()).nonzero().flatten()
        if len(y[rows].unique()) < 2:
            return NotApplicable(f"fewer than two different values among the {split} rows")
        seen[split] = (rows, y[rows].double(), _narrow(ev, split, view)[rows])
    _, y, z = seen["val"]
    correlation = _rank_correlation(z, y)
    best = int(correlation.abs().argmax())
    rows, y, z = seen["test"]
    towards = correlation[best].sign() * z[:, best]
    return spearman_of(ev, towards, y, rows, f"dim {best}")


def _rank_correlation(z: Tensor, y: Tensor) -> Tensor:
    """Return Spearman's correlation of every column with y, 0 for one that never changes: [n, D], [n] -> [D]."""
    everyone = torch.ones(len(z), 1, dtype=torch.bool, device=z.device)
    ranks = rank.Ranked.of(torch.cat([z, y[:, None]], dim=1)).ranks(everyone)
    ranks = ranks - ranks.mean(0)
    length = ranks.norm(dim=0)
    found: Tensor = (ranks[:, :-1].T @ ranks[:, -1]) / (length[:-1] * length[-1]).clamp(min=1e-300)
    return found
