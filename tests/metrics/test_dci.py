import math

import pytest
import torch
from sklearn.linear_model import Lasso, LogisticRegression
from sklearn.metrics import r2_score, roc_auc_score

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import dci, readers, sparse
from lvmbench_metrics.dci import completeness, disentanglement

A, B, C = (Attribute(name, "binary") for name in "abc")
RACE = Attribute("race", "categorical", ("x", "y", "z"))
YEARS = Attribute("years", "ordinal", unit="y")
DIAG = torch.eye(5).double()
TWICE = 1 - math.log(2) / math.log(10)
BACKENDS = {
    "logistic": (
        dci.dci_disentanglement_logistic,
        dci.dci_completeness_logistic,
        dci.dci_informativeness_logistic,
    ),
    "gbt": (dci.dci_disentanglement_gbt, dci.dci_completeness_gbt, dci.dci_informativeness_gbt),
}


@pytest.mark.parametrize(
    ("importance", "d", "c"),
    [
        (DIAG, 1, 1),
        (torch.tensor([[1, 0], [0, 1], [0, 0]]).double(), 1, 1),
        (torch.zeros(10, 10).double(), 0, 0),
        (torch.cat([DIAG, DIAG]), 1, TWICE),
        (DIAG[:2], 1, 1),
        (torch.cat([DIAG, DIAG], dim=1), TWICE, 1),
    ],
    ids=["diagonal", "an empty code", "zeros", "codes twice", "missed factors", "factors twice"],
)
def test_disentanglement_and_completeness_have_their_published_values(importance, d, c):
    assert disentanglement(importance) == pytest.approx(d, abs=1e-12)
    assert completeness(importance) == pytest.approx(c, abs=1e-12)


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_unused_code_changes_nothing_wherever_it_stands(place):
    importance = torch.tensor([[0.8, 0.1, 0.1], [0, 1, 0.3], [0.1, 0, 0.7]]).double()
    empty = torch.cat([importance[:place], torch.zeros(1, 3).double(), importance[place:]])
    assert disentanglement(empty) == pytest.approx(disentanglement(importance), abs=1e-12)


def three(n, g):
    """Three attributes, of two, of three classes and a number, each in a dimension of its own."""
    y = torch.stack(
        [
            torch.randint(0, 2, (n,), generator=g),
            torch.randint(0, 3, (n,), generator=g),
            30 + 9 * torch.randn(n, generator=g),
        ],
        dim=1,
    )
    return y.clone(), y


ATTRIBUTES = [A, RACE, YEARS]


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_finds_the_identity_code_whole_and_the_shuffled_one_empty(coded, backend):
    d, c, i = BACKENDS[backend]
    ev = coded(ATTRIBUTES, three, sizes=(400, 400, 400))
    assert 0.9 <= d.compute(ev).value <= 1
    assert all(0.9 <= s.value <= 1 for s in c.compute(ev).values())
    found = i.compute(ev)
    assert found["a"].value == pytest.approx(1)
    assert found["years"].value > 0.95

    def shuffled(n, g):
        y, _ = three(n, g)
        return y[torch.randperm(n, generator=g)], y

    ev = coded(ATTRIBUTES, shuffled, sizes=(400, 400, 400))
    if backend == "logistic":  # nothing is read, so that there is nothing to tell apart
        with pytest.raises(NotApplicable, match="0 of 3 attributes can be read"):
            d.compute(ev)
    else:
        assert d.compute(ev).value <= 0.2
    assert all(abs(s.value) < 0.25 for s in i.compute(ev).values())


