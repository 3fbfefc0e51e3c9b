import importlib
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import lvmbench_metrics
from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import densities
from lvmbench_metrics.pages import common, figures, generation, reading, traversals
from lvmbench_metrics.pages.figures import BAR, BLUE, GAP, LEFT, MARGIN, ORANGE, Row, sheet

PARTS = list(lvmbench_metrics.lvmbench_explanations())


def section(name):
    module, function = lvmbench_metrics.lvmbench_explanations()[name].target.split(":")
    return getattr(importlib.import_module(module), function)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_shows_its_pictures_under_its_registered_title(mirrored, name):
    ev = mirrored()
    found = ev.shared(section(name))
    assert found.title == lvmbench_metrics.lvmbench_explanations()[name].summary
    assert found.images
    for picture, image in found.images.items():
        assert f"({picture})" in found.text
        assert image.mode == "RGB"
        assert 300 < image.width < 1200


@pytest.mark.parametrize("name", PARTS)
def test_a_model_without_codes_has_no_part_and_each_says_why(mirrored, name):
    with pytest.raises(NotApplicable, match="the model gives no codes"):
        section(name)(mirrored(SimpleNamespace(log_prob=lambda x: x)))


@pytest.mark.parametrize("name", ["drawing", "traversals", "generation", "editing"])
def test_a_model_without_a_decoder_says_so(mirrored, name):
    with pytest.raises(NotApplicable, match="the model gives no decoder"):
        section(name)(mirrored(SimpleNamespace(encode=lambda x: x.flatten(1))))


@pytest.mark.parametrize("name", ["generation", "editing"])
def test_without_a_judge_pictures_are_shown_and_what_is_missing_is_said(mirrored, name):
    found = mirrored(judge=None).shared(section(name))
    assert found.images
    assert "no ceiling" in found.text
    assert "%" not in found.text.replace("100 %", "")


def test_generated_pictures_carry_the_judges_verdict(mirrored):
    text = mirrored().shared(section("generation")).text
    assert "| Left | 100 % |" in text
    assert "| real bearers |" in text
    assert "| Right | 100 % |" in text


def test_clusters_stand_in_the_table_with_their_evidence(mirrored):
    text = mirrored(rows=(1600, 100, 1600)).shared(section("clusters")).text
    assert "**Left**" in text or "**not Left**" in text
    assert "< 1e-12" in text


def test_where_persons_are_known_the_page_says_that_one_picture_of_each_counts(coded):
    def draw(n, g):
        return torch.randn(n, 2, generator=g), torch.randint(0, 2, (n, 1), generator=g).float()

    told = [
        "one of each person" in section("clusters")(coded([Attribute("a", "binary")], draw, people=of)).text
        for of in (None, 200)
    ]
    assert told == [False, True]


def test_dimensions_are_ranked_by_the_rate_where_there_is_one(mirrored):
    class Gaussian:
        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            return Independent(Normal(z.view(*z.shape[:-1], 1, 1, 2), 0.1), 3)

        def prior(self):
            return Independent(Normal(torch.zeros(2), 1), 1)

        def posterior(self, x):
            return Independent(Normal(torch.zeros(len(x), 2), torch.tensor([1.0, 0.5])), 1)

    ev = mirrored(Gaussian())
    found = traversals._ranking(ev, ev.codes("test").double())
    expected = 0.5 * (0.25 - 1) + np.log(2)
    assert found.unit == "nats"
    np.testing.assert_allclose(found.values.numpy(), [0, expected], atol=1e-6)
    assert traversals._ranking(mirrored(), ev.codes("test").double()).unit == "variance"


def test_values_that_say_the_same_are_shown_once_and_unreadable_ones_last(mirrored):
    def same(told):
        g = torch.Generator().manual_seed(len(told))
        return torch.stack(
            [told[:, 0], torch.randint(0, 2, (len(told),), generator=g).float(), told[:, 2]], 1
        )

    def twice(told):
        return torch.stack([told[:, 0], told[:, 0], told[:, 2]], 1)

    assert common.names(common.best_held(mirrored(labels=same))) == ["Left", "Right"]
    assert common.names(common.best_held(mirrored(labels=twice))) == ["Left"]


def test_nothing_that_can_be_read_is_a_reason(mirrored):
    with pytest.raises(NotApplicable, match="no attribute can be read"):
        common.best_held(mirrored(labels=lambda told: torch.zeros_like(told)))


def test_pictures_lie_in_their_places_with_a_bar_in_the_colour_of_the_verdict():
    pictures = torch.stack([torch.full((1, 2, 2), level) for level in (0.0, 1.0)])
    image = np.asarray(sheet([Row("one", pictures, marks=(True, False))]))
    tile = 64
    top = MARGIN
    first, second = LEFT + 5, LEFT + tile + GAP + 5
    assert image[top + 5, first].tolist() == [0, 0, 0]
    assert image[top + 5, second].tolist() == [255, 255, 255]
    for x, colour in ((first, BLUE), (second, ORANGE)):
        assert tuple(image[top + tile + BAR - 2, x]) == figures._rgb(colour)


