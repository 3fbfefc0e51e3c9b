import numpy as np
import pytest
import torch
from scipy import stats

from lvmbench.api import Estimate
from lvmbench.statistics import (
    across_seeds,
    bootstrap_weights,
    holm,
    paired_difference,
    percentile_interval,
    replicates,
)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_weights_have_the_distribution_of_poisson_with_mean_one():
    weights = bootstrap_weights(range(500), 1000)
    counts = torch.bincount(weights.flatten().long(), minlength=8)[:8]
    expected = stats.poisson.pmf(np.arange(8), 1) * weights.numel()
    assert weights.shape == (1000, 500)
    assert weights.dtype == torch.float32
    assert (abs(counts.numpy() - expected) < 5 * np.sqrt(expected) + 5).all()


def test_weights_of_different_rows_and_replicates_are_unrelated():
    weights = bootstrap_weights(range(300), 600)
    for of in (weights, weights.T):
        related = torch.corrcoef(of).fill_diagonal_(0).abs().max()
        assert float(related) < 5.5 / of.shape[1] ** 0.5


def test_a_row_has_its_weights_whatever_rows_stand_beside_it():
    together, alone = bootstrap_weights([5, 9, 10**12], 50), bootstrap_weights([9], 50)
    assert torch.equal(together[:, 1:2], alone)
    assert torch.equal(bootstrap_weights([5, 9], 20), bootstrap_weights([5, 9], 50)[:20])


def test_rows_of_one_identity_are_drawn_together():
    weights = bootstrap_weights([7, 3, 7], 50)
    assert torch.equal(weights[:, 0], weights[:, 2])
    assert not torch.equal(weights[:, 0], weights[:, 1])


def test_replicates_of_rows_are_weighted_means_of_the_first_rows():
    weights = torch.tensor([[1.0, 1.0, 9.0], [0.0, 2.0, 9.0], [0.0, 0.0, 9.0]])
    found = replicates(Estimate.of_rows(torch.tensor([1.0, 3.0])), weights)
    assert found[:2].tolist() == [2, 3]
    assert found[2].isnan()


def test_replicates_of_a_metric_are_its_own_and_a_bare_number_has_none():
    own = torch.tensor([1.0, 2.0])
    assert replicates(Estimate(1.5, replicates=own), torch.ones(2, 3)) is own
    assert replicates(Estimate(1.5), torch.ones(2, 3)) is None


def test_the_percentile_interval_leaves_out_what_is_not_a_number():
    values = torch.arange(1001.0)
    assert percentile_interval(values) == pytest.approx((25, 975))
    assert percentile_interval(torch.cat([values, torch.tensor([torch.nan])])) == percentile_interval(values)
    assert percentile_interval(torch.tensor([torch.nan])) == (None, None)


def test_seeds_alone_have_students_interval():
    values = randn(5)
    found = across_seeds(values)
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((float(values.mean()), low, high))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_one_seed_has_the_interval_of_its_rows():
    boot = 3 + randn(1, 1000)
    found = across_seeds(torch.tensor([3.0]), boot)
    assert (found.low, found.high) == percentile_interval(boot[0])
    assert found.p == pytest.approx(2 * ((boot[0] <= 0).sum() + 1) / 1001)


def test_one_seed_without_replicates_has_no_interval():
    found = across_seeds(torch.tensor([3.0]))
    assert (found.value, found.low, found.high, found.p) == (3, None, None, None)


def test_values_that_never_differ_have_an_interval_of_no_width():
    found = across_seeds(torch.tensor([2.0, 2.0]))
    assert (found.low, found.high, found.p) == (2, 2, 0)
    assert across_seeds(torch.tensor([0.0, 0.0])).p == 1


def test_replicates_that_are_not_numbers_are_left_out():
    boot = randn(3, 1000)
    holes = boot.clone()
    holes[1, 0] = torch.nan
    found, expected = across_seeds(randn(3), holes), across_seeds(randn(3), boot[:, 1:])
    assert (found.low, found.high) == (expected.low, expected.high)