def test_ten_factors_of_ten_levels_said_once_and_twice(coded):
    attributes = [Attribute(f"a{i}", "categorical", tuple("0123456789")) for i in range(10)]

    def draw(copies):
        def of(n, g):
            y = torch.randint(0, 10, (n, 10), generator=g).float()
            return y.repeat(1, copies), y

        return of

    once, twice = (coded(attributes, draw(c), sizes=(1000, 500, 1000)) for c in (1, 2))
    d, c, _ = BACKENDS["logistic"]
    assert 0.9 <= d.compute(once).value <= 1
    assert all(0.8 <= s.value <= 1 for s in c.compute(once).values())
    each = [s.value for s in c.compute(twice).values()]
    assert sum(each) / 10 == pytest.approx(1 - math.log(2) / math.log(20), abs=0.1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_calls_give_one_number(coded, backend):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 3), generator=g).float()
        return (y + torch.randn(n, 3, generator=g)) @ torch.rand(3, 4, generator=g), y

    d, _, i = BACKENDS[backend]
    one, same = (coded([A, B, C], draw, sizes=(600, 400, 400)) for _ in range(2))
    assert d.compute(one).value == d.compute(same).value
    assert i.compute(one)["a"].value == i.compute(same)["a"].value


def test_importances_of_an_attribute_sum_to_one_whatever_its_number_of_classes(coded):
    found = readers.logistic(coded(ATTRIBUTES, three, sizes=(300, 200, 200)), "mean")
    assert [float(r.importance.sum()) for r in found.values()] == pytest.approx([1, 1, 1])


def test_an_importance_that_rounds_to_less_than_none_is_none():
    shares = readers._shares(torch.tensor([3.0, -1e-18, 1.0]).double())
    assert shares.tolist() == [0.75, 0, 0.25]
    assert 0 < disentanglement(torch.stack([shares, shares.flip(0)], dim=1)) < 1


def test_what_the_linear_reader_finds_is_what_is_there_on_test_rows(coded):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 1), generator=g).float()
        z = torch.randn(n, 2, generator=g)
        z[:, :1] += y
        return z, torch.cat([y, 30 + z[:, 1:] + torch.randn(n, 1, generator=g)], dim=1)

    ev = coded([A, YEARS], draw, sizes=(2000, 1000, 2000))
    found = dci.dci_informativeness_logistic.compute(ev)
    z, y = ev.codes(), ev.labels()
    # one dimension holds each: a sparse reader ranks as that dimension does
    assert found["a"].value == pytest.approx(2 * roc_auc_score(y[:, 0], z[:, 0]) - 1, abs=0.02)
    assert found["years"].value == pytest.approx(r2_score(y[:, 1], 30 + z[:, 1]), abs=0.02)
    for estimate in found.values():
        assert 0.005 < float(estimate.replicates.std()) < 0.05
        assert float(estimate.replicates.mean()) == pytest.approx(estimate.value, abs=0.005)


def test_of_many_attributes_that_are_noise_none_is_read(coded):
    many = [Attribute(f"a{i}", "binary") for i in range(40)]

    def draw(n, g):
        return torch.randn(n, 16, generator=g), (
            torch.rand(n, 40, generator=g) < torch.linspace(0.03, 0.5, 40)
        )

    found = readers.logistic(coded(many, draw, sizes=(2000, 600, 600)), "mean")
    assert sum(bool(r.importance.any()) for r in found.values()) <= 1


def test_a_reader_that_finds_nothing_is_empty(coded):
    def draw(n, g):
        return torch.randn(n, 4, generator=g), torch.randint(0, 2, (n, 2), generator=g)

    ev = coded([A, B], draw)
    d, c, i = BACKENDS["logistic"]
    with pytest.raises(NotApplicable, match="0 of 2 attributes can be read"):
        d.compute(ev)
    assert c.compute(ev)["a"].value == 0
    assert c.compute(ev)["a"].note == "no dimension matters to the reader"
    assert i.compute(ev)["a"].value == 0


def test_rows_without_a_label_teach_and_count_nothing(coded):
    g = torch.Generator().manual_seed(0)
    noisy = {
        s: (y + torch.randn(y.shape, generator=g), y)
        for s in ("train", "val", "test")
        for y in [three(900, g)[0]]
    }
    hole = (torch.arange(900) % 3 > 0)[:, None]
    wrong = {s: (z, torch.where(hole, math.nan, y)) for s, (z, y) in noisy.items()}
    few = {s: (z[::3], y[::3]) for s, (z, y) in noisy.items()}
    found, expected = (dci.dci_informativeness_logistic.compute(coded(ATTRIBUTES, of)) for of in (wrong, few))
    for name in ("a", "race", "years"):
        assert found[name].n == expected[name].n == 300
        assert found[name].value == pytest.approx(expected[name].value, abs=0.02)


