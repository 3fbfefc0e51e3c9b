import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from lvmbench_metrics.information import (
    Information,
    digitise,
    entropy,
    mutual,
    quantile_edges,
    width_edges,
)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("edges", [quantile_edges, width_edges])
def test_six_values_fall_into_three_bins_two_by_two(edges):
    z = column(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    bins = digitise(z, edges(z, 3))[:, 0]
    assert bins.tolist() == [0, 0, 1, 1, 2, 2]
    assert float(entropy(torch.bincount(bins).double())) == pytest.approx(math.log(3))


def test_bins_of_equal_width_are_those_of_numpy():
    z = torch.randn(500, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.digitize(z[:, 0], np.histogram(z[:, 0], 20)[1][:-1]) - 1
    assert digitise(z, width_edges(z, 20))[:, 0].tolist() == expected.tolist()


@pytest.mark.parametrize("edges", [quantile_edges, width_edges])
def test_a_dimension_that_never_changes_is_one_bin(edges):
    z = torch.full((9, 1), 0.3, dtype=torch.float64)
    assert len(digitise(z, edges(z, 20)).unique()) == 1


def test_each_level_of_a_code_with_few_levels_has_a_bin_of_its_own():
    z = torch.arange(10.0).repeat(50)[:, None]
    bins = digitise(z, quantile_edges(z, 20))
    assert len(torch.cat([z, bins], dim=1).unique(dim=0)) == len(bins.unique()) == 10


def test_a_test_row_beyond_the_training_rows_falls_into_the_last_bin():
    train, test = column(0, 1, 2, 3), column(-9, 9)
    assert digitise(test, width_edges(train, 4))[:, 0].tolist() == [0, 3]


def test_the_published_example_of_mutual_information():
    bins = torch.tensor([[1, 2, 1, 2], [1, 1, 2, 2]]).T - 1
    labels = torch.tensor([[1, 2, 1, 2], [2, 2, 1, 1]]).T - 1
    found = Information(bins, labels, 2, 2).mutual
    assert torch.allclose(found, math.log(2) * torch.eye(2).double(), atol=1e-12)


def drawn(n=700):
    g = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 4, (n, 3), generator=g)
    bins = torch.randint(0, 6, (n, 5), generator=g)
    bins[:, :3] = (bins[:, :3] + labels) // 2
    labels[torch.rand(n, 3, generator=g) < torch.tensor([0.0, 0.3, 0.6])] = -1
    return bins, labels


def test_every_dimension_and_attribute_agree_with_scikit_learn_among_labelled_rows(monkeypatch):
    monkeypatch.setattr("lvmbench_metrics.information.CHUNK", 128)  # counts add up over chunks
    bins, labels = drawn()
    told = Information(bins, labels, 6, 4)
    for a in range(3):
        some = labels[:, a] >= 0
        known = labels[some, a]
        assert float(told.entropy[a]) == pytest.approx(mutual_info_score(known, known), abs=1e-9)
        for d in range(5):
            expected = mutual_info_score(known, bins[some, d])
            assert float(told.mutual[d, a]) == pytest.approx(expected, abs=1e-9)


def test_noise_has_the_plug_in_bias_that_is_known():
    g = torch.Generator().manual_seed(0)
    bins, labels = (
        torch.randint(0, 20, (10_000, 50), generator=g),
        torch.randint(0, 10, (10_000, 1), generator=g),
    )
    bias = float(Information(bins, labels, 20, 10).mutual.mean())
    assert bias == pytest.approx(19 * 9 / 20_000, rel=0.05)


def test_the_influence_of_a_row_is_what_drawing_it_twice_moves(monkeypatch):
    monkeypatch.setattr("lvmbench_metrics.information.CHUNK", 128)
    bins, labels = drawn()
    slopes = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 0, 0], [0, 2, 0], [0, 0, 0]]).double()
    by_entropy = torch.tensor([0.5, 0, -1]).double()

    def score(told):
        return (told.mutual * slopes).sum(0) + told.entropy * by_entropy

    told = Information(bins, labels, 6, 4)
    influence = told.influence(slopes, by_entropy)
    assert torch.allclose(influence.mean(0), torch.zeros(3).double(), atol=1e-12)
    n, steps = len(bins), 1000
    for row in (3, 77, 500):
        # a thousand copies of the sample, and one more of the row: its share grows by 1 / (n steps)
        many = told.counts * steps + Information(bins[[row]], labels[[row]], 6, 4).counts
        again = (mutual(many) * slopes).sum(0) + entropy(many[0].sum(1)) * by_entropy
        expected = (again - score(told)) * n * steps
        assert torch.allclose(influence[row], expected, atol=2e-2, rtol=5e-3)
