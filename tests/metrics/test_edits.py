from dataclasses import replace

import pytest
import torch
from torch.distributions import Independent, Normal

from lvmbench import NotApplicable
from lvmbench_metrics.edits import edit_specificity, edit_success, edited, moved
from lvmbench_metrics.pages.common import percent
from lvmbench_metrics.posterior import readers, space_of


def test_a_step_in_z_changes_one_attribute_and_leaves_the_other(mirrored):
    ev = mirrored()
    for metric in (edit_success, edit_specificity):
        found = metric.compute(ev)
        assert [e.value for e in found.values()] == [1, 1]
        assert all((e.replicates == 1).all() for e in found.values())


def test_a_decoder_that_ignores_z_changes_nothing(mirrored):
    class Deaf:
        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            return Independent(Normal(torch.full((*z.shape[:-1], 1, 1, 2), 0.2), 0.1), 3)

    ev = mirrored(Deaf())
    assert edit_success.compute(ev)["Left"].value == 0
    assert edit_specificity.compute(ev)["Left"].value == 1


def test_a_decoder_that_ties_two_attributes_changes_both(mirrored):
    class Ties:
        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            return Independent(Normal(z[..., :1].expand(*z.shape).reshape(*z.shape[:-1], 1, 1, 2), 0.1), 3)

    ev = mirrored(Ties())
    assert edit_success.compute(ev)["Left"].value == 1
    assert edit_specificity.compute(ev)["Left"].value == 0


def test_rows_in_which_the_value_is_seen_already_are_not_edited(mirrored):
    ev = mirrored()
    for of in edited(ev)["Left"]:
        assert ((ev.codes("test")[of.rows, 0] > 0.5) != bool(of.value)).all()


def test_a_row_is_moved_until_it_scores_as_bearers_do_and_never_back(mirrored):
    ev = mirrored()
    reader, space, rows = readers(ev)["Left"], space_of(ev), torch.arange(200)
    scores = space.into(moved(ev, reader, 1, rows)) @ reader.towards[1]
    before = space.into(ev.codes("test").double()) @ reader.towards[1]
    torch.testing.assert_close(scores, before.clamp(min=float(reader.goal[1])))
    halfway = space.into(moved(ev, reader, 1, rows, by=0.5)) @ reader.towards[1]
    torch.testing.assert_close(halfway, (before + scores) / 2)
    torch.testing.assert_close(moved(ev, reader, 1, rows, by=0.0), ev.codes("test").double())


def test_the_value_is_a_mean_over_values_that_weigh_the_same(mirrored):
    class HalfBlind:
        def answers(self, x):
            side = (x.flatten(1)[:, 0] > 0.5).float() * (x.flatten(1)[:, 1] > 0.5).float()
            told = torch.stack([1 - side, side], 1).log()
            return {"Left": told, "Right": told, "number": side}

    ev = mirrored(judge=HalfBlind)
    told = edited(ev)["Left"]
    assert len(told) == 2
    expected = sum(float(of.changed.mean()) for of in told) / 2
    assert edit_success.compute(ev)["Left"].value == pytest.approx(expected)
    assert 0 < expected < 1


def test_symbols_cannot_be_moved_a_little(mirrored):
    ev = mirrored()
    ev.model.decoded_view = "one-hot"
    with pytest.raises(NotApplicable, match="no line between them"):
        edit_success.compute(ev)


def test_without_other_attributes_nothing_can_stay(mirrored):
    ev = mirrored()
    ev.schema = replace(ev.schema, attributes=(ev.schema.attributes[0],))
    assert edit_success.compute(ev)["Left"].value == 1
    found = edit_specificity.compute(ev)["Left"]
    assert isinstance(found, NotApplicable)
    assert str(found) == "there are no other attributes with classes"
    assert percent(float("nan")) == "–"