def test_a_class_that_the_test_rows_lack_is_not_applicable_and_leaves_the_others_alone(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: three(300, g) for s in ("train", "val", "test")}
    z, y = drawn["test"]
    y = y.clone()
    y[:, 0] = 1  # a lacks a class, race one of three
    drawn["test"] = (z[y[:, 1] > 0], y[y[:, 1] > 0])
    for d, c, i in BACKENDS.values():
        ev = coded(ATTRIBUTES, drawn)
        for metric in (c, i):
            found = metric.compute(ev)
            assert "test" in str(found["a"])
            assert found["race"].value > 0.4  # a weighted sum does not tell the middle one of three levels
            assert found["years"].value > 0.9
        assert d.compute(ev).note == "2 of 3 attributes read"


def test_one_attribute_or_one_dimension_is_not_applicable(coded):
    def draw(n, g):
        y = torch.randint(0, 2, (n, 2), generator=g)
        return y[:, :1], y

    d, c, _ = BACKENDS["logistic"]
    with pytest.raises(NotApplicable, match="tell apart"):
        d.compute(coded([A], lambda n, g: (draw(n, g)[1], draw(n, g)[0])))
    assert isinstance(c.compute(coded([A, B], draw))["a"], NotApplicable)


def test_only_the_first_training_rows_are_learned_from(coded, monkeypatch):
    monkeypatch.setattr(readers, "ROWS", 300)
    g = torch.Generator().manual_seed(0)
    drawn = {s: three(600, g) for s in ("train", "val", "test")}
    drawn["train"][1][300:] = math.nan
    for _, _, i in BACKENDS.values():
        assert i.compute(coded(ATTRIBUTES, drawn))["a"].value == pytest.approx(1)
    drawn["train"][1][:300] = math.nan
    for _, _, i in BACKENDS.values():
        assert isinstance(i.compute(coded(ATTRIBUTES, drawn))["years"], NotApplicable)


def standard(n, d):
    g = torch.Generator().manual_seed(2)
    z = (
        torch.randn(n, d, generator=g).double()
        @ (torch.eye(d) + 0.4 * torch.randn(d, d, generator=g)).double()
    )
    z = (z - z.mean(0)) / z.std(0, correction=0)
    y = (z[:, :2] + torch.randn(n, 2, generator=g).double()).double()
    return torch.nn.functional.pad(z, (0, 1), value=1.0), y


@pytest.mark.parametrize("strength", [0.2, 0.02])
def test_the_logistic_readers_weights_are_scikit_learns(strength):
    x, y = standard(500, 6)
    y = (y > torch.tensor([0.0, 1.5])).double()
    found = sparse.fit(x, y, (9.0, strength), logistic=True, tolerance=1e-7)
    assert not found[0, :, :-1].any()
    for t in range(2):
        share = float(y[:, t].mean())
        c = 1 / (500 * strength * math.sqrt(share * (1 - share)))
        reference = LogisticRegression(C=c, l1_ratio=1, solver="saga", tol=1e-8, max_iter=20_000)
        reference.fit(x[:, :-1], y[:, t])
        expected = [*reference.coef_[0], *reference.intercept_]
        assert found[1, t].tolist() == pytest.approx(expected, abs=1e-4)


def test_the_linear_readers_weights_are_the_lassos_missing_targets_left_out():
    x, y = standard(500, 6)
    holes = y.clone()
    holes[::4, 1] = math.nan
    found = sparse.fit(x, holes, (0.1,), logistic=False, tolerance=1e-8)[0]
    for t, some in ((0, slice(None)), (1, ~holes[:, 1].isnan())):
        own = y[some, t]
        reference = Lasso(alpha=0.1 * float(own.std(correction=0)), tol=1e-10).fit(x[some, :-1], own)
        assert found[t].tolist() == pytest.approx([*reference.coef_, reference.intercept_], abs=1e-5)
