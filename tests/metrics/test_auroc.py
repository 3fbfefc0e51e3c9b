import pytest
import torch
from sklearn.metrics import roc_auc_score

from lvmbench_metrics.auroc import auroc

ONE = torch.ones(1, 300)


def scores(step, seed=0):
    g = torch.Generator().manual_seed(seed)
    positive = torch.rand(300, generator=g) < 0.3
    s = torch.randn(300, generator=g, dtype=torch.float64) + positive
    return (s / step).round() * step if step else s, positive


@pytest.mark.parametrize("step", [0, 0.5, 2.0])
def test_auroc_is_the_rank_statistic_ties_included(step):
    s, positive = scores(step)
    assert float(auroc(s, positive, ONE)) == pytest.approx(roc_auc_score(positive, s), abs=1e-12)


def test_weighted_replicates_agree_with_scikit_learn_one_by_one():
    s, positive = scores(0.5)
    weights = torch.poisson(torch.ones(20, 300), generator=torch.Generator().manual_seed(1))
    expected = [roc_auc_score(positive, s, sample_weight=w) for w in weights]
    assert auroc(s, positive, weights).tolist() == pytest.approx(expected, abs=1e-12)


def test_a_weighting_that_empties_a_class_gives_nan_and_leaves_the_others_alone():
    s, positive = scores(0)
    weights = torch.stack([positive.float(), torch.ones(300)])
    empty, full = auroc(s, positive, weights)
    assert empty.isnan()
    assert float(full) == pytest.approx(roc_auc_score(positive, s), abs=1e-12)


def test_a_score_that_never_changes_has_an_auroc_of_one_half():
    assert float(auroc(torch.zeros(300), scores(0)[1], ONE)) == 0.5
