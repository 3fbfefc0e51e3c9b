import math

import pytest
import torch
from scipy.stats import norm
from torch.nn.functional import binary_cross_entropy_with_logits

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import mlp as module
from lvmbench_metrics.mlp import mlp_auroc, mlp_gap
from lvmbench_metrics.probes import auroc

A, B = Attribute("a", "binary"), Attribute("b", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z", "w"))


def crossed(n, g):
    """Whether two numbers have one sign, which of four quarters they lie in, and the sign of a third."""
    z = torch.randn(n, 3, generator=g)
    one_sign, quarter = (z[:, 0] * z[:, 1] > 0).long(), (z[:, 0] > 0).long() + 2 * (z[:, 1] > 0)
    return z, torch.stack([one_sign, z[:, 2] > 0, quarter ^ one_sign], dim=1)


def test_it_finds_what_is_present_but_not_linear(coded):
    ev = coded([A, B, RACE], crossed, sizes=(3000, 800, 1000))
    deep, gap = mlp_auroc.compute(ev), mlp_gap.compute(ev)
    assert auroc.compute(ev, view="mean")["a"].value < 0.6
    assert all(e.value > 0.98 for e in deep.values())
    assert gap["a"].value > 0.4
    assert gap["b"].value == pytest.approx(0, abs=0.01)


def test_the_gap_is_the_difference_of_two_metrics_row_by_row(coded):
    ev = coded([A, B, RACE], crossed, sizes=(600, 300, 300))
    deep, gap, linear = mlp_auroc.compute(ev), mlp_gap.compute(ev), auroc.compute(ev, view="mean")
    for name, of in gap.items():
        assert of.value == pytest.approx(deep[name].value - linear[name].value, abs=1e-12)
        expected = deep[name].replicates - linear[name].replicates
        assert torch.allclose(of.replicates, expected, atol=1e-12, equal_nan=True)


def test_where_a_line_is_all_there_is_it_scores_the_closed_form(coded):
    def draw(n, g):
        a = torch.randint(0, 2, (n, 1), generator=g).float()
        z = torch.randn(n, 4, generator=g)
        z[:, :1] += 2 * a
        return z, a

    found = mlp_auroc.compute(coded([A], draw, sizes=(4000, 1000, 4000)))["a"]
    assert found.value == pytest.approx(norm.cdf(math.sqrt(2)), abs=0.012)


def test_labels_without_a_tie_to_z_score_chance(coded):
    def draw(n, g):
        return torch.randn(n, 8, generator=g), torch.rand(n, 20, generator=g) < 0.3

    many = [Attribute(f"a{i}", "binary") for i in range(20)]
    found = mlp_auroc.compute(coded(many, draw, sizes=(1000, 400, 800)))
    assert sum(e.value for e in found.values()) / 20 == pytest.approx(0.5, abs=0.016)


def test_the_weights_that_count_are_those_that_validation_rows_liked_best(coded):
    # forty rows in thirty dimensions: the last weights have learned them by heart, and err loudly elsewhere
    def draw(n, g):
        a = torch.randint(0, 2, (n, 1), generator=g).float()
        return torch.randn(n, 30, generator=g) + 0.25 * a, a

    ev = coded([A], draw, sizes=(40, 500, 500))
    probe = ev.shared(module._probes, view="mean")["a"]
    loss = binary_cross_entropy_with_logits(probe.val_scores[:, 0], probe.val_labels.float())
    assert float(loss) == pytest.approx(probe.loss, rel=1e-5)
    assert probe.loss < 1


def test_missing_labels_teach_nothing(coded):
    # among the rows that have it, half are not labelled; of the others, three in five are said to have it. Were
    # what is missing a class, the first would seem to have it less often
    def draw(n, g):
        z, labels = crossed(n, g)
        a, chance = labels[:, :1].float(), torch.rand(n, 1, generator=g)
        return z, torch.where(a == 1, a.masked_fill(chance < 0.5, math.nan), (chance < 0.6).float())

    g = torch.Generator().manual_seed(0)
    z, labels = crossed(1000, g)
    drawn = {"train": draw(4000, g), "val": draw(1500, g), "test": (z, labels[:, :1])}
    assert mlp_auroc.compute(coded([A], drawn))["a"].value > 0.95


def test_two_calls_give_one_number_and_reasons_are_those_of_any_probe(coded):
    values = [
        mlp_auroc.compute(coded([A, B, RACE], crossed, sizes=(200, 100, 100)))["a"].value for _ in range(2)
    ]
    assert values[0] == values[1]
    ev = coded([A], lambda n, g: (torch.randn(n, 2, generator=g), torch.zeros(n, 1)))
    for metric in (mlp_auroc, mlp_gap):
        assert isinstance(metric.compute(ev)["a"], NotApplicable)
