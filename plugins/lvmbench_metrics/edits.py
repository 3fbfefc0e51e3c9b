"""Attributes changed in z: a step along a probe's direction, decoded, and judged by a network that saw labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.codes import class_labels, finite_codes, weights_of
from lvmbench_metrics.judging import pictures, said, said_of_reconstructed
from lvmbench_metrics.posterior import Reader, readers, space_of

ROWS = 100  # test rows that are edited towards each value
NEEDS = ("codes", "decoder", "labels", "judge")

Scores = dict[str, Estimate | NotApplicable]


@metric(better="higher", needs=NEEDS, bounds=(0, 1), chance=0.0, family="generation", main=False)
def edit_success(ev: Evaluation) -> Scores:
    """Return the share of edited pictures in which the judge sees the value that was asked for, mean over values.

    Edited are test rows in whose reconstruction the judge sees another value. z moves along the weights of a logistic
    regression, in coordinates of unit spread (the least unlikely step), until its score is the mean score of
    validation rows that bear the value.
    """
    return {a: _mean_over_values(ev, told, "changed") for a, told in ev.shared(edited).items()}


@metric(better="higher", needs=NEEDS, bounds=(0, 1), family="generation", main=False)
def edit_specificity(ev: Evaluation) -> Scores:
    """Return the share of the other attributes that the judge sees as before after such an edit, mean over values.

    Another attribute that says the same (a class of the same thing) counts like any other.
    """
    return {a: _mean_over_values(ev, told, "kept") for a, told in ev.shared(edited).items()}


@dataclass(frozen=True)
class Edits:
    """Test rows that were edited towards one value [n], whether it is seen now, and the share of others kept: [n].

    ``kept`` is NaN where there are no other attributes.
    """

    value: int
    rows: Tensor
    changed: Tensor
    kept: Tensor


def movable(ev: Evaluation) -> None:
    """Stop where z cannot be moved a little.

    Raises:
        NotApplicable: if the decoder takes symbols, between which there is no way.
    """
    if ev.latent != "mean":
        raise NotApplicable("the decoder takes symbols: there is no line between them to move along")


def edited(ev: Evaluation) -> Mapping[str, tuple[Edits, ...] | NotApplicable]:
    """Edit test rows towards each value of each attribute, and have the pictures judged.

    Raises:
        NotApplicable: if the decoder takes symbols, between which there is no way.
    """
    movable(ev)
    return {
        name: reader if isinstance(reader, NotApplicable) else _of_attribute(ev, name, reader)
        for name, reader in ev.shared(readers).items()
    }


def _of_attribute(ev: Evaluation, name: str, reader: Reader) -> tuple[Edits, ...]:
    before, column = ev.shared(said_of_reconstructed), ev.schema.index(name)
    present = torch.unique(class_labels(ev, "train")[:, column]).tolist()
    others = [i for i, a in enumerate(ev.schema.attributes) if i != column and not a.is_number]
    found = []
    for value in range(len(reader.goal)):
        rows = (before[:, column] != value).nonzero().flatten()[:ROWS]
        if value not in present or not len(rows):
            continue
        after = said(ev, pictures(ev, moved(ev, reader, value, rows)))
        same = (after == before[rows])[:, others].double()
        found.append(Edits(value, rows, (after[:, column] == value).double(), same.mean(1)))
    return tuple(found)


def moved(ev: Evaluation, reader: Reader, value: int, rows: Tensor, by: float = 1.0) -> Tensor:
    """Return the codes of test rows, moved a share of the way towards a value: [n] -> [n, D].

    What of a code lies off the axes that vary stays as it is; no code is moved away from the value.
    """
    z, space = finite_codes(ev, "test", "z")[rows], ev.shared(space_of)
    towards = reader.towards[value]
    far = (reader.goal[value] - space.into(z) @ towards).clamp(min=0) / towards.square().sum()
    return z + by * far[:, None] * (space.out(towards) - space.mean)


def _mean_over_values(
    ev: Evaluation, told: tuple[Edits, ...] | NotApplicable, what: str
) -> Estimate | NotApplicable:
    if isinstance(told, NotApplicable):
        return told
    if not told:
        return NotApplicable("no test picture is seen to bear another value")
    values = torch.stack([getattr(of, what).mean() for of in told])
    if bool(values.isnan().any()):
        return NotApplicable("there are no other attributes with classes")
    many = []
    for of in told:
        weights = weights_of(ev, of.rows).double()
        many.append(weights @ getattr(of, what) / weights.sum(1))
    rows = sum(len(of.rows) for of in told)
    return Estimate(float(values.mean()), replicates=torch.stack(many).nanmean(0), n=rows)
