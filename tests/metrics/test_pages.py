import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

import lvmbench_metrics
from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.pages import common, figures, traversals
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
    assert "| Right | 100 % |" in text


def test_clusters_stand_in_the_table_with_their_evidence(mirrored):
    text = mirrored(rows=(1600, 100, 1600)).shared(section("clusters")).text
    assert "**Left**" in text or "**not Left**" in text
    assert "< 1e-12" in text


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
