import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, trim_mean

from lvmbench.pooling import interquartile_mean, mean, pooled, probability_of_improvement, resampled


def scores(seeds, attributes, seed=0, step=None):
    x = torch.randn(seeds, attributes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x if step is None else (x / step).round() * step


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2), (3, 5), (5, 6), (10, 26)])
def test_the_interquartile_mean_is_scipys_trimmed_mean_of_all_scores_together(shape):
    x = scores(*shape)
    assert float(interquartile_mean(x)) == pytest.approx(trim_mean(x.flatten(), 0.25), abs=1e-12)
    assert float(mean(x)) == pytest.approx(float(np.mean(x.numpy())), abs=1e-12)


def test_the_interquartile_mean_by_hand():
    x = torch.tensor([[0.0, 10.0, 3.0, 4.0], [5.0, 6.0, 7.0, 100.0]])
    assert float(interquartile_mean(x)) == (4 + 5 + 6 + 7) / 4  # without 0, 3 and 10, 100


@pytest.mark.parametrize("step", [None, 0.5, 2.0])
def test_the_probability_of_improvement_is_the_mean_of_mann_and_whitneys_statistic(step):
    x, y = scores(5, 7, seed=1, step=step), scores(4, 7, seed=2, step=step)
    each = [mannwhitneyu(x[:, a], y[:, a]).statistic / 20 for a in range(7)]
    assert float(probability_of_improvement(x, y)) == pytest.approx(np.mean(each), abs=1e-12)


def test_the_probability_of_improvement_by_hand():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    y = torch.tensor([[2.0, 5.0], [0.0, 9.0]])
    # first attribute: 1 beats 0, 3 beats both: 3 of 4; second: two ties and two losses: 1 of 4
    assert float(probability_of_improvement(x, y)) == (3 / 4 + 1 / 4) / 2
    assert float(probability_of_improvement(y, x)) == 1 - (3 / 4 + 1 / 4) / 2
    assert float(probability_of_improvement(x, x)) == 0.5


def test_a_bootstrap_draws_seeds_with_replacement_and_keeps_each_attribute_to_itself():
    x = torch.arange(12.0).view(3, 4)
    drawn = resampled(x, 0)
    assert drawn.shape == (2000, 3, 4)
    for a in range(4):
        assert set(drawn[..., a].flatten().tolist()) == set(x[:, a].tolist())
    same = (drawn[:, 0, 0] == 0) & (drawn[:, 0, 1] == 1)  # attributes draw apart: both from the first seed
    assert float(same.double().mean()) == pytest.approx(1 / 9, abs=0.03)
    assert len({tuple(row.tolist()) for row in drawn[:, :, 0]}) == 3**3


def test_a_seed_of_the_bootstrap_gives_one_interval_and_another_seed_another():
    x, y = scores(5, 6, seed=1), scores(5, 6, seed=2)
    for of in ((interquartile_mean, x), (probability_of_improvement, x, y)):
        assert pooled(*of, seed=0) == pooled(*of, seed=0)
        assert pooled(*of, seed=0).low != pooled(*of, seed=1).low
        assert pooled(*of, seed=0).value == pooled(*of, seed=1).value


def test_the_interval_of_the_mean_is_that_of_independent_seeds():
    # of the mean of A attributes, S seeds each: sqrt of sum of variances of S drawn from S
    x = scores(6, 8)
    found = pooled(mean, x)
    spread = float((x.var(0, correction=0) / 6).sum().sqrt()) / 8
    assert found.value == pytest.approx(float(x.mean()))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * spread, rel=0.06)


def test_two_matrices_draw_apart():
    x = scores(4, 3)
    found = pooled(lambda a, b: mean(a) - mean(b), x, x)
    assert found.value == 0
    assert found.low < -0.1 < 0.1 < found.high


def test_one_seed_has_no_interval():
    assert pooled(mean, scores(1, 5)).low is None
    assert pooled(probability_of_improvement, scores(1, 5), scores(1, 5, seed=1)).low is None
    assert pooled(probability_of_improvement, scores(1, 5), scores(3, 5, seed=1)).low is not None
