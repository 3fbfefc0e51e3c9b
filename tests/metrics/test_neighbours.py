import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.neighbours import _shares, knn_balanced_accuracy, nearest

A = Attribute("a", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))


def ring(n, g):
    """A disc in a ring: nothing that a line could tell apart."""
    a = torch.randint(0, 2, (n,), generator=g)
    angle, radius = 2 * math.pi * torch.rand(n, generator=g), 1 + 2 * a + 0.3 * torch.randn(n, generator=g)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1), a


def test_the_nearest_rows_are_those_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    train, z = torch.randn(400, 5, generator=g), torch.randn(700, 5, generator=g)
    reference = KNeighborsClassifier(7).fit(train, torch.zeros(400)).kneighbors(z, return_distance=False)
    assert torch.equal(nearest(z, train, 7).sort().values, torch.from_numpy(reference).sort().values)


def test_it_finds_what_no_line_parts(coded):
    assert knn_balanced_accuracy.compute(coded([A], ring))["a"].value > 0.97


def test_shares_of_neighbours_are_judged_by_the_best_threshold_of_validation_rows(coded):
    # one row in twelve is positive: hardly ever are most of its neighbours
    def draw(n, g):
        a = (torch.rand(n, 1, generator=g) < 1 / 12).float()
        return torch.randn(n, 2, generator=g) + 1.5 * a, a

    ev = coded([A], draw, sizes=(3000, 1000, 3000))
    mean, std = ev.codes("train").mean(0), ev.codes("train").std(0, correction=0)
    reference = KNeighborsClassifier(20).fit((ev.codes("train") - mean) / std, ev.labels("train")[:, 0])
    val, test = (reference.predict_proba((ev.codes(s) - mean) / std)[:, 1] for s in ("val", "test"))
    best = max(
        (k / 20 - 0.025 for k in range(21)), key=lambda t: balanced_accuracy_score(ev.labels("val"), val > t)
    )
    expected = balanced_accuracy_score(ev.labels(), test > best)
    found = knn_balanced_accuracy.compute(ev)["a"].value
    assert found == pytest.approx(expected, abs=0.01)
    assert found > balanced_accuracy_score(ev.labels(), test > 0.5) + 0.1


def test_among_several_the_class_wins_that_is_most_above_its_share(coded):
    def draw(n, g):
        labels = torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), n, replacement=True, generator=g)
        return torch.eye(3)[labels] * 2 + torch.randn(n, 3, generator=g), labels

    ev = coded([RACE], draw, sizes=(3000, 500, 2000))
    mean, std = ev.codes("train").mean(0), ev.codes("train").std(0, correction=0)
    y = ev.labels("train")[:, 0]
    reference = KNeighborsClassifier(20).fit((ev.codes("train") - mean) / std, y)
    rise = reference.predict_proba((ev.codes() - mean) / std) / (torch.bincount(y.long()) / 3000).numpy()
    expected = balanced_accuracy_score(ev.labels(), rise.argmax(1))
    assert knn_balanced_accuracy.compute(ev)["race"].value == pytest.approx(expected, abs=0.01)


def test_neighbours_without_a_label_are_not_asked(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: ring(1500, g) for s in ("train", "val", "test")}
    z, a = drawn["train"]
    drawn["train"] = (z, a.float().masked_fill(torch.arange(1500) % 3 > 0, math.nan))
    assert knn_balanced_accuracy.compute(coded([A], drawn))["a"].value > 0.97


def test_shares_are_those_among_labelled_neighbours_and_without_any_those_of_training_rows():
    near, labels = torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([[1], [0], [-1], [-1], [-1], [-1]])
    shares = _shares(near, labels, torch.tensor([[0.9, 0.1]]))
    assert shares.flatten().tolist() == pytest.approx([0.5, 0.5, 0.9, 0.1])


def test_labels_without_a_tie_to_z_score_chance(coded):
    def draw(n, g):
        labels = torch.stack(
            [torch.rand(n, generator=g) < 0.1, torch.randint(0, 3, (n,), generator=g)], dim=1
        )
        return torch.randn(n, 4, generator=g), labels

    found = knn_balanced_accuracy.compute(coded([A, RACE], draw, sizes=(3000, 1000, 3000)))
    assert found["a"].value == pytest.approx(1 / 2, abs=0.05)
    assert found["race"].value == pytest.approx(1 / 3, abs=0.03)


def test_a_rotation_of_z_leaves_it_alone(coded):
    turn = torch.linalg.qr(torch.randn(2, 2, generator=torch.Generator().manual_seed(1))).Q

    def turned(n, g):
        z, a = ring(n, g)
        return z @ turn, a

    one, other = (knn_balanced_accuracy.compute(coded([A], draw))["a"].value for draw in (ring, turned))
    assert one == pytest.approx(other, abs=0.01)


def test_more_neighbours_than_rows_is_not_applicable(coded):
    with pytest.raises(NotApplicable, match="20 neighbours among 9"):
        knn_balanced_accuracy.compute(coded([A], ring, sizes=(9, 9, 9)))
