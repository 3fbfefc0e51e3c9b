import math

import pytest
import torch
from torch.distributions import Independent, Normal

from lvmbench import NotApplicable
from lvmbench_metrics import generation as metrics
from lvmbench_metrics.generation import DRAWS, generated
from lvmbench_metrics.judging import pictures, said

ALL = (metrics.generated_share, metrics.generated_lift, metrics.reconstructed_share, metrics.judge_accuracy)


class Blind:
    """Sees the second value in nothing."""

    def answers(self, x):
        never = torch.tensor([0.9, 0.1]).log().expand(len(x), 2)
        return {"Left": never, "Right": never, "number": torch.zeros(len(x))}


def test_a_model_that_holds_an_attribute_draws_it_to_order(mirrored):
    ev = mirrored()
    for metric in ALL:
        found = metric.compute(ev)
        assert list(found) == ["Left", "Right"]
        assert [e.value for e in found.values()] == [1, 1]
        assert all((e.replicates == 1).all() for e in found.values())


class HalfBlind:
    """Sees whether the right pixel is bright, and the second value of the left one in nothing."""

    def answers(self, x):
        right = (x.flatten(1)[:, 1] > 0.5).float()
        return Blind().answers(x) | {"Right": torch.stack([1 - right, right], 1).log()}


def test_what_the_judge_cannot_tell_in_real_pictures_it_judges_in_no_others(mirrored):
    ev = mirrored(judge=HalfBlind)
    for metric in (metrics.generated_share, metrics.generated_lift, metrics.reconstructed_share):
        found = metric.compute(ev)
        assert str(found["Left"]) == "the judge cannot tell it in real pictures"
        assert found["Right"].value == 1
    assert metrics.judge_accuracy.compute(ev)["Left"].value == 0.5


def test_a_judge_who_may_be_guessing_is_not_believed(mirrored):
    def coin(told):
        g = torch.Generator().manual_seed(0)
        return torch.cat([torch.randint(0, 2, (len(told), 1), generator=g).float(), told[:, 1:]], 1)

    ev = mirrored(labels=coin)
    assert metrics.judge_accuracy.compute(ev)["Left"].value > 0.5
    assert isinstance(metrics.reconstructed_share.compute(ev)["Left"], NotApplicable)


def test_a_judge_whom_test_pictures_of_one_value_cannot_try_is_not_believed(mirrored):
    def dark_in_test(told):
        return torch.cat([told[:, :1] * (len(told) != 200), told[:, 1:]], 1)

    found = metrics.generated_share.compute(mirrored(labels=dark_in_test))["Left"]
    assert str(found) == "fewer than two classes among 200 labelled test rows"


def test_an_attribute_that_z_does_not_hold_is_drawn_by_chance(mirrored):
    ev = mirrored()
    for name in ("train", "val", "test"):
        left = ev._codes[f"{name}/mean"][:, 0]
        left.copy_(left[torch.randperm(len(left), generator=torch.Generator().manual_seed(len(left)))])
    found = metrics.generated_lift.compute(ev)
    assert abs(found["Left"].value) < 0.25
    assert found["Right"].value == 1
    low, high = found["Left"].replicates.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    assert low < 0 < high


def test_shares_and_their_bootstrap_are_those_of_the_judged_draws(mirrored):
    ev = mirrored()
    found = generated(ev)["Left"]
    own = ev.shared(metrics.densities).by_attribute["Left"]
    for place, value in enumerate(found.values):
        z = metrics.draws(ev, own[value], f"Left/{value}")
        right = [(float(row[0]) > 0.5) == bool(value) for row in z]
        assert float(found.share[place]) == sum(right) / DRAWS
    everyone = ev.shared(metrics.densities).everyone
    bright = float((metrics.draws(ev, everyone, "everyone")[:, 0] > 0.5).double().mean())
    assert found.base.tolist() == pytest.approx([1 - bright, bright])
    expected = math.sqrt(bright * (1 - bright) / DRAWS)
    assert float(found.base_replicates[:, 1].std()) == pytest.approx(expected, rel=0.1)
    torch.testing.assert_close(found.base_replicates.sum(1), torch.ones(1000, dtype=torch.float64))


def test_two_calls_give_one_number(mirrored):
    first, second = (metrics.generated_lift.compute(mirrored(seed=3))["Left"] for _ in range(2))
    assert first.value == second.value
    assert torch.equal(first.replicates, second.replicates)


def test_a_decoder_that_flips_a_pixel_loses_what_reconstruction_keeps(mirrored):
    class Flips:
        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            flipped = torch.stack([1 - z[..., 0], z[..., 1]], -1)
            return Independent(Normal(flipped.view(*z.shape[:-1], 1, 1, 2), 0.1), 3)

    found = metrics.reconstructed_share.compute(mirrored(Flips()))
    assert (found["Left"].value, found["Right"].value) == (0, 1)


def test_recall_is_the_mean_over_values_and_leaves_out_what_has_no_label(mirrored):
    def mostly_dark(told):
        left = told[:, :1].clone()
        left[: len(left) // 2] = math.nan
        left[-10:] = 1.0  # told bright whatever the picture shows
        return torch.cat([left, told[:, 1:]], 1)

    ev = mirrored(labels=mostly_dark)
    labels, bright = ev.labels("test")[:, 0], ev.codes("test")[:, 0] > 0.5
    recall = [float((bright[labels == c] == bool(c)).double().mean()) for c in (0, 1)]
    found = metrics.judge_accuracy.compute(ev)["Left"]
    assert found.value == pytest.approx(sum(recall) / 2)
    assert found.n == 100
    assert float(found.replicates.mean()) == pytest.approx(found.value, abs=0.02)


def test_bernoulli_pixels_are_judged_as_the_judge_has_seen_them(mirrored):
    seen = []

    class Looks:
        def answers(self, x):
            seen.append(x)
            return Blind().answers(x)

    ev = mirrored(judge=Looks, pixels="bernoulli")
    said(ev, torch.full((50, 1, 1, 2), 0.5))
    assert set(seen[0].unique().tolist()) == {0.0, 1.0}


def test_pictures_that_are_none_are_not_judged(mirrored):
    class Broken:
        def encode(self, x):
            return x.flatten(1)

        def decode(self, z):
            return Independent(Normal((z / 0).view(-1, 1, 1, 2), 1.0, validate_args=False), 3)

    with pytest.raises(NotApplicable, match="no pictures"):
        pictures(mirrored(Broken()), torch.zeros(2, 2))


def test_a_single_value_cannot_be_judged(mirrored):
    found = mirrored(labels=lambda told: torch.cat([torch.zeros(len(told), 1), told[:, 1:]], 1))
    for metric in ALL:
        assert isinstance(metric.compute(found)["Left"], NotApplicable)