def test_a_table_is_markdown():
    assert common.table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_a_bar_in_a_name_begins_no_cell():
    assert common.table(["a|b"], [["c|d"]]) == "| a\\|b |\n| --- |\n| c\\|d |"


def test_dollars_in_names_are_no_formula():
    row = Row("$ $\\x", torch.zeros(1, 1, 2, 2), note="$ $\\x")
    assert sheet([row]).width > 0
    fig, (axes,) = figures.panels(1)
    figures.titled(axes, "$ $\\x", "$ $\\x")
    assert figures.painted(fig).width > 0


def test_two_values_that_are_never_known_together_are_not_the_same(mirrored):
    def by_turns(told):
        return told.masked_fill(torch.arange(len(told))[:, None] % 2 == torch.arange(3), math.nan)

    assert sorted(common.names(common.best_held(mirrored(labels=by_turns)))) == ["Left", "Right"]


def test_a_blind_judge_shows_that_it_sees_nothing_in_real_pictures(mirrored):
    class Blind:
        def answers(self, x):
            never = torch.tensor([0.9, 0.1]).log().expand(len(x), 2)
            return {"Left": never, "Right": never, "number": torch.zeros(len(x))}

    ev = mirrored(judge=Blind)
    bearers = common.percent(float(ev.labels("test")[:, 0].mean()))
    assert f"| Left | 0 % | 0 % | 0 % | 0 % | {bearers} |" in ev.shared(section("generation")).text


def test_what_the_decoder_loses_is_told_from_what_the_judge_cannot_see(mirrored):
    class Dark:
        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            return Independent(Normal(torch.full((*z.shape[:-1], 1, 1, 2), 0.2), 0.1), 3)

    found = generation._order(mirrored(Dark()), common.best_held(mirrored())[0])
    assert (found.reconstructed, found.real) == (0, 1)


def test_what_is_drawn_from_the_density_of_all_codes_says_so(mirrored, monkeypatch):
    assert "(density of all codes) |" not in mirrored().shared(generation.section).text
    ev = mirrored()
    real = ev.shared(densities.densities)
    own = {a: dict.fromkeys(values, real.everyone) for a, values in real.by_attribute.items()}
    monkeypatch.setattr(generation, "densities", lambda ev: replace(real, by_attribute=own))
    orders = [generation._order(ev, value) for value in common.best_held(ev)]
    assert all(order.of_all for order in orders)
    assert generation._note(orders[0], judged=True).endswith("(density of all codes)")
    assert generation._note(orders[0], judged=False) == "(density of all codes)"
    assert "| Left (density of all codes) |" in ev.shared(generation.section).text


def test_a_picture_whose_probability_is_far_from_what_is_asked_for_is_not_shown():
    near, there = reading._nearest(torch.tensor([0.07, 0.27, 0.55, 0.93]))
    assert near.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert there.tolist() == [False, True, True, False, True, True, False, True, False]


def test_the_place_of_a_picture_that_is_not_shown_is_white_and_has_no_bar(mirrored):
    ev = mirrored()
    one = reading._read(ev, common.best_held(ev)[0], "Left")
    ends = (one.p < 0.06) | (one.p > 0.94)
    assert bool(ends.all())  # z is the picture
    image = np.asarray(reading._examples(ev, [one]))
    tile, wide = figures.TILE, figures.TILE + GAP
    x = LEFT + 4 * wide + tile // 2
    column = image[figures.TOP : figures.TOP + tile // 2 + BAR, x]
    assert (column == 255).all()
    assert not (image[figures.TOP : figures.TOP + tile // 2 + BAR, LEFT + tile // 4] == 255).all()


def test_a_value_that_no_test_picture_bears_is_not_shown(mirrored):
    def none_in_test(told):
        left = torch.zeros(len(told), 1) if len(told) == 200 else told[:, :1]
        left[0] = 1.0 if len(told) != 200 else torch.nan
        return torch.cat([left, told[:, 1:]], 1)

    assert common.names(common.best_held(mirrored(labels=none_in_test))) == ["Right"]


def test_a_label_that_is_too_long_does_not_run_into_the_pictures():
    pictures = torch.zeros(1, 1, 2, 2)
    image = np.asarray(sheet([Row("Wearing_Something_" * 9, pictures, "told_at_length " * 9)]))
    assert (image[:, LEFT - 4 : LEFT - 1] == 255).all()


def test_every_attribute_is_shown_before_a_third_value_of_one(coded):
    hair = Attribute("hair", "categorical", ("a", "b", "c", "d"))

    def draw(n, g):
        place, dark = torch.arange(n) % 4, torch.randint(0, 2, (n,), generator=g)
        z = torch.cat([5.0 * torch.nn.functional.one_hot(place, 4), 2.0 * dark[:, None]], 1)
        return z + torch.randn(n, 5, generator=g), torch.stack([place, dark], 1).float()

    shown = common.names(common.best_held(coded([hair, Attribute("Dark", "binary")], draw)))
    assert len(shown) == 5
    assert shown[2] == "Dark"
    assert all(name.startswith("hair: ") for name in (*shown[:2], *shown[3:]))
