import pytest
import torch
from sklearn.calibration import calibration_curve

from lvmbench import Attribute
from lvmbench_metrics.calibration import calibrated, ece, reliability
from lvmbench_metrics.linear import linear_probes
from lvmbench_metrics.probing import Probe

A = Attribute("a", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))


def shifted(d, stretch=1.0):
    def draw(n, g):
        a = torch.randint(0, 2, (n, 1), generator=g).float()
        return stretch * (torch.randn(n, 2, generator=g) + d * (a - 0.5)), a

    return draw


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_curve_is_scikit_learns_with_bins_of_equally_many_rows(bins):
    g = torch.Generator().manual_seed(0)
    p = torch.rand(1500, generator=g, dtype=torch.float64)
    y = torch.rand(1500, generator=g) < p
    curve = reliability(p, y, bins)
    observed, predicted = calibration_curve(y, p, n_bins=bins, strategy="quantile")
    assert curve.counts.sum() == 1500
    assert curve.counts.max() - curve.counts.min() <= 1
    # scikit-learn interpolates its edges, so that a row may lie in the bin beside
    assert curve.predicted == pytest.approx(torch.from_numpy(predicted), abs=0.02)
    assert curve.observed == pytest.approx(torch.from_numpy(observed), abs=0.03)


def test_rows_of_one_probability_share_a_bin_and_bins_without_rows_are_left_out():
    curve = reliability(torch.tensor([0.25] * 8 + [0.75] * 2), torch.arange(10) % 2 == 0, 5)
    assert curve.predicted.tolist() == [0.25, 0.75]
    assert curve.observed.tolist() == [0.5, 0.5]
    assert curve.counts.tolist() == [8, 2]


def curve_of(ev, name, bins=15):
    return reliability(*calibrated(linear_probes(ev, "best")[name]), bins)


def test_the_error_is_the_mean_distance_of_the_curve_from_the_diagonal(coded):
    ev = coded([A], shifted(1.5))
    curve = curve_of(ev, "a")
    distance = (curve.predicted - curve.observed).abs()
    expected = float((distance * curve.counts).sum() / curve.counts.sum())
    assert ece.compute(ev)["a"].value == pytest.approx(expected, abs=1e-12)
    assert curve.error == pytest.approx(expected, abs=1e-12)
    assert curve_of(ev, "a", bins=4).counts.tolist() == [250] * 4


def test_a_probe_of_gaussians_is_calibrated_up_to_the_noise_of_its_bins(coded):
    found = ece.compute(coded([A], shifted(1.5), sizes=(4000, 2000, 6000)))["a"]
    # 400 rows a bin: the mean distance of a share from its mean is about sqrt(2 / pi) sqrt(.15 / 400)
    assert found.value < 0.03
    assert found.n == 6000


def sure(logits, labels, classes):
    """A probe that says the same of validation and test rows, far too sure of itself."""
    rows, prior = torch.arange(len(labels)), torch.full((classes,), 1 / classes).log()
    known = torch.ones(classes, dtype=torch.bool)
    return Probe(logits, labels, logits, labels, rows, prior, known, loss=0.0)


def test_validation_rows_put_right_what_a_probe_says_too_surely():
    g = torch.Generator().manual_seed(0)
    p = torch.rand(4000, generator=g, dtype=torch.float64)
    y = (torch.rand(4000, generator=g) < p).long()
    found, observed = calibrated(sure((5 * p.logit() + 3)[:, None], y, 2))
    assert found == pytest.approx(p, abs=0.03)
    assert torch.equal(observed, y == 1)


def test_of_several_classes_a_temperature_puts_right_the_likeliest():
    g = torch.Generator().manual_seed(0)
    p = (1.5 * torch.randn(4000, 3, generator=g, dtype=torch.float64)).softmax(1)
    y = p.multinomial(1, generator=g)[:, 0]
    found, observed = calibrated(sure((5 * p.log()).log_softmax(1), y, 3))
    assert found == pytest.approx(p.amax(1), abs=0.03)
    assert torch.equal(observed, y == p.argmax(1))


def test_several_classes_are_calibrated_by_one_temperature(coded):
    def rows(n, spread, g):
        labels = torch.randint(0, 3, (n,), generator=g)
        return torch.eye(3)[labels] * 2 + spread * torch.randn(n, 3, generator=g), labels

    g = torch.Generator().manual_seed(0)
    ev = coded([RACE], {"train": rows(2000, 0.5, g), "val": rows(3000, 2, g), "test": rows(6000, 2, g)})
    curve = curve_of(ev, "race")
    assert ece.compute(ev)["race"].value < 0.05
    assert 1 / 3 <= curve.predicted.min() < curve.predicted.max() <= 1


def test_the_bootstrap_has_the_value_in_its_middle(coded):
    found = ece.compute(coded([A], shifted(1.5)))["a"]
    assert found.replicates.mean() == pytest.approx(found.value, abs=2e-3)
    assert found.replicates.std() > 1e-3
