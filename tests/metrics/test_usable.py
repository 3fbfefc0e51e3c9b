import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from lvmbench import Attribute
from lvmbench_metrics.usable import usable_bits, usable_information

A = Attribute("a", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))


def shifted(d, dims=1):
    def draw(n, g):
        a = torch.randint(0, 2, (n, 1), generator=g).float()
        z = torch.randn(n, dims, generator=g)
        z[:, :1] += d * (a - 0.5)
        return z, a

    return draw


@pytest.mark.parametrize(
    ("d", "nats", "share"), [(1, 0.111421, 0.160747), (2, 0.336831, 0.485944), (3, 0.526777, 0.759979)]
)
def test_it_reaches_the_mutual_information_of_two_gaussians(coded, d, nats, share):
    ev = coded([A], shifted(d), sizes=(6000, 2000, 20_000))
    assert usable_information.compute(ev)["a"].value == pytest.approx(share, abs=0.012)
    assert usable_bits.compute(ev)["a"].value == pytest.approx(nats / math.log(2), abs=0.012)


def test_it_rises_to_the_mutual_information_from_below(coded):
    def mean(train):
        draws = [coded([A], shifted(2, dims=12), sizes=(train, 400, 4000), seed=s) for s in range(6)]
        return sum(usable_information.compute(ev, view="mean")["a"].value for ev in draws) / len(draws)

    few, some, many = mean(60), mean(300), mean(4000)
    assert few < some < many < 0.485944 + 0.01
    assert many == pytest.approx(0.485944, abs=0.012)


def test_labels_without_a_tie_to_z_have_none(coded):
    def draw(n, g):
        return torch.randn(n, 4, generator=g), torch.rand(n, 1, generator=g) < 0.1

    found = usable_information.compute(coded([A], draw, sizes=(4000, 1000, 4000)))["a"]
    assert found.value == pytest.approx(0, abs=0.01)


def test_what_can_be_known_is_what_the_shares_of_training_leave_unsaid(coded):
    # in the test rows the attribute is far rarer: a bit is still judged against the best guess of training
    g = torch.Generator().manual_seed(0)
    drawn = {
        s: (torch.randn(500, 2, generator=g), torch.rand(500, 1, generator=g) < 0.5) for s in ("train", "val")
    }
    ev = coded([A], drawn | {"test": (torch.randn(500, 2, generator=g), torch.arange(500) % 50 == 0)})
    assert usable_information.compute(ev)["a"].value == pytest.approx(0, abs=0.03)


def test_it_is_one_minus_the_ratio_of_two_losses_of_scikit_learn(coded):
    def draw(n, g):
        labels = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), n, replacement=True, generator=g)
        return torch.eye(3)[labels] * 2 + torch.randn(n, 3, generator=g), labels

    ev = coded([RACE], draw, sizes=(4000, 1000, 3000))
    y, test = ev.labels("train")[:, 0], ev.labels()[:, 0]
    probe = LogisticRegression(C=1.0).fit(ev.codes("train"), y)
    prior = torch.bincount(y.long()).double() / len(y)
    expected = 1 - log_loss(test, probe.predict_proba(ev.codes())) / log_loss(test, prior.expand(3000, 3))
    found = usable_information.compute(ev)["race"]
    assert found.value == pytest.approx(expected, abs=3e-3)
    assert found.replicates.mean() == pytest.approx(found.value, abs=5e-3)


def test_a_class_that_training_lacks_is_left_out(coded):
    g = torch.Generator().manual_seed(0)

    def draw(n):
        labels = torch.randint(0, 3, (n,), generator=g)
        return torch.eye(3)[labels] * 8 + torch.randn(n, 3, generator=g), labels

    drawn = {s: draw(600) for s in ("train", "val", "test")}
    drawn["train"] = tuple(rows[drawn["train"][1] < 2] for rows in drawn["train"])
    found = usable_information.compute(coded([RACE], drawn))["race"]
    assert found.n == int((drawn["test"][1] < 2).sum())
    assert 0.9 < found.value <= 1
