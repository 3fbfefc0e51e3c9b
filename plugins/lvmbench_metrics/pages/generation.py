"""Generating an attribute: pictures drawn to order from the density of a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lvmbench import Evaluation, NotApplicable, Section
from lvmbench_metrics.codes import class_labels
from lvmbench_metrics.densities import densities
from lvmbench_metrics.generation import DRAWS, Generated, draws, generated
from lvmbench_metrics.judging import pictures, said, said_of_real, said_of_reconstructed
from lvmbench_metrics.pages.common import Value, best_held, names, need, percent, table
from lvmbench_metrics.pages.figures import Row, sheet

TITLE = "Generating an attribute"
COLUMNS = 10
OF_ALL = "(density of all codes)"


@dataclass(frozen=True)
class Order:
    """Pictures drawn for one value, and which of them the judge sees it in."""

    label: str
    pictures: Tensor
    seen: tuple[bool | None, ...]
    share: float | None
    base: float | None
    reconstructed: float
    real: float
    data: float
    of_all: bool  # drawn from the density of all codes


def section(ev: Evaluation) -> Section:
    """Show pictures drawn for the values that z holds best, and how many of them bear the value."""
    need(ev, "codes", "decoder", "labels")
    orders = [order for value in best_held(ev) if (order := _order(ev, value))]
    if not orders:
        raise NotApplicable("no value has training pictures enough to learn a density from")
    judged = "judge" in ev.capabilities
    rows = [Row(o.label, o.pictures, _note(o, judged), o.seen if judged else ()) for o in orders]
    everyone = ev.shared(densities).everyone
    rows.append(Row("all codes", pictures(ev, draws(ev, everyone, "everyone")[:COLUMNS]), everyone.note))
    text = (
        "For each value a density of z was fitted to the training pictures that bear it; z drawn from it and decoded "
        "should give pictures that bear it too. Where the density of all codes, whatever the value, finds the codes of "
        f"validation pictures likelier, it stands in its place: {OF_ALL}. "
        + (_with_judge(orders) if judged else _without_judge())
        + "\n\n![pictures drawn for a value](generated.png)"
    )
    return Section(TITLE, text, {"generated.png": sheet(rows)})


def _with_judge(orders: Sequence[Order]) -> str:
    heads = [
        "value",
        "drawn for it",
        "drawn from all codes",
        "reconstructions of bearers",
        "real bearers",
        "test pictures",
    ]
    lines = [
        [
            f"{o.label} {OF_ALL}" if o.of_all else o.label,
            *(percent(s) for s in (o.share or 0.0, o.base or 0.0, o.reconstructed, o.real, o.data)),
        ]
        for o in orders
    ]
    return (
        "A network that learned from the labels judges the pictures: a blue bar, it sees the value; an orange one, it "
        f"does not. The table gives its verdict on {DRAWS} draws of each value. More of them should bear it than of "
        "the draws from all codes, by far, and about as many as of the reconstructions of its bearers. Where these "
        "fail, look at the real test pictures that bear it: where the judge sees it in them, it is lost on the way "
        "through z and the decoder; where it does not even there, its verdict on the value says nothing.\n\n"
        + table(heads, lines)
    )


def _without_judge() -> str:
    return (
        "How many do cannot be told here: no network that saw the labels can judge pictures, because these results "
        "hold no ceiling of the same data and budget. The last row is drawn from a density of all codes."
    )


def _note(order: Order, judged: bool) -> str:
    if order.of_all:
        return f"{percent(order.share or 0.0)} {OF_ALL}" if judged else OF_ALL
    if not judged:
        return ""
    return f"{percent(order.share or 0.0)} bear it; of all {percent(order.base or 0.0)}"


def _order(ev: Evaluation, value: Value) -> Order | None:
    """Return the pictures drawn for a value; None where it has no density of its own."""
    attribute, c = value
    learned = ev.shared(densities)
    own = learned.by_attribute[attribute.name]
    if isinstance(own, NotApplicable) or c not in own:
        return None
    drawn = pictures(ev, draws(ev, own[c], f"{attribute.name}/{c}")[:COLUMNS])
    label, column = names([value])[0], ev.schema.index(attribute.name)
    labels = class_labels(ev, "test")[:, column]
    data = float((labels[labels >= 0] == c).double().mean())
    if "judge" not in ev.capabilities:
        return Order(label, drawn, (), None, None, 0.0, 0.0, data, own[c] is learned.everyone)
    told = ev.shared(generated)[attribute.name]
    assert isinstance(told, Generated)  # there is a density of this value
    place = told.values.index(c)
    again, real = (
        float((ev.shared(of)[:, column] == c)[labels == c].double().mean())
        for of in (said_of_reconstructed, said_of_real)
    )
    seen = tuple((said(ev, drawn)[:, column] == c).tolist())
    share, base = float(told.share[place]), float(told.base[place])
    return Order(label, drawn, seen, share, base, again, real, data, own[c] is learned.everyone)
