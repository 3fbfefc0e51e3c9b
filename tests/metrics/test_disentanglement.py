import math

import pytest
import torch

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import disentanglement as metrics
from lvmbench_metrics.disentanglement import dcimig, mig_sup, modularity, mutual_information_gap

A = Attribute("a", "binary")
DIAG = torch.eye(5).double()
PER_ATTRIBUTE = (metrics.mig_quantile20, metrics.mig_width20)
WHOLE = (metrics.mig_sup_quantile20, metrics.modularity_quantile20, metrics.dcimig_quantile20)
TEN = [Attribute(f"a{i}", "categorical", tuple("0123456789")) for i in range(10)]


def levels(n, g):
    """Ten independent attributes of ten classes."""
    return torch.randint(0, 10, (n, 10), generator=g).float()


def mean(scores):
    return sum(s.value for s in scores.values()) / len(scores)


@pytest.mark.parametrize(
    ("mutual", "expected"),
    [
        (DIAG, 1),
        (torch.tensor([[1, 0], [0, 1], [0, 0]]).double(), 2 / 3),
        (torch.zeros(10, 10).double(), 0),
        (torch.cat([DIAG, DIAG]), 1),
        (DIAG[:2], 1),
        (torch.cat([DIAG, DIAG], dim=1), 8 / 9),
    ],
)
def test_modularity_has_its_published_values(mutual, expected):
    assert float(modularity(mutual)) == pytest.approx(expected, abs=1e-12)


def test_the_gap_is_between_the_two_best_dimensions_as_a_share_of_entropy():
    mutual = torch.tensor([[0.5, 0.1], [0.2, 0.1], [0.0, 0.0]]).double()
    entropy = torch.tensor([0.6, 0.2]).double()
    assert mutual_information_gap(mutual, entropy).tolist() == pytest.approx([0.5, 0])
    assert float(mig_sup(mutual, entropy)) == pytest.approx((1 / 3 + 1 / 6 + 0) / 3)
    assert float(dcimig(mutual, entropy)) == pytest.approx(0.4 / 0.8)


def test_the_only_dimension_leads_by_all_that_it_tells():
    gap = mutual_information_gap(torch.tensor([[0.5]]).double(), torch.tensor([1.0]).double())
    assert gap.tolist() == [0.5]


@pytest.mark.parametrize(
    ("code", "low", "high"),
    [
        (lambda y: y, 0.9, 1.0),
        (torch.zeros_like, 0.0, 0.0),
        (lambda y: torch.cat([y, y], dim=1), 0.0, 0.1),
        (lambda y: y[:, torch.randperm(10, generator=torch.Generator().manual_seed(1))], 0.9, 1.0),
        (lambda y: y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))], 0.0, 0.1),
    ],
    ids=["identity", "zeros", "duplicated", "permuted dimensions", "shuffled rows"],
)
def test_codes_that_are_known_have_the_gaps_that_follow(coded, code, low, high):
    def draw(n, g):
        y = levels(n, g)
        return code(y), y

    ev = coded(TEN, draw, sizes=(3000, 100, 3000))
    for metric in PER_ATTRIBUTE:
        assert low <= mean(metric.compute(ev)) <= high


def test_a_dimension_said_twice_costs_the_gap_but_not_the_lead(coded):
    ev = coded(TEN, lambda n, g: (torch.cat([y := levels(n, g), y], dim=1), y), sizes=(1000, 100, 1000))
    assert metrics.dcimig_quantile20.compute(ev).value > 0.9


def test_a_code_of_the_labels_has_every_score_whole(coded):
    ev = coded(TEN, lambda n, g: (y := levels(n, g), y), sizes=(3000, 100, 3000))
    for metric in WHOLE:
        found = metric.compute(ev)
        assert found.value == pytest.approx(1, abs=0.06)
        assert found.note == "10 attributes"


def noisy(n, g):
    y = torch.randint(0, 2, (n, 1), generator=g).float()
    return torch.cat([2 * y + 0.5 * torch.randn(n, 1, generator=g), torch.randn(n, 1, generator=g)], 1), y


def test_one_outlier_destroys_bins_of_equal_width_and_not_quantiles(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: noisy(10_000, g) for s in ("train", "val", "test")}
    clean = {m: m.compute(coded([A], drawn))["a"].value for m in PER_ATTRIBUTE}
    assert clean[metrics.mig_width20] == pytest.approx(0.913, abs=0.02)
    for split in ("train", "test"):
        drawn[split][0][7, 0] = 200
    spoilt = {m: m.compute(coded([A], drawn))["a"].value for m in PER_ATTRIBUTE}
    assert spoilt[metrics.mig_width20] < 0.01
    assert spoilt[metrics.mig_quantile20] == pytest.approx(clean[metrics.mig_quantile20], abs=0.01)


