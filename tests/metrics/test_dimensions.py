import math

import pytest
import torch
from scipy.stats import norm, spearmanr
from sklearn.metrics import roc_auc_score

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.dimensions import best_dimension, best_dimension_spearman, dimension_gap

A = Attribute("a", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))
YEARS = Attribute("years", "ordinal", unit="y")


def moved(*d, prevalence=0.5):
    """A label that moves each dimension by so much."""

    def draw(n, g):
        a = (torch.rand(n, 1, generator=g) < prevalence).float()
        return torch.randn(n, len(d), generator=g) + torch.tensor(d) * a, a

    return draw


def test_the_best_dimension_reaches_its_closed_form_whichever_way_it_points(coded):
    ev = coded([A], moved(0.0, 1.0, -2.0), sizes=(500, 2000, 8000))
    found, gap = best_dimension.compute(ev)["a"], dimension_gap.compute(ev)["a"]
    assert found.value == pytest.approx(0.921350, abs=0.01)
    assert found.note == "dim 2"
    assert gap.value == pytest.approx(0.921350 - 0.760250, abs=0.015)
    assert gap.note == "dim 2 before 1"


def test_dimension_and_direction_are_those_of_validation_rows(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {
        "train": moved(0.0, 0.0)(300, g),
        "val": moved(-2.0, 1.0)(900, g),
        "test": moved(2.0, 5.0)(900, g),
    }
    found = best_dimension.compute(coded([A], drawn))["a"]
    assert found.note == "dim 0"
    assert found.value == pytest.approx(1 - norm.cdf(math.sqrt(2)), abs=0.03)


def test_a_dimension_picked_among_many_that_mean_nothing_scores_chance(coded):
    ev = coded(
        [Attribute(f"a{i}", "binary") for i in range(30)],
        lambda n, g: (torch.randn(n, 50, generator=g), torch.rand(n, 30, generator=g) < 0.3),
        sizes=(200, 300, 800),
    )
    found = best_dimension.compute(ev)
    assert sum(e.value for e in found.values()) / 30 == pytest.approx(0.5, abs=0.013)


def test_one_versus_rest_is_averaged_over_classes_each_in_its_own_direction(coded):
    def draw(n, g):
        labels = torch.randint(0, 3, (n,), generator=g)
        return torch.stack(
            [torch.randn(n, generator=g), -1.5 * labels + torch.randn(n, generator=g)], dim=1
        ), labels

    ev = coded([RACE], draw)
    z, y = ev.codes()[:, 1], ev.labels()[:, 0]
    val = [roc_auc_score(ev.labels("val")[:, 0] == c, ev.codes("val")[:, 1]) for c in range(3)]
    expected = [roc_auc_score(y == c, z if up > 0.5 else -z) for c, up in enumerate(val)]
    assert best_dimension.compute(ev)["race"].value == pytest.approx(sum(expected) / 3, abs=1e-12)


def test_replicates_are_those_of_the_exact_statistic_to_first_order(coded):
    ev = coded([A], moved(0.5, 1.0), sizes=(300, 800, 800))
    found, z, y = best_dimension.compute(ev)["a"], ev.codes()[:, 1], ev.labels()[:, 0]
    exact = torch.tensor([roc_auc_score(y, z, sample_weight=w) for w in ev.weights()[:100]])
    assert found.value == pytest.approx(roc_auc_score(y, z), abs=1e-12)
    assert found.replicates[:100] == pytest.approx(exact, abs=6e-3)


def test_the_gap_is_paired_row_by_row(coded):
    # two dimensions that are the same lead each other by nothing, under every bootstrap
    def draw(n, g):
        z, a = moved(1.0)(n, g)
        return z.repeat(1, 2), a

    gap = dimension_gap.compute(coded([A], draw))["a"]
    assert gap.value == 0
    assert gap.replicates.abs().max() < 1e-9


def test_rows_without_a_label_count_for_nothing(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: moved(0.0, 1.0)(600, g) for s in ("train", "val", "test")}
    holes = {
        s: (z, a.masked_fill(torch.arange(600)[:, None] % 2 == 0, math.nan)) for s, (z, a) in drawn.items()
    }
    halves = {s: (z[1::2], a[1::2]) for s, (z, a) in drawn.items()}
    found, expected = (best_dimension.compute(coded([A], d))["a"] for d in (holes, halves))
    assert (found.value, found.n) == (pytest.approx(expected.value, abs=1e-12), 300)


def test_the_only_dimension_has_no_second_and_pixels_are_no_dimensions(coded):
    assert isinstance(dimension_gap.compute(coded([A], moved(1.0)))["a"], NotApplicable)
    with pytest.raises(NotApplicable, match="513 dimensions"):
        best_dimension.compute(coded([A], moved(*[1.0] * 513), sizes=(50, 50, 50)))


def test_a_number_has_the_rank_correlation_of_its_best_dimension(coded):
    def draw(n, g):
        z = torch.randn(n, 3, generator=g)
        return z, torch.exp(-2 * z[:, 1] + torch.randn(n, generator=g))

    ev = coded([YEARS], draw)
    found = best_dimension_spearman.compute(ev)["years"]
    assert found.value == pytest.approx(-spearmanr(ev.codes()[:, 1], ev.labels()[:, 0]).statistic, abs=1e-12)
    assert found.note == "dim 1"
    assert found.replicates.mean() == pytest.approx(found.value, abs=0.01)


def test_codes_that_never_change_have_no_rank_correlation(coded):
    ev = coded([YEARS], lambda n, g: (torch.ones(n, 2), torch.randn(n, 1, generator=g)))
    assert isinstance(best_dimension_spearman.compute(ev)["years"], NotApplicable)
