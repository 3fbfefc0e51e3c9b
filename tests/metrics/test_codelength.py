import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lvmbench import Attribute
from lvmbench_metrics import codelength as module
from lvmbench_metrics import linear
from lvmbench_metrics.codelength import codelength, smoothed

A = Attribute("a", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))


def shifted(d, prevalence=0.5):
    def draw(n, g):
        a = (torch.rand(n, 1, generator=g) < prevalence).float()
        return torch.randn(n, 3, generator=g) + d * a, a

    return draw


def test_labels_without_a_tie_to_z_cost_their_entropy(coded):
    ev = coded([A], shifted(0, prevalence=0.1), sizes=(8000, 1000, 10))
    entropy = -(0.1 * math.log2(0.1) + 0.9 * math.log2(0.9))
    assert codelength.compute(ev)["a"].value == pytest.approx(entropy, abs=0.03)


def test_what_z_tells_need_not_be_sent(coded):
    # 1 - I/H of three dimensions that are shifted by 2 / sqrt(3) each: as of one that is shifted by 2
    ev = coded([A], shifted(2 / math.sqrt(3)), sizes=(8000, 1000, 10))
    found = codelength.compute(ev)["a"].value
    assert found == pytest.approx(1 - 0.485944, abs=0.02)


def test_it_is_a_sum_over_blocks_as_a_loop_with_scikit_learn_makes_it(coded, monkeypatch):
    monkeypatch.setattr(module, "SHARES", (0.1, 0.3, 1.0))
    monkeypatch.setattr(linear, "strengths", lambda rows: (0.1,))
    ev = coded([A], shifted(1), sizes=(400, 100, 10))
    order = ev.shared(module._order)
    mean, std = ev.codes("train").mean(0), ev.codes("train").std(0, correction=0)
    z, y = ((ev.codes("train") - mean) / std)[order], ev.labels("train")[order, 0].long()
    bits = 40.0  # the first block, under equal chances
    for start, end in ((40, 120), (120, 400)):
        p = torch.from_numpy(LogisticRegression(C=0.1).fit(z[:start], y[:start]).predict_proba(z[start:end]))
        own = p[torch.arange(end - start), y[start:end]]
        bits -= float(((start * own + 1) / (start + 2)).log2().sum())
    assert codelength.compute(ev)["a"].value == pytest.approx(bits / 400, abs=1e-4)


def test_the_code_of_a_probe_is_a_distribution_and_never_infinite():
    p = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64)
    q = (-smoothed(-p.log(), torch.tensor(7), 3)).exp()
    assert float(q.sum()) == pytest.approx(1)
    assert float(q[0]) == pytest.approx(1 / 10)


def test_a_class_that_is_first_met_late_has_a_finite_length(coded):
    def draw(n, g):
        labels = torch.randint(0, 2, (n,), generator=g)
        labels[:3] = 2
        return torch.randn(n, 3, generator=g) + 3 * torch.eye(3)[labels], labels

    found = codelength.compute(coded([RACE], draw, sizes=(2000, 500, 200)))["race"]
    assert 0.05 < found.value < 0.5


def test_rows_without_a_label_cost_nothing(coded):
    g = torch.Generator().manual_seed(0)
    parts = {s: shifted(1)(2000, g) for s in ("train", "val", "test")}
    z, a = parts["train"]
    holes = {**parts, "train": (z, a.masked_fill(torch.arange(2000)[:, None] % 2 == 0, math.nan))}
    found = codelength.compute(coded([A], holes))["a"]
    assert found.n == 1000
    assert found.value == pytest.approx(codelength.compute(coded([A], parts))["a"].value, abs=0.06)


def test_a_few_labels_among_many_rows_cost_what_they_cost_alone(coded):
    g = torch.Generator().manual_seed(0)
    parts = {s: shifted(0)(2000, g) for s in ("train", "val", "test")}
    z, a = parts["train"]
    parts["train"] = (z, a.masked_fill(torch.arange(2000)[:, None] % 50 > 0, math.nan))
    found = codelength.compute(coded([A], parts))["a"]
    assert found.n == 40
    assert found.value == pytest.approx(1, abs=0.25)
