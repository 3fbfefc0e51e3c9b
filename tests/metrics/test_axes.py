import math

import pytest
import torch
from sklearn.metrics import mutual_info_score, roc_auc_score

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import axes, probes
from lvmbench_metrics.axes import explicitness, sap_auroc, tad

A, B = Attribute("a", "binary"), Attribute("b", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))
YEARS = Attribute("years", "ordinal", unit="y")


def two(n, g, strength=1.5):
    """Two labels, each in a dimension of its own and the first faintly in a third."""
    y = torch.randint(0, 2, (n, 2), generator=g).float()
    z = torch.randn(n, 3, generator=g, dtype=torch.float64)
    z[:, :2] += strength * y
    z[:, 2] -= 0.5 * y[:, 0]
    return z, y


def test_sap_of_two_classes_is_the_lead_of_the_best_dimension_whichever_way_it_points(coded):
    ev = coded([A, B], lambda n, g: (-(of := two(n, g))[0], of[1]))
    z, y = ev.codes(), ev.labels()
    for name, estimate in sap_auroc.compute(ev).items():
        label = y[:, ev.schema.index(name)]
        each = sorted(abs(2 * roc_auc_score(label, z[:, d]) - 1) for d in range(3))
        assert estimate.value == pytest.approx(each[-1] - each[-2], abs=1e-12)


def test_sap_of_more_classes_is_the_mean_of_one_versus_rest(coded):
    def draw(n, g):
        y = torch.randint(0, 3, (n, 1), generator=g)
        return torch.cat([y, y == 2], dim=1) + torch.randn(n, 2, generator=g, dtype=torch.float64), y

    ev = coded([RACE], draw)
    z, y = ev.codes(), ev.labels()[:, 0]
    each = [sum(abs(2 * roc_auc_score(y == c, z[:, d]) - 1) for c in range(3)) / 3 for d in range(2)]
    assert sap_auroc.compute(ev)["race"].value == pytest.approx(max(each) - min(each), abs=1e-12)


def test_sap_of_a_number_is_the_lead_in_squared_correlation(coded):
    def draw(n, g):
        z = torch.randn(n, 3, generator=g, dtype=torch.float64)
        return z, 40 + z[:, :1] - 0.5 * z[:, 1:2] + torch.randn(n, 1, generator=g)

    ev = coded([YEARS], draw)
    table = torch.corrcoef(torch.cat([ev.codes(), ev.labels().double()], dim=1).T)
    best = table[3, :3].square().sort(descending=True).values
    assert sap_auroc.compute(ev)["years"].value == pytest.approx(float(best[0] - best[1]), abs=1e-9)


def test_an_identity_code_is_separated_and_a_duplicated_one_is_not(coded):
    def draw(copies):
        def of(n, g):
            y = torch.cat([torch.randint(0, 2, (n, 2), generator=g), torch.rand(n, 1, generator=g)], dim=1)
            return y.repeat(1, copies), y

        return of

    attributes = [A, B, YEARS]
    for copies, low, high in ((1, 0.85, 1), (2, 0, 1e-12)):
        found = sap_auroc.compute(coded(attributes, draw(copies)))
        assert all(low <= s.value <= high for s in found.values())
    assert tad.compute(coded(attributes, draw(2))).value == pytest.approx(0, abs=1e-12)
    assert tad.compute(coded(attributes, draw(1))).value == pytest.approx(1, abs=0.1)  # 1/2 for each of two


def test_tad_sums_the_leads_of_captured_attributes_only(coded):
    def draw(n, g):
        z, y = two(n, g)
        weak = (torch.rand(n, 1, generator=g) < 0.5 + 0.1 * (z[:, :1] > 0)).float()  # an AUROC near .6
        return z, torch.cat([y, weak], dim=1)

    ev = coded([A, B, Attribute("weak", "binary")], draw)
    z, y = ev.codes(), ev.labels()
    expected = 0.0
    for a in range(2):
        each = sorted(abs(roc_auc_score(y[:, a], z[:, d]) - 0.5) for d in range(3))
        expected += each[-1] - each[-2]
    found = tad.compute(ev)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.note == "2 of 3 attributes kept"


