"""The codes of a model that a reader of attributes may choose from, discrete and continuous models alike.

A model is read through at most four views, and attribute by attribute the one counts that did best on validation
rows. The choices are the first four that exist of: the model's own views beside the mean, ``pca``, ``mean``,
``pca-sample``. ``pca`` and ``pca-sample`` are the leading principal components of z and of the sampled code, learned
on training rows: where others standardise dimensions, these are whitened. The mean of a discrete z is no choice:
the probabilities of its symbols are a continuous code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from lvmbench import Evaluation, NotApplicable
from lvmbench_metrics.blocks import blocks, gram, mean_of, spread_of, times
from lvmbench_metrics.codes import RESOLUTION, SplitName, alive, require_finite, varies

BEST = "best"
CHOICES = 4
COMPONENTS = 64
WIDEST = 512  # codes of more dimensions are read through so many principal axes
AXES_ROWS = 8192  # training rows that the axes of wide codes are learned from
ITERATIONS = 2
DERIVED = ("pca", "pca-sample")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What was fitted to one view of z: its loss on validation rows, and a note of how it was chosen."""

    loss: float
    note: str = ""


R = TypeVar("R", bound=Reader)


@dataclass(frozen=True)
class Codes:
    """Codes of the three splits about the mean of the training rows: float32 [N, D] each.

    ``spread`` [D] is what a unit of each dimension is, 0 for one that tells nothing: its standard deviation, or
    one number for all dimensions of wide codes, whose axes differ in how much they carry.
    """

    train: Tensor
    val: Tensor
    test: Tensor
    spread: Tensor


def choices(ev: Evaluation) -> tuple[str, ...]:
    """Return the views that an attribute's reader is chosen from."""
    own = [view for view in ev.views if view != "mean"]
    mean = ["mean"] if ev.latent == "mean" else []
    derived = ["pca", *mean, *(["pca-sample"] if "sample" in own else [])]
    return tuple(dict.fromkeys([*own, *derived]))[:CHOICES]


def readers(
    ev: Evaluation, view: str, fit: Callable[..., dict[str, R | NotApplicable]]
) -> dict[str, R | NotApplicable]:
    """Return what ``fit(ev, view=...)`` makes of a view; for ``best`` each attribute's reader of least loss."""
    if view != BEST:
        return ev.shared(fit, view=ev.latent if view == "z" else view)
    tried = {name: ev.shared(fit, view=name) for name in choices(ev)}
    return {a: _least({name: of[a] for name, of in tried.items()}) for a in next(iter(tried.values()))}


def _least(tried: dict[str, R | NotApplicable]) -> R | NotApplicable:
    fitted = {view: reader for view, reader in tried.items() if not isinstance(reader, NotApplicable)}
    if not fitted:
        return next(iter(tried.values()))
    view = min(fitted, key=lambda name: fitted[name].loss)
    return replace(fitted[view], note=f"view {view}")


def codes_of(ev: Evaluation, view: str) -> Codes:
    """Return the codes of a view, at most 512 wide.

    Raises:
        NotApplicable: if the model has no such view.
        LvmbenchError: if any code is not finite.
    """
    if view in ev.views or view not in DERIVED:
        return ev.fresh(_plain, view=view)
    return _components(ev.fresh(_plain, view=ev.latent if view == "pca" else "sample"))


def _plain(ev: Evaluation, view: str) -> Codes:
    return _wide(ev, view) if ev.codes("train", view).shape[1] > WIDEST else narrow(ev, view)


def narrow(ev: Evaluation, view: str) -> Codes:
    """Return the codes of a view about their mean, dimensions that never vary set to 0."""
    train = _raw(ev, "train", view)
    mean = mean_of(train)
    spread = spread_of(train, mean)
    moves = varies(mean, spread)

    def centred(split: SplitName) -> Tensor:
        z = _raw(ev, split, view)
        found = torch.empty_like(z, dtype=torch.float32)
        for rows in blocks(z):
            found[rows] = (z[rows] - mean) * moves
        return require_finite(found, split, view)

    return Codes(centred("train"), centred("val"), centred("test"), spread * moves)


def _wide(ev: Evaluation, view: str) -> Codes:
    train = _raw(ev, "train", view)
    mean = train.mean(0)
    axes = _leading(train[:AXES_ROWS], mean, alive(train))

    def turned(split: SplitName) -> Tensor:
        return torch.cat([(z @ axes - mean @ axes).float() for z in _raw(ev, split, view).split(AXES_ROWS)])

    found = turned("train")
    unit = spread_of(found, torch.zeros_like(mean_of(found))).square().mean().sqrt()
    return Codes(found, turned("val"), turned("test"), unit.expand(WIDEST))


def _raw(ev: Evaluation, split: SplitName, view: str) -> Tensor:
    return require_finite(ev.codes(split, view), split, view)


def _leading(x: Tensor, mean: Tensor, varies: Tensor) -> Tensor:
    """Return the leading principal axes of wide codes, from a random start: [N, D] -> [D, 512].

    Subspace iteration (Halko et al. 2011, algorithm 4.4); centring is folded in, so that x is never copied.
    """
    axes = torch.randn(x.shape[1], WIDEST, dtype=x.dtype, device=x.device)
    for _ in range(ITERATIONS):
        y = x @ axes - mean @ axes
        # where fewer directions vary than are asked for, QR makes up the rest: not of what never varies
        axes = torch.linalg.qr(x.T @ y - mean[:, None] * y.sum(0)).Q * varies[:, None]
    y = x @ axes - mean @ axes
    found: Tensor = axes @ torch.linalg.eigh(y.T @ y).eigenvectors.flip(1)
    return found


def _components(codes: Codes) -> Codes:
    """Return the first principal components of codes, those that are only rounding set to 0."""
    values, vectors = torch.linalg.eigh(gram(codes.train))
    axes = vectors.flip(1)[:, :COMPONENTS]
    length = values.flip(0)[:COMPONENTS].clamp(min=0).sqrt()
    axes = axes * (length > RESOLUTION * length[0])
    train, val, test = (times(z, axes) for z in (codes.train, codes.val, codes.test))
    return Codes(train, val, test, spread_of(train, torch.zeros_like(axes[0])))
