import pytest
import torch
from scipy.stats import rankdata, spearmanr

from lvmbench_metrics.ranks import midranks, spearman

N = 200


def pair(step):
    g = torch.Generator().manual_seed(0)
    a = torch.randn(N, generator=g, dtype=torch.float64)
    b = a + torch.randn(N, generator=g, dtype=torch.float64)
    return ((x / step).round() * step if step else x for x in (a, b))


@pytest.mark.parametrize("step", [0, 0.5, 2.0])
def test_the_rank_correlation_is_scipys_ties_included(step):
    a, b = pair(step)
    assert float(spearman(a, b, torch.ones(1, N))) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_a_weight_counts_as_so_many_rows():
    a, b = pair(0.5)
    weights = torch.poisson(torch.ones(600, N), generator=torch.Generator().manual_seed(1))
    again = [w.long() for w in weights[[0, 299, 599]]]
    expected = [spearmanr(a.repeat_interleave(w), b.repeat_interleave(w)).statistic for w in again]
    assert spearman(a, b, weights)[[0, 299, 599]].tolist() == pytest.approx(expected, abs=1e-12)
    assert midranks(a, torch.ones(1, N))[0] + 0.5 == pytest.approx(torch.from_numpy(rankdata(a)))


def test_values_that_never_change_have_no_rank_correlation():
    assert spearman(torch.zeros(N), torch.arange(N), torch.ones(1, N)).isnan()
