from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lvmbench import Budget, Evaluation, LvmbenchError, Schema
from lvmbench.cells import take
from lvmbench.plan import Measure
from lvmbench_metrics import interventions as metrics
from lvmbench_metrics.interventions import (
    deviations,
    differences,
    mixed,
    named_from_differences,
    named_from_variances,
)

F = 4
VOTES = (metrics.beta_vae_score, metrics.factor_vae_score)
ALL = (*VOTES, metrics.irs)


class Toy:
    """Pictures of four pixels, each a factor."""

    factor_names = ("a", "b", "c", "d")

    def sharing(self, factor, groups, each):
        g = torch.Generator().manual_seed(self.factor_names.index(factor))
        pixels = torch.randint(0, 256, (groups, each, F), generator=g, dtype=torch.uint8)
        k = self.factor_names.index(factor)
        pixels[:, :, k] = torch.randint(0, 256, (groups, 1), generator=g, dtype=torch.uint8)
        return pixels[..., None, None]


def looked_at(encode, dataset=None):
    model = SimpleNamespace(encode=encode)
    return Evaluation(model, Schema((F, 1, 1), "gaussian"), {}, Budget(), dataset=dataset or Toy())


def identity(x):
    return x.flatten(1)


def noise(x):
    return torch.randn(len(x), 6)


@pytest.mark.parametrize("metric", ALL)
def test_a_code_of_the_factors_scores_one(metric):
    assert metric.compute(looked_at(identity)).value == pytest.approx(1, abs=0.02)
    assert metric.compute(looked_at(lambda x: -3 * identity(x)[:, [2, 0, 3, 1]])).value > 0.97


@pytest.mark.parametrize("metric", VOTES)
def test_a_code_without_information_scores_chance(metric):
    assert metric.compute(looked_at(lambda x: torch.zeros(len(x), 6))).value == pytest.approx(1 / F)
    found = metric.compute(looked_at(noise), groups=200)
    assert found.value == pytest.approx(1 / F, abs=0.1)
    assert found.n == F * 100
    assert found.note.startswith("chance 0.250")


def test_robustness_of_a_code_without_information_is_about_nothing_whatever_the_size_of_groups():
    for groups, each in ((200, 4), (20, 64)):  # the best of four factors by luck is not the best again
        assert abs(metrics.irs.compute(looked_at(noise), groups=groups, each=each).value) < 0.02
    assert metrics.irs.compute(looked_at(lambda x: torch.zeros(len(x), 6))).value == 0


def test_a_turned_code_is_less_robust_and_names_fewer_factors_by_variance():
    turn = torch.linalg.qr(torch.randn(F, F, generator=torch.Generator().manual_seed(0)))[0]
    ev = looked_at(lambda x: identity(x) @ turn)
    assert metrics.irs.compute(ev).value < 0.6
    assert metrics.factor_vae_score.compute(ev).value < 0.97


def test_robustness_is_that_of_the_factor_that_moves_a_dimension_least():
    # a group's deviations: of pixels drawn evenly, and of halves of two pixels
    found = metrics.irs.compute(looked_at(lambda x: identity(x)[:, :1] + identity(x)[:, 1:2]), groups=200)
    free = deviations((torch.rand(1, 4000, 16, 2) * 255 / 256).sum(3, keepdim=True))
    held = deviations(torch.rand(1, 4000, 16, 1) * 255 / 256)
    assert found.value == pytest.approx(float(1 - held / free), abs=0.02)


def test_dead_dimensions_are_counted_out_and_do_not_vote():
    def padded(x):
        # where it does not vary, the least variance is nobody's: it must not be divided by itself
        return torch.cat([1e-4 * torch.randn(len(x), 3), identity(x), torch.zeros(len(x), 2)], dim=1)

    found = metrics.factor_vae_score.compute(looked_at(padded))
    assert found.note == "chance 0.250, 4 of 9 dimensions active"
    assert found.value > 0.98
    assert metrics.irs.compute(looked_at(padded)).note == "7 of 9 dimensions active"
    assert metrics.irs.compute(looked_at(padded)).value > 0.98  # a dimension weighs as far as it moves
    assert (
        metrics.factor_vae_score.compute(looked_at(lambda x: 0 * padded(x))).note
        == "chance 0.250, 0 of 9 dimensions active"
    )


