"""What each dimension of z does to a picture: one picture, changed along one dimension at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from lvmbench import Evaluation, NotApplicable, Section
from lvmbench_metrics.codes import class_labels, columns, value_name
from lvmbench_metrics.densities import decoded_codes, symbols_of
from lvmbench_metrics.judging import pictures
from lvmbench_metrics.pages.common import need
from lvmbench_metrics.pages.figures import (
    BLUE,
    FAINT,
    MUTED,
    SMALL,
    Row,
    figure,
    painted,
    sheet,
    styled,
    titled,
)

if TYPE_CHECKING:
    from PIL.Image import Image

TITLE = "Traversals"
SHOWN = 10  # dimensions
STEPS = 9
LEAST_CORRELATION = 0.2


@dataclass(frozen=True)
class Ranking:
    """How much each dimension carries [D], in ``unit``, and in words what that is."""

    values: Tensor
    unit: str
    meaning: str


def section(ev: Evaluation) -> Section:
    """Show one picture changed along the dimensions that carry most."""
    need(ev, "codes", "decoder")
    z = decoded_codes(ev, "test")
    if symbols := symbols_of(z):
        return _of_symbols(ev, z, *symbols)
    ranking = _ranking(ev, z)
    order = ranking.values.argsort(descending=True)[:SHOWN]
    base = z[(z - z.mean(0)).square().sum(1).argmin()]
    low, high = z.quantile(0.01, dim=0), z.quantile(0.99, dim=0)
    steps = torch.linspace(0, 1, STEPS, dtype=z.dtype, device=z.device)
    rows = []
    for d in order.tolist():
        line = base.repeat(STEPS, 1)
        line[:, d] = low[d] + steps * (high[d] - low[d])
        like = _most_like(ev, z[:, d])
        label = f"z{d}   {ranking.values[d]:.2g} {ranking.unit}"
        rows.append(Row(label, pictures(ev, line), like))
    text = (
        "One typical picture, and what becomes of it when a single dimension of z runs from the lowest to the highest "
        f"value that it takes on test pictures (1 % to 99 %). Dimensions are ranked by {ranking.meaning}; under each "
        "stands the value it correlates with most, if any reaches 0.2. A row in which nothing changes is a dimension "
        "that the decoder ignores; a row in which everything changes is one that holds many things at once.\n\n"
        "![a picture along single dimensions](traversals.png)\n\n![how much each dimension carries](dimensions.png)"
    )
    heads = ["1 %", *[""] * (STEPS - 2), "99 %"]
    return Section(
        TITLE, text, {"traversals.png": sheet(rows, heads=heads), "dimensions.png": _bars(ranking)}
    )


@torch.no_grad()
def _ranking(ev: Evaluation, z: Tensor) -> Ranking:
    """Rank dimensions by the rate where the posterior tells it apart by dimension, else by spread."""
    if "density" in ev.capabilities:
        try:
            prior = ev.model.prior()
            parts = [_rates(ev.model.posterior(x), prior) for x in ev.batches("test", ev.budget.density_rows)]
            if parts[0].shape[1] == z.shape[1]:
                meaning = "KL(q(z|x) || p(z)), the information on a picture that a dimension carries"
                return Ranking(torch.cat(parts).double().mean(0), "nats", meaning)
        except NotApplicable:
            pass
    return Ranking(z.var(0), "variance", "the variance of the code, for the model tells no rate by dimension")


def _rates(posterior: object, prior: object) -> Tensor:
    """Return the rate of each dimension: [B, D].

    Raises:
        NotApplicable: if the two do not factor into dimensions.
    """
    if isinstance(posterior, Independent) and isinstance(prior, Independent):
        rates: Tensor = kl_divergence(posterior.base_dist, prior.base_dist)
        return rates
    raise NotApplicable("prior and posterior do not factor into dimensions")


def _most_like(ev: Evaluation, code: Tensor) -> str:
    """Return the value that correlates most with a dimension over test rows, or nothing: [N]."""
    labels, found = class_labels(ev, "test"), (LEAST_CORRELATION, "")
    for a, i in columns(ev) if "labels" in ev.capabilities else []:
        known = labels[:, i] >= 0
        for c in range(1 if a.n_classes == 2 else 0, a.n_classes):
            bears = (labels[known, i] == c).double()
            r = float(torch.corrcoef(torch.stack([code[known], bears]))[0, 1]) if bears.std() > 0 else 0.0
            if abs(r) > found[0]:
                found = (abs(r), f"r = {r:+.2f}, {value_name(a, c)}")
    return found[1]


def _bars(ranking: Ranking) -> Image:
    values = ranking.values.sort(descending=True)
    fig = figure(900, 230)
    axes = fig.add_axes((0.07, 0.2, 0.91, 0.62))
    styled(axes)
    many = len(values.values) > 40
    axes.bar(range(len(values.values)), values.values.cpu().numpy(), color=BLUE, width=0.8)
    if not many:
        axes.set_xticks(range(len(values.indices)), [f"z{d}" for d in values.indices.tolist()])
    axes.set_ylabel(ranking.unit, fontsize=SMALL, color=MUTED)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    titled(axes, f"How much each dimension of z carries ({ranking.unit})")
    return painted(fig)


def _of_symbols(ev: Evaluation, z: Tensor, groups: int, classes: int) -> Section:
    """Show one picture with one of its symbols changed to each class."""
    share = z.view(len(z), groups, classes).mean(0)
    entropy = torch.special.entr(share).sum(1)
    order = entropy.argsort(descending=True)[:SHOWN]
    base = z[(z @ share.flatten().clamp(min=1e-9).log()).argmax()]
    rows = []
    for g in order.tolist():
        line = base.view(groups, classes).repeat(classes, 1, 1)
        line[:, g] = torch.eye(classes, dtype=z.dtype, device=z.device)
        own = int(base.view(groups, classes)[g].argmax())
        marks = [True if c == own else None for c in range(classes)]
        rows.append(
            Row(
                f"symbol {g}",
                pictures(ev, line.flatten(1))[:12],
                f"entropy {entropy[g]:.2f} nats",
                marks[:12],
            )
        )
    text = (
        "One typical picture, and what becomes of it when a single one of its symbols is set to each of its classes; "
        "a bar marks the class that the picture has. Symbols are ranked by the entropy of their use on test pictures. "
        "A row in which nothing changes is a symbol that the decoder ignores.\n\n"
        "![a picture with one symbol changed](traversals.png)"
    )
    return Section(TITLE, text, {"traversals.png": sheet(rows)})