def test_bins_are_laid_out_on_training_rows(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: noisy(500, g) for s in ("train", "val", "test")}
    drawn["test"] = (drawn["test"][0] + 100, drawn["test"][1])  # beyond the last edge: all in one bin
    assert metrics.mig_quantile20.compute(coded([A], drawn))["a"].value == 0


def test_a_spread_that_is_only_rounding_tells_nothing(coded):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 1), generator=g).float()
        return torch.cat([1000 + 1e-4 * y, torch.randn(n, 1, generator=g)], dim=1), y

    assert metrics.mig_quantile20.compute(coded([A], draw))["a"].value < 0.05


def test_a_number_is_read_by_quantiles_of_its_training_values(coded):
    years = Attribute("years", "ordinal", unit="y")

    def draw(n, g):
        y = 18 + 60 * torch.rand(n, 1, generator=g)
        return torch.cat([y, torch.randn(n, 1, generator=g)], dim=1), y

    found = metrics.mig_quantile20.compute(coded([years], draw))["years"]
    assert found.value == pytest.approx(1, abs=0.1)  # 20 bins of z are finer than 10 of years


def test_rows_without_a_label_are_ignored_and_not_counted(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: noisy(1000, g) for s in ("train", "val", "test")}
    z, y = drawn["test"]
    holes = dict(drawn, test=(z, y.masked_fill(torch.arange(1000)[:, None] >= 400, math.nan)))
    few = dict(drawn, test=(z[:400], y[:400]))
    for metric in PER_ATTRIBUTE:
        found, expected = (metric.compute(coded([A], of))["a"] for of in (holes, few))
        assert found.n == 400
        assert found.value == pytest.approx(expected.value, abs=1e-12)
        assert float(found.replicates.std() / expected.replicates.std()) == pytest.approx(1, abs=0.15)


def test_a_class_that_the_test_rows_lack_is_not_applicable_and_leaves_the_others_alone(coded):
    three = Attribute("three", "categorical", ("x", "y", "z"))

    def draw(n, g):
        y = torch.randint(0, 2, (n, 2), generator=g).float()
        return y + 0.1 * torch.randn(n, 2, generator=g), torch.cat([y[:, :1] * 0, y], dim=1)

    attributes = [A, Attribute("b", "binary"), three]  # of a one class, of three two
    found = metrics.mig_quantile20.compute(coded(attributes, draw))
    assert isinstance(found["a"], NotApplicable)
    assert found["b"].value > 0.9
    assert found["three"].value > 0.9
    assert metrics.modularity_quantile20.compute(coded(attributes, draw)).note == "2 of 3 attributes"


def test_no_attribute_with_two_classes_is_not_applicable(coded):
    ev = coded([A], lambda n, g: (torch.randn(n, 2, generator=g), torch.ones(n, 1)))
    for metric in (*PER_ATTRIBUTE, *WHOLE):
        with pytest.raises(NotApplicable, match="two"):
            metric.compute(ev)
    with pytest.raises(NotApplicable, match="tell apart"):
        metrics.modularity_quantile20.compute(coded([A], noisy))


def test_a_perfect_code_of_more_rows_than_dimensions_is_not_read_the_wrong_way_round(coded):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 2), generator=g).float()
        return y, y

    found = metrics.mig_quantile20.compute(coded([A, Attribute("b", "binary")], draw))
    assert [s.value for s in found.values()] == pytest.approx([1, 1], abs=0.02)


@pytest.mark.parametrize(
    "metric", [metrics.mig_quantile20, metrics.mig_sup_quantile20, metrics.dcimig_quantile20]
)
def test_the_bootstrap_has_the_spread_of_new_test_rows(coded, metric):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 2), generator=g).float()
        noise = torch.randn(n, 3, generator=g)
        mixed = torch.cat([y + 0.8 * noise[:, :2], y[:, :1] + 3 * noise[:, 2:]], dim=1)
        return mixed, y

    def score(seed):
        ev = coded([A, Attribute("b", "binary")], draw, sizes=(5000, 2, 800), seed=seed)
        found = metric.compute(ev)
        return found["a"] if isinstance(found, dict) else found

    found = [score(seed) for seed in range(40)]
    spread = torch.tensor([e.value for e in found]).std()
    told = torch.stack([e.replicates.std() for e in found]).mean()
    assert float(told / spread) == pytest.approx(1, abs=0.35)
