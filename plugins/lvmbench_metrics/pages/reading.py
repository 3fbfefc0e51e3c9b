"""Reading an attribute: the probability of a value given a picture, through z, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lvmbench import Evaluation, Section
from lvmbench_metrics import auroc as rank
from lvmbench_metrics.calibration import Reliability, reliability
from lvmbench_metrics.codes import class_labels, weights_of
from lvmbench_metrics.pages.common import Value, best_held, names, need, percent, real, table
from lvmbench_metrics.pages.figures import BLUE, FAINT, MUTED, SMALL, Row, painted, panels, sheet, titled
from lvmbench_metrics.posterior import Reader, readers

if TYPE_CHECKING:
    from PIL.Image import Image

TITLE = "Reading an attribute"
TOLD = (0.01, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.99)  # probabilities that examples are looked for at
WITH_EXAMPLES = 8
NEAR, NEAR_ENDS = 0.1, 0.05  # how far from what is asked for a probability may be


@dataclass(frozen=True)
class Read:
    """What is told of one value on labelled test rows [n], and how it is: p, truth, and the places of the rows."""

    label: str
    p: Tensor
    so: Tensor
    rows: Tensor
    curve: Reliability
    auroc: str


def section(ev: Evaluation) -> Section:
    """Show how well the values that z holds best can be read, and pictures by what is told of them."""
    need(ev, "codes", "labels")
    values = best_held(ev)
    read = [_read(ev, value, label) for value, label in zip(values, names(values), strict=True)]
    lines = [
        [
            r.label,
            r.auroc,
            f"{100 * r.curve.error:.1f} %",
            percent(float(r.so.double().mean())),
            str(len(r.p)),
        ]
        for r in read
    ]
    heads = ["value", "AUROC [95 %]", "calibration error (ECE)", "bear it", "test pictures"]
    text = (
        "How likely is it that a picture bears a value, given nothing but its z? The answer is a logistic regression "
        "that learned on training codes, its confidence set right on validation pictures. Shown are the "
        f"{len(read)} values that it tells best there, no more than two of an attribute while there are others. On the "
        "curves, what is told with 60 % should be so in 60 % of cases: a curve below the diagonal is too sure of "
        "itself, and a value whose curve stays at the left can never be affirmed.\n\n"
        + table(heads, lines)
        + "\n\n![how often what is told is so](reliability.png)\n\nTest pictures by the probability that is told of "
        "them, the nearest to that of each column; a place is blank where none is told a probability within "
        f"{100 * NEAR:.0f} points of it ({100 * NEAR_ENDS:.0f} in the first and last column). A blue bar: the picture "
        "bears the value; an orange one: it does not.\n\n![pictures by the probability told of them](examples.png)"
    )
    images = {"reliability.png": _curves(read), "examples.png": _examples(ev, read[:WITH_EXAMPLES])}
    return Section(TITLE, text, images)


def _read(ev: Evaluation, value: Value, label: str) -> Read:
    attribute, c = value
    reader = ev.shared(readers)[attribute.name]
    assert isinstance(reader, Reader)  # only what can be read is chosen
    labels = class_labels(ev, "test")[:, ev.schema.index(attribute.name)]
    rows = (labels >= 0).nonzero().flatten()
    p, so = reader.test[rows, c].exp(), labels[rows] == c
    weights = weights_of(ev, rows)
    boot = rank.auroc(p, so, weights)
    low, high = boot[~boot.isnan()].quantile(boot.new_tensor([0.025, 0.975])).tolist()
    point = float(rank.auroc(p, so, torch.ones_like(weights[:1])))
    return Read(label, p, so, rows, reliability(p, so), f"{point:.3f} [{low:.3f}, {high:.3f}]")


def _curves(read: Sequence[Read]) -> Image:
    fig, charts = panels(len(read))
    for axes, one in zip(charts, read, strict=True):
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2)
        told, so = one.curve.predicted.cpu().numpy(), one.curve.observed.cpu().numpy()
        axes.plot(told, so, color=BLUE, marker="o", markersize=4, linewidth=1.6, clip_on=False)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        titled(axes, one.label, f"AUROC {one.auroc[:5]},  ECE {100 * one.curve.error:.1f} %")
    for axes in charts[::4]:
        axes.set_ylabel("is so", fontsize=SMALL, color=MUTED)
    for axes in charts[-4:]:
        axes.set_xlabel("told", fontsize=SMALL, color=MUTED)
    fig.tight_layout(pad=0.8, h_pad=1.6, w_pad=1.2)
    return painted(fig)


def _examples(ev: Evaluation, read: Sequence[Read]) -> Image:
    rows = []
    for one in read:
        near, there = _nearest(one.p)
        shown = real(ev, one.rows[near])
        shown[~there.cpu()] = 1  # white, as the page is
        marks = [
            so if shows else None for so, shows in zip(one.so[near].tolist(), there.tolist(), strict=True)
        ]
        rows.append(Row(one.label, shown, marks=marks))
    return sheet(rows, heads=[percent(told) for told in TOLD])


def _nearest(p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of what is nearest to each probability, and whether it is near: [n] -> [T], bool [T]."""
    told = p.new_tensor(TOLD)
    far, near = (p[:, None] - told).abs().min(0)
    most = torch.full_like(told, NEAR)
    most[[0, -1]] = NEAR_ENDS
    return near, far <= most
