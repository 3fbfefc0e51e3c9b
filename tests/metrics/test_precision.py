import pytest
import torch
from sklearn.metrics import average_precision_score

from lvmbench_metrics.precision import average_precision

N = 300


def scores(step, seed=0):
    g = torch.Generator().manual_seed(seed)
    positive = torch.rand(N, generator=g) < 0.05
    s = torch.randn(N, generator=g, dtype=torch.float64) + positive
    return (s / step).round() * step if step else s, positive


@pytest.mark.parametrize("step", [0, 0.5, 2.0, 100.0])
def test_average_precision_is_scikit_learns_ties_included(step):
    s, positive = scores(step)
    found = float(average_precision(s, positive, torch.ones(1, N)))
    assert found == pytest.approx(average_precision_score(positive, s), abs=1e-12)


def test_weighted_replicates_agree_with_scikit_learn_one_by_one():
    s, positive = scores(0.5)
    weights = torch.poisson(torch.ones(20, N), generator=torch.Generator().manual_seed(1))
    expected = [average_precision_score(positive, s, sample_weight=w) for w in weights]
    assert average_precision(s, positive, weights).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_weighting_without_positives_gives_nan_and_leaves_the_others_alone():
    s, positive = scores(0)
    empty, full = average_precision(s, positive, torch.stack([(~positive).float(), torch.ones(N)]))
    assert empty.isnan()
    assert float(full) == pytest.approx(average_precision_score(positive, s), abs=1e-12)