def test_tad_leaves_out_attributes_that_another_one_tells(coded):
    def draw(n, g):
        z, y = two(n, g)
        flipped = torch.where(torch.rand(n, 1, generator=g) < 0.05, 1 - y[:, :1], y[:, :1])
        return z, torch.cat([y, flipped], dim=1)

    ev = coded([A, B, Attribute("nearly a", "binary")], draw)
    found = tad.compute(ev)
    assert found.note == "1 of 3 attributes kept"
    assert found.value == pytest.approx(sap_auroc.compute(ev)["b"].value / 2, abs=1e-12)


def test_information_that_labels_share_is_counted_where_both_are_known():
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (400, 2), generator=g)
    labels[:, 1] = torch.where(torch.rand(400, generator=g) < 0.2, 1 - labels[:, 0], labels[:, 0])
    labels[:150, 0] = -1
    a, b = labels[150:].T
    shared, own = mutual_info_score(a, b), (mutual_info_score(a, a), mutual_info_score(b, b))
    expected = [shared / own[0], shared / own[1]]
    assert axes._most_shared(labels).tolist() == pytest.approx(expected, abs=1e-9)


def test_explicitness_is_the_mean_of_the_probes_areas_from_chance(coded):
    ev = coded([A, B], two)
    areas = [s.value for s in probes.auroc.compute(ev, view="mean").values()]
    found = explicitness.compute(ev)
    assert found.value == pytest.approx(areas[0] + areas[1] - 1)
    noise = coded(
        [A], lambda n, g: (torch.randn(n, 3, generator=g), torch.randint(0, 2, (n, 1), generator=g))
    )
    assert abs(explicitness.compute(noise).value) < 0.1


def test_explicitness_goes_by_the_attributes_that_have_a_probe(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: two(500, g) for s in ("train", "val", "test")}
    drawn["test"][1][:, 1] = 1  # a class is missing from the test sample
    ev = coded([A, B], drawn)
    assert explicitness.compute(ev).note == "1 of 2 attributes"
    assert explicitness.compute(ev).value == pytest.approx(
        2 * probes.auroc.compute(ev, view="mean")["a"].value - 1
    )
    assert isinstance(sap_auroc.compute(ev)["b"], NotApplicable)
    assert tad.compute(ev).note == "1 of 1 attributes kept"
    drawn["test"][1][:, 0] = 0
    for metric in (explicitness, tad):
        with pytest.raises(NotApplicable):
            metric.compute(coded([A, B], drawn))


def test_rows_without_a_label_are_ignored_and_not_counted(coded):
    def draw(n, g):
        z, y = two(n, g)
        return z, torch.cat([y[:, :1], 30 + z[:, 1:2] + torch.randn(n, 1, generator=g)], dim=1)

    g = torch.Generator().manual_seed(0)
    drawn = {s: draw(1000, g) for s in ("train", "val", "test")}
    z, y = drawn["test"]
    holes = dict(drawn, test=(z, y.masked_fill(torch.arange(1000)[:, None] >= 400, math.nan)))
    few = dict(drawn, test=(z[:400], y[:400]))
    for name in ("a", "years"):
        found, expected = (sap_auroc.compute(coded([A, YEARS], of))[name] for of in (holes, few))
        assert found.n == 400
        assert found.value == pytest.approx(expected.value, abs=1e-12)
        assert float(found.replicates.std() / expected.replicates.std()) == pytest.approx(1, abs=0.15)


def test_a_dimension_that_is_only_rounding_ranks_nothing(coded):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 1), generator=g)
        return torch.cat([1000 + 1e-4 * y, torch.randn(n, 1, generator=g)], dim=1), y

    assert sap_auroc.compute(coded([A], draw))["a"].value < 0.1
    assert tad.compute(coded([A], draw)).value == 0


@pytest.mark.parametrize("name", ["a", "years", "tad"])
def test_the_bootstrap_has_the_spread_of_new_test_rows(coded, name):
    def draw(n, g):
        z, y = two(n, g)
        return z, torch.cat([y[:, :1], 30 + z[:, 1:2] - z[:, 2:] / 2 + torch.randn(n, 1, generator=g)], dim=1)

    def score(seed):
        ev = coded([A, YEARS], draw, sizes=(20, 2, 400), seed=seed)
        return tad.compute(ev) if name == "tad" else sap_auroc.compute(ev)[name]

    found = [score(seed) for seed in range(40)]
    assert all(e.value > 0 for e in found)
    spread = torch.tensor([e.value for e in found]).std()
    told = torch.stack([e.replicates.std() for e in found]).mean()
    assert float(told / spread) == pytest.approx(1, abs=0.35)
