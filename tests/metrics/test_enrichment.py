import math

import pytest
import torch
from scipy.stats import fisher_exact, hypergeom
from scipy.stats.contingency import odds_ratio

from lvmbench_metrics import enrichment as module
from lvmbench_metrics.enrichment import enrichment, first_of_each, upper_tail


def drawn(n=400, k=5, c=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    clusters = torch.randint(0, k, (n,), generator=g)
    bears = torch.rand(n, c, generator=g) < 0.1 + 0.5 * (clusters[:, None] == torch.arange(c))
    known = torch.rand(n, c, generator=g) < 0.8
    return clusters, bears, known


def test_p_is_that_of_fishers_exact_test_and_odds_those_of_haldane_for_every_pair():
    clusters, bears, known = drawn()
    found = enrichment(clusters, bears, known, 5)
    for i in range(5):
        for j in range(3):
            own, has = (clusters == i)[known[:, j]], bears[known[:, j], j]
            a, b, c, d = (int(x.sum()) for x in (own & has, own & ~has, ~own & has, ~own & ~has))
            assert float(found.p[i, j]) == pytest.approx(
                fisher_exact([[a, b], [c, d]], alternative="greater").pvalue, rel=1e-9
            )
            log = math.log((a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5)))
            error = sum(1 / (n + 0.5) for n in (a, b, c, d)) ** 0.5
            assert float(found.odds[i, j]) == pytest.approx(math.exp(log))
            assert float(found.low[i, j]) == pytest.approx(math.exp(log - 1.959964 * error), rel=1e-6)
            assert float(found.high[i, j]) == pytest.approx(math.exp(log + 1.959964 * error), rel=1e-6)
            assert float(found.share[i, j]) == pytest.approx(a / (a + b))
            assert float(found.base[i, j]) == pytest.approx((a + c) / (a + b + c + d))
            phi = torch.corrcoef(torch.stack([own, has]).double())[0, 1]
            assert float(found.phi[i, j]) == pytest.approx(float(phi))


def test_the_interval_is_near_that_of_scipy_where_counts_are_large():
    clusters, bears, known = drawn(n=5000)
    own, has = (clusters == 0)[known[:, 0]], bears[known[:, 0], 0]
    table = [
        [int((own & has).sum()), int((own & ~has).sum())],
        [int((~own & has).sum()), int((~own & ~has).sum())],
    ]
    theirs = odds_ratio(table, kind="sample").confidence_interval()
    found = enrichment(clusters, bears, known, 5)
    assert float(found.low[0, 0]) == pytest.approx(theirs.low, rel=0.02)
    assert float(found.high[0, 0]) == pytest.approx(theirs.high, rel=0.02)


def test_the_tail_agrees_with_scipy_however_small_it_is():
    seen, drawn_, bearers, rows = 240, 300, 300, 3000
    counts = (torch.tensor([float(n)], dtype=torch.float64) for n in (seen, drawn_, bearers, rows))
    expected = hypergeom.logsf(seen - 1, rows, bearers, drawn_)
    assert float(upper_tail(*counts).log()) == pytest.approx(expected, rel=1e-9)


def test_the_tail_is_whole_where_nothing_was_seen_and_where_counts_force_it():
    counts = torch.tensor([[0.0, 5, 7, 20], [5, 8, 7, 10], [4, 4, 9, 9]], dtype=torch.float64)
    assert upper_tail(*counts.T) == pytest.approx(torch.ones(3))


def test_tails_taken_a_few_at_a_time_are_the_same(monkeypatch):
    clusters, bears, known = drawn()
    whole = enrichment(clusters, bears, known, 5).p
    monkeypatch.setattr(module, "AT_ONCE", 1)
    torch.testing.assert_close(enrichment(clusters, bears, known, 5).p, whole)


def test_of_each_group_the_first_known_row_counts_column_by_column():
    groups = torch.tensor([70, -3, 70, -3, 70, 8])
    known = torch.tensor([[1, 0], [0, 0], [1, 1], [1, 0], [1, 1], [1, 0]]).bool()
    expected = torch.tensor([[1, 0], [0, 0], [0, 1], [1, 0], [0, 0], [1, 0]]).bool()
    assert torch.equal(first_of_each(groups, known), expected)


def test_an_empty_cluster_and_a_class_that_nobody_bears_are_no_division_by_zero():
    clusters, bears, known = (
        torch.zeros(10, dtype=torch.long),
        torch.zeros(10, 1).bool(),
        torch.ones(10, 1).bool(),
    )
    found = enrichment(clusters, bears, known, 2)
    assert torch.isfinite(torch.stack([found.odds, found.low, found.high, found.p, found.phi])).all()
    assert (found.p == 1).all()
