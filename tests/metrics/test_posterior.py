import math

import pytest
import torch

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.posterior import _temperature, _towards, readers

A = Attribute("a", "binary")


def two(n, g):
    a = torch.randint(0, 2, (n,), generator=g)
    return (torch.randn(n, generator=g) + 2 * (a - 0.5))[:, None], a.float()[:, None]


def test_two_gaussians_are_read_with_bayes_rule(coded):
    ev = coded([A], two, sizes=(6000, 2000, 500))
    said = readers(ev)["a"].test
    expected = torch.sigmoid(2 * ev.codes("test")[:, 0].double())
    torch.testing.assert_close(said[:, 1].exp(), expected, atol=0.03, rtol=0)
    torch.testing.assert_close(said.exp().sum(1), torch.ones(500, dtype=torch.float64))


def test_scores_three_times_too_sure_are_divided_by_three():
    g = torch.Generator().manual_seed(0)
    logit = 2 * torch.randn(20_000, 1, 1, generator=g, dtype=torch.float64)
    labels = (torch.rand(20_000, 1, generator=g) < logit[:, :, 0].sigmoid()).long()
    assert float(_temperature(3 * logit, labels)) == pytest.approx(3, rel=0.1)


def test_the_direction_of_one_of_several_classes_is_against_the_mean_of_the_others():
    weights = torch.tensor([[[1.0, 2, 6], [0, 1, -1]]])  # one task, two dimensions, three classes
    expected = torch.tensor([[1 - 4.0, 0 - 0.0], [2 - 3.5, 1 + 0.5], [6 - 1.5, -1 - 0.5]])
    torch.testing.assert_close(_towards(weights)[0], expected)
    two = _towards(weights[:, :, :1])[0]
    torch.testing.assert_close(two, torch.tensor([[-1.0, 0], [1, 0]]))


def test_the_goal_is_the_mean_score_of_the_validation_rows_that_bear_a_class(coded):
    ev = coded([A], two)
    reader, labels = readers(ev)["a"], ev.labels("val")[:, 0]
    z, train = ev.codes("val").double()[:, 0], ev.codes("train").double()[:, 0]
    u = (z - train.mean()) / train.std(correction=0)
    for c in (0, 1):
        expected = u[labels == c].mean() * reader.towards[c, 0]
        assert abs(float(reader.goal[c])) == pytest.approx(abs(float(expected)))


def test_a_class_without_rows_says_where_it_lacks(coded):
    def only_dark(n, g):
        z, a = two(n, g)
        return z, torch.zeros_like(a) if n == 500 else a

    found = readers(coded([A], only_dark, sizes=(1000, 500, 1000)))["a"]
    assert isinstance(found, NotApplicable)
    assert str(found) == "only 'no' among the val rows"


def test_missing_labels_teach_nothing(coded):
    def wrong_where_missing(n, g):
        z, a = two(n, g)
        missing = torch.arange(n) % 2 == 0
        return torch.where(missing[:, None], -z, z), a.masked_fill(missing[:, None], math.nan)

    ev = coded([A], wrong_where_missing)
    known = ~ev.labels("test")[:, 0].isnan()
    right = (readers(ev)["a"].test.argmax(1) == ev.labels("test")[:, 0])[known]
    assert float(right.double().mean()) > 0.8