def test_a_dimension_votes_in_units_of_its_own_spread():
    # the first two dimensions are noisy and large: unscaled, their variance would never be the least
    def stretched(x):
        return (identity(x) + 0.1 * torch.randn(len(x), F)) * torch.tensor([100.0, 30.0, 1.0, 1.0])

    assert metrics.factor_vae_score.compute(looked_at(stretched)).value > 0.95


def test_votes_are_learned_on_other_groups_than_those_that_are_told():
    # every group's vote is one of 50 dimensions at random: on the groups learned from, the majority looks informed
    votes = torch.rand(F, 40, 50, generator=torch.Generator().manual_seed(0))
    train, test = metrics.halves(votes)
    assert float(named_from_variances(train, train).double().mean()) > 0.45
    assert float(named_from_variances(train, test).double().mean()) < 0.4


def test_a_vote_that_nobody_cast_in_training_names_nothing():
    least = torch.ones(2, 3, 5)
    train, test = least.clone(), least.clone()
    train[0, :, 0], train[1, :, 1] = 0, 0
    test[:, :, 4] = 0
    assert not named_from_variances(train, test).any()
    assert named_from_variances(train, train).all()


def test_differences_are_named_as_scikit_learns_classifier_names_them():
    g = torch.Generator().manual_seed(0)
    train, test = (torch.rand(F, 60, 5, generator=g).double() for _ in range(2))
    for points in (train, test):
        points[:, :, :F] -= 0.5 * torch.eye(F)[:, None]
    mean, std = train.flatten(0, 1).mean(0), train.flatten(0, 1).std(0, correction=0)
    labels = torch.arange(F).repeat_interleave(60)
    reference = LogisticRegression(tol=1e-8).fit((train.flatten(0, 1) - mean) / std, labels)
    expected = reference.predict((test.flatten(0, 1) - mean) / std) == labels.numpy()
    found = named_from_differences(train, test).flatten().numpy()
    assert 0.3 < found.mean() < 0.95
    assert (found == expected).mean() > 0.99


def test_two_factors_are_told_apart_too():
    train = torch.tensor([[[0.0, 1.0]] * 5, [[1.0, 0.0]] * 5]).double()
    assert named_from_differences(train, train).all()


def test_the_pairs_of_a_point_come_from_different_groups():
    codes = torch.zeros(1, 3, 6, 1).double()
    codes[0, :, 0::2, 0] = torch.tensor([1.0, 10.0, 100.0])[:, None]  # a pair differs by its group's number
    assert differences(codes)[0, :, 0].tolist() == pytest.approx([37, 37, 37])
    assert mixed(codes).sum() == codes.sum()


def test_deviations_are_the_largest_of_a_group_on_average():
    codes = torch.tensor([[[[0.0], [4.0]], [[1.0], [1.0]]]]).double()
    assert deviations(codes).tolist() == [[1.0]]


@pytest.mark.parametrize("metric", ALL)
def test_a_data_set_that_draws_no_pictures_is_not_applicable(metric):
    ev = Evaluation(SimpleNamespace(encode=identity), Schema((F, 1, 1), "gaussian"), {}, Budget())
    ((score, _),) = take(ev, metric, Measure("m", {}, 1, "m"), "")
    assert score.status == "n/a"
    assert "share a factor" in score.reason


def test_codes_that_are_not_numbers_are_an_error_that_counts_them():
    with pytest.raises(LvmbenchError, match="2048 of 2048"):
        metrics.irs.compute(looked_at(lambda x: identity(x) / 0 * 0))


def test_every_picture_is_encoded_once_for_all_scores():
    seen = []

    def counted(x):
        seen.append(len(x))
        return identity(x)

    ev = looked_at(counted)
    for metric in ALL:
        metric.compute(ev)
    assert sum(seen) == F * 32 * 16