def test_variances_of_seeds_and_rows_add_up():
    values, boot = torch.tensor([1.0, 2.0, 3.0, 4.0]), randn(4, 4000) * 2
    found = across_seeds(values, boot)
    between, rows = float(values.var()) / 4, float(boot.mean(0).var())
    freedom = (between + rows) ** 2 / (between**2 / 3 + rows**2 / 3999)
    reach = stats.t.ppf(0.975, freedom) * (between + rows) ** 0.5
    assert found.high - found.value == pytest.approx(reach)
    assert found.value - found.low == pytest.approx(reach)


def simulate(draw, trials=400):
    """Return how often the interval of a simulated experiment covers its truth."""
    covered = [low <= truth <= high for low, high, truth in (draw(seed) for seed in range(trials))]
    return sum(covered) / trials


def test_intervals_over_seeds_and_rows_cover_the_truth_19_times_in_20():
    weights = bootstrap_weights(range(200), 200).double()
    weights /= weights.sum(1, keepdim=True)

    def experiment(seed):
        g = np.random.default_rng(seed)
        seeds, rows = g.normal(0, 0.1, (4, 1)), g.normal(0, 1.5, 200)
        scores = torch.from_numpy(0.7 + seeds + rows + g.normal(0, 0.5, (4, 200)))
        found = across_seeds(scores.mean(1), scores @ weights.T)
        return found.low, found.high, 0.7

    assert simulate(experiment) == pytest.approx(0.95, abs=0.03)


def test_paired_differences_cover_the_truth_and_gain_from_pairing():
    weights = bootstrap_weights(range(200), 200).double()
    weights /= weights.sum(1, keepdim=True)
    widths = []

    def experiment(seed):
        g = np.random.default_rng(seed)
        shared = g.normal(0, 5, 200)
        a, b = (
            torch.from_numpy(m + g.normal(0, 0.1, (3, 1)) + shared + g.normal(0, 0.5, (3, 200)))
            for m in (1, 0.6)
        )
        boots = [x @ weights.T for x in (a, b)]
        found = paired_difference(a.mean(1), boots[0], b.mean(1), boots[1], paired=False)
        widths.append((found.high - found.low) / 4)
        return found.low, found.high, 0.4

    assert simulate(experiment) >= 0.92
    assert np.mean(widths) < 0.2  # the rows that both share would alone add an error of .5


def test_pairs_of_seeds_are_students_test_of_their_differences():
    a, b = randn(6), randn(6, seed=1) + 1
    found = paired_difference(a, None, b, None)
    assert found.value == pytest.approx(float((a - b).mean()))
    assert found.p == pytest.approx(stats.ttest_rel(a, b).pvalue)


def test_seeds_that_do_not_pair_are_welchs_test():
    a, b = randn(6), 3 * randn(4, seed=1) + 1
    found = paired_difference(a, None, b, None, paired=False)
    assert found.p == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_replicates_of_one_model_alone_tell_nothing_of_a_difference():
    a, b = randn(4), randn(4, seed=1)
    for paired in (True, False):
        with_one = paired_difference(a, randn(4, 100), b, None, paired=paired)
        assert with_one == paired_difference(a, None, b, None, paired=paired)


def test_a_difference_changes_sign_with_its_order():
    a, b, boot = randn(3), randn(3, seed=1), randn(2, 3, 100, seed=2)
    for paired in (True, False):
        there = paired_difference(a, boot[0], b, boot[1], paired=paired)
        back = paired_difference(b, boot[1], a, boot[0], paired=paired)
        assert (there.low, there.high) == pytest.approx((-back.high, -back.low))


def test_holm_gives_the_values_of_his_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_holm_keeps_the_chance_of_any_false_alarm_below_its_level():
    g = np.random.default_rng(0)
    alarms = [min(holm(list(g.random(10)))) < 0.05 for _ in range(2000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)
