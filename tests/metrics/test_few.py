import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.few import auroc_100, drawn
from lvmbench_metrics.logistic import fit
from lvmbench_metrics.probes import auroc

A, B = Attribute("a", "binary"), Attribute("b", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))


def shifted(d, dims=10, prevalence=0.5):
    def draw(n, g):
        a = (torch.rand(n, 1, generator=g) < prevalence).float()
        z = torch.randn(n, dims, generator=g)
        z[:, :1] += d * a
        return z, a

    return draw


def test_each_fit_on_rows_of_its_own_is_scikit_learns():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, 60, 4, generator=g, dtype=torch.float64)
    y = (x[:, :, 0] + torch.randn(3, 60, generator=g) > 0).long()
    found = fit(torch.nn.functional.pad(x, (0, 1), value=1.0), y.T, 2, (0.1,), 1e-8)[0, :, :, 0]
    for own, labels, weights in zip(x, y, found, strict=True):
        reference = LogisticRegression(C=0.1, tol=1e-10).fit(own, labels)
        assert weights[:-1] == pytest.approx(torch.from_numpy(reference.coef_[0]), abs=1e-6)
        assert float(weights[-1]) == pytest.approx(reference.intercept_[0], abs=1e-6)


def test_every_draw_takes_other_rows_and_only_labelled_ones_each_once():
    present = torch.arange(90)[:, None] % torch.tensor([1, 3]) == 0
    rows = drawn(present, 25, 4)
    assert rows.shape == (2, 4, 25)
    assert (rows[1] % 3 == 0).all()
    assert all(len(of.unique()) == 25 for of in rows.flatten(0, 1))
    assert len({tuple(of.sort().values.tolist()) for of in rows[0]}) == 4


def test_it_is_the_mean_of_what_scikit_learn_finds_with_as_many_labels(coded):
    ev = coded([A], shifted(1.5), sizes=(2000, 200, 2000))
    y, mean, std = ev.labels("train")[:, 0], ev.codes("train").mean(0), ev.codes("train").std(0, correction=0)
    z, test = ((ev.codes(s) - mean) / std for s in ("train", "test"))
    found = []
    for seed in range(60):
        rows = torch.randperm(2000, generator=torch.Generator().manual_seed(seed))[:100]
        probe = LogisticRegression(C=0.1).fit(z[rows], y[rows])
        found.append(roc_auc_score(ev.labels()[:, 0], probe.decision_function(test)))
    assert auroc_100.compute(ev, draws=60)["a"].value == pytest.approx(sum(found) / 60, abs=0.01)


def test_it_lies_below_the_probe_of_all_labels_and_rises_with_them(coded):
    ev = coded([A], shifted(1.5, dims=30), sizes=(4000, 500, 2000))
    few, some = auroc_100.compute(ev, labels=20)["a"].value, auroc_100.compute(ev)["a"].value
    assert 0.55 < few < some < auroc.compute(ev, view="mean")["a"].value


def test_several_classes_are_read_one_versus_rest(coded):
    def draw(n, g):
        labels = torch.randint(0, 3, (n,), generator=g)
        return torch.eye(3)[labels] * 8 + torch.randn(n, 3, generator=g), labels

    assert auroc_100.compute(coded([RACE], draw))["race"].value > 0.99


def test_a_draw_of_one_class_knows_nothing(coded):
    # one positive among 2000 rows: no draw of 20 has it
    def draw(n, g):
        a = (torch.arange(n) % 2000 == 0).float()[:, None]
        return torch.randn(n, 3, generator=g) + 5 * a, a

    found = auroc_100.compute(coded([A], draw, sizes=(2000, 1000, 2000)), labels=20, draws=3)["a"]
    assert found.value == 0.5


def test_labels_without_a_tie_to_z_score_chance(coded):
    def draw(n, g):
        return torch.randn(n, 5, generator=g), torch.rand(n, 20, generator=g) < 0.3

    found = auroc_100.compute(coded([Attribute(f"a{i}", "binary") for i in range(20)], draw))
    assert sum(e.value for e in found.values()) / 20 == pytest.approx(0.5, abs=0.01)


def test_replicates_are_about_the_value_and_as_wide_as_the_test_rows_make_it(coded):
    found = auroc_100.compute(coded([A], shifted(1.0), sizes=(1000, 200, 400)))["a"]
    assert found.replicates.mean() == pytest.approx(found.value, abs=3e-3)
    assert 0.01 < found.replicates.std() < 0.04


def test_fewer_labels_than_that_are_not_applicable_with_the_count(coded):
    g = torch.Generator().manual_seed(0)
    parts = {s: shifted(1)(300, g) for s in ("train", "val", "test")}
    z, a = parts["train"]
    parts["train"] = (z, torch.cat([a.masked_fill(torch.arange(300)[:, None] >= 99, math.nan), a], dim=1))
    parts |= {s: (parts[s][0], parts[s][1].repeat(1, 2)) for s in ("val", "test")}
    found = auroc_100.compute(coded([A, B], parts))
    assert isinstance(found["a"], NotApplicable)
    assert "99 labelled" in str(found["a"])
    assert found["b"].value > 0.6
