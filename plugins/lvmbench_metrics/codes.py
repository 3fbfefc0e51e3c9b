"""What metrics read of an evaluation: codes that are numbers, and labels that exist."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lvmbench import Attribute, Evaluation, LvmbenchError, NotApplicable
from lvmbench_metrics.blocks import mean_of, spread_of

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")
RESOLUTION = 1e-6  # a spread smaller than this share of the codes' size is float32 rounding, not information


def finite_codes(ev: Evaluation, split: SplitName, view: str) -> Tensor:
    """Return the codes of a split, in double precision: [N, D].

    Raises:
        LvmbenchError: if any code is not finite.
    """
    return require_finite(ev.codes(split, view), split, view).double()


def single_codes(ev: Evaluation, split: SplitName, view: str) -> Tensor:
    """Return the codes of a split in single precision, as most models give them: they are not copied then. [N, D].

    Raises:
        LvmbenchError: if any code is not finite.
    """
    return require_finite(ev.codes(split, view).float(), split, view)


def require_finite(z: Tensor, split: SplitName, view: str) -> Tensor:
    """Return codes of a split as they are: [N, D].

    Raises:
        LvmbenchError: if any code is not finite.
    """
    broken = int((~z.isfinite().all(dim=1)).sum())
    if broken:
        raise LvmbenchError(f"the codes (view '{view}') of {broken} of {len(z)} {split} rows are not finite.")
    return z


def alive(z: Tensor) -> Tensor:
    """Return which dimensions vary by more than rounding: [N, D] -> bool [D]."""
    mean = mean_of(z)
    return varies(mean, spread_of(z, mean))


def varies(mean: Tensor, spread: Tensor) -> Tensor:
    """Return which dimensions of this mean and spread vary by more than rounding: [D] twice -> bool [D]."""
    return spread > RESOLUTION * torch.hypot(mean, spread)


def class_labels(ev: Evaluation, split: SplitName) -> Tensor:
    """Return the class of every row and attribute, -1 where missing: int64 [N, A]."""
    return ev.labels(split).nan_to_num(nan=-1).round().long()


def weights_of(ev: Evaluation, rows: Tensor) -> Tensor:
    """Return the bootstrap weights of some test rows, by index or mask: [n] -> [R, n]."""
    weights = ev.shared(_weights_by_row)
    places = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
    everyone = torch.equal(places, torch.arange(len(weights), device=places.device))
    return weights.T if everyone else weights[places].T  # to pick rows is to copy them


def _weights_by_row(ev: Evaluation) -> Tensor:
    return ev.weights().T.contiguous()  # [N, R]: to pick rows is then to copy whole stretches of memory


def with_classes(ev: Evaluation) -> list[Attribute]:
    """Return the attributes whose labels are classes.

    Raises:
        NotApplicable: if the data set has none.
    """
    found = [a for a in ev.schema.attributes if not a.is_number]
    if not found:
        raise NotApplicable("no attribute of the data set has classes")
    return found


def columns(ev: Evaluation) -> list[tuple[Attribute, int]]:
    """Return the attributes whose labels are classes, each with its column."""
    return [(a, ev.schema.index(a.name)) for a in with_classes(ev)]


def told_apart(labels: Tensor) -> Tensor:
    """Return the classes to tell from the rest, of two classes the second only: [N], -1 where missing -> [C]."""
    shown: Tensor = labels[labels >= 0].unique()
    return shown[1:] if len(shown) == 2 else shown


def class_name(attribute: Attribute, index: int) -> str:
    """Return how people call a class of an attribute."""
    return (attribute.classes or ("no", "yes"))[index]


def value_name(attribute: Attribute, index: int) -> str:
    """Return how people would name a class where its attribute is not said beside it."""
    if attribute.classes:
        return f"{attribute.name}: {attribute.classes[index]}"
    return attribute.name if index else f"not {attribute.name}"
