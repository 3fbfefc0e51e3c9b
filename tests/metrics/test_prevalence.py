import math

import pytest
import torch
from scipy.stats import entropy

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.prevalence import label_entropy, prevalence

BALD, RACE = Attribute("bald", "binary"), Attribute("race", "categorical", ("x", "y", "z"))


def labelled(coded, bald, race):
    labels = torch.stack([torch.tensor(bald), torch.tensor(race)], dim=1)
    empty = (torch.zeros(2, 1), torch.full((2, 2), math.nan))
    return coded([BALD, RACE], {"train": empty, "val": empty, "test": (torch.zeros(len(bald), 1), labels)})


def test_prevalence_is_the_share_of_the_second_class_or_of_the_commonest(coded):
    ev = labelled(coded, [1.0, 0, 0, 0, math.nan], [2.0, 2, 1, 0, 2])
    found = prevalence.compute(ev)
    assert (found["bald"].value, found["bald"].n) == (0.25, 4)
    assert (found["race"].value, found["race"].n, found["race"].note) == (0.6, 5, "class z")


def test_entropy_is_in_bits(coded):
    found = label_entropy.compute(labelled(coded, [1.0, 0, 0, 1, math.nan], [2.0, 2, 1, 0, 2]))
    assert found["bald"].value == pytest.approx(1)
    assert found["race"].value == pytest.approx(entropy([0.6, 0.2, 0.2], base=2))


def test_celebas_bald_has_the_entropy_of_its_prevalence(coded):
    bald = (torch.arange(10_000) < 224).float().tolist()
    found = label_entropy.compute(labelled(coded, bald, bald))["bald"]
    assert found.value * math.log(2) == pytest.approx(0.1074, abs=2e-4)


def test_both_move_with_the_rows_that_a_bootstrap_draws(coded):
    ev = labelled(coded, [1.0, 0, 0, 1, 0, 0], [2.0, 2, 1, 0, 2, 1])
    weights, yes = ev.weights().double(), ev.labels()[:, 0].double()
    share = (weights @ yes) / weights.sum(1)
    some = weights.sum(1) > 0
    assert prevalence.compute(ev)["bald"].replicates[some] == pytest.approx(share[some])
    bits = torch.tensor(entropy(torch.stack([share, 1 - share])[:, some], base=2))
    assert label_entropy.compute(ev)["bald"].replicates[some] == pytest.approx(bits)


def test_labels_that_are_all_missing_are_not_applicable(coded):
    found = prevalence.compute(labelled(coded, [math.nan] * 3, [1.0, 1, 0]))
    assert isinstance(found["bald"], NotApplicable)
    assert found["race"].value == pytest.approx(2 / 3)
