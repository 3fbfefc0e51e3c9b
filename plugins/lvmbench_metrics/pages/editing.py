"""Editing an attribute: a picture changed by a step in z along the direction in which a value is read."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench import Evaluation, NotApplicable, Section
from lvmbench_metrics.codes import class_labels
from lvmbench_metrics.edits import ROWS, Edits, edited, movable, moved
from lvmbench_metrics.judging import pictures, said_of_reconstructed
from lvmbench_metrics.pages.common import Value, best_held, names, need, percent, table
from lvmbench_metrics.pages.figures import Row, sheet
from lvmbench_metrics.posterior import Reader, readers

TITLE = "Editing an attribute"
SHOWN = 10
STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
PICTURES = 2


def section(ev: Evaluation) -> Section:
    """Show pictures on their way towards a value, and how often they arrive without changing in other ways."""
    need(ev, "codes", "decoder", "labels")
    movable(ev)
    starts = {value: _starts(ev, value) for value in best_held(ev, SHOWN)}
    values = [value for value, rows in starts.items() if len(rows)]
    if not values:
        raise NotApplicable("every test picture bears every value that could be asked for")
    judged = "judge" in ev.capabilities
    told = [_edits(ev, value) if judged else None for value in values]
    rows = [
        Row(label, _strip(ev, value, starts[value]), _note(of))
        for value, label, of in zip(values, names(values), told, strict=True)
    ]
    lines = [
        [label, percent(float(of.changed.mean())), percent(float(of.kept.mean())), str(len(of.rows))]
        for label, of in zip(names(values), told, strict=True)
        if of
    ]
    text = (
        "Two test pictures that do not bear a value, reconstructed (0) and moved in z towards those that do, in the "
        "direction in which the value is read and as far as their mean (1). The value should appear, and the rest of "
        "the picture stay; it would be bad if another person came out, or nothing happened.\n\n"
        + (
            _table(lines)
            if lines
            else "No network that saw the labels can judge the edits: there is no ceiling here."
        )
        + "\n\n![pictures moved towards a value](edits.png)"
    )
    heads = [f"{by:g}" for by in STEPS] * PICTURES
    return Section(TITLE, text, {"edits.png": sheet(rows, heads=heads, every=len(STEPS))})


def _table(lines: list[list[str]]) -> str:
    heads = ["towards", "value appears", "other attributes stay", "pictures"]
    told = (
        f"The judge's verdict on up to {ROWS} test pictures in whose reconstruction it does not see the value. Other "
        "attributes that say the same thing (another hair colour) have to change, and count as changed.\n\n"
    )
    return told + table(heads, lines)


def _note(edits: Edits | None) -> str:
    if edits is None:
        return ""
    return f"appears {percent(float(edits.changed.mean()))}, rest {percent(float(edits.kept.mean()))}"


def _edits(ev: Evaluation, value: Value) -> Edits | None:
    told = ev.shared(edited)[value[0].name]
    if isinstance(told, NotApplicable):
        return None
    return next((of for of in told if of.value == value[1]), None)


def _starts(ev: Evaluation, value: Value) -> Tensor:
    """Return test rows that do not bear a value, and in whose reconstruction the judge does not see it."""
    attribute, c = value
    column = ev.schema.index(attribute.name)
    labels = class_labels(ev, "test")[:, column]
    without = (labels >= 0) & (labels != c)
    if "judge" in ev.capabilities:
        without &= ev.shared(said_of_reconstructed)[:, column] != c
    return without.nonzero().flatten()[:PICTURES]


def _strip(ev: Evaluation, value: Value, rows: Tensor) -> Tensor:
    """Return pictures on their way towards a value, one after the other: [n] -> [n * STEPS, C, H, W]."""
    attribute, c = value
    reader = ev.shared(readers)[attribute.name]
    assert isinstance(reader, Reader)  # only what can be read is chosen
    steps = torch.stack([moved(ev, reader, c, rows, by) for by in STEPS], dim=1)  # [n, STEPS, D]
    return pictures(ev, steps.flatten(0, 1))
