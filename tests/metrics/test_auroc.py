import pytest
import torch
from sklearn.metrics import roc_auc_score

from lvmbench_metrics.auroc import auroc, auroc_matrix, placements

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


def table(step=0.0):
    """Four dimensions and three attributes, of which two are missing in some rows."""
    g = torch.Generator().manual_seed(3)
    positive = torch.rand(300, 3, generator=g) < torch.tensor([0.5, 0.1, 0.7])
    z = torch.randn(300, 4, generator=g, dtype=torch.float64)
    z[:, :3] += positive
    present = torch.rand(300, 3, generator=g) < torch.tensor([1.0, 0.6, 0.6])
    return (z / step).round() * step if step else z, positive, present


@pytest.mark.parametrize("step", [0, 0.5, 3.0])
def test_every_dimension_and_attribute_agree_with_scikit_learn_among_labelled_rows(step):
    z, positive, present = table(step)
    found = auroc_matrix(z, positive, present)
    for d in range(4):
        for a in range(3):
            some = present[:, a]
            expected = roc_auc_score(positive[some, a], z[some, d])
            assert float(found[d, a]) == pytest.approx(expected, abs=1e-12)


def test_an_attribute_that_lacks_a_class_has_no_area_and_leaves_the_others_alone():
    z, positive, present = table()
    whole = auroc_matrix(z, positive, present)
    positive[present[:, 1], 1] = True
    found = auroc_matrix(z, positive, present)
    assert found[:, 1].isnan().all()
    assert torch.equal(found[:, ::2], whole[:, ::2])


@pytest.mark.parametrize("step", [0, 0.5])
def test_the_influence_of_a_row_is_what_its_weight_moves(step):
    z, positive, present = table(step)
    area, influence = placements(z[:, :3], positive, present)
    ones, small = torch.ones(1, 300, dtype=torch.float64), 1e-6
    for k in range(3):
        some = present[:, k]
        assert float(area[k]) == pytest.approx(roc_auc_score(positive[some, k], z[some, k]), abs=1e-12)
        for row in (5, 50, 150):
            heavier = ones.clone()
            heavier[0, row] += small
            moved = auroc(z[some, k], positive[some, k], heavier[:, some]) - area[k]
            assert float(moved) == pytest.approx(float(influence[row, k]) * small / 300, abs=1e-12)
