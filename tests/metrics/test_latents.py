import torch

from lvmbench_metrics.latents import active_units


def test_active_units_are_the_dimensions_that_move_with_the_picture(coded):
    scale = torch.tensor([1.0, 0.2, 0.05, 0.0])  # variances 1, .04, .0025, 0

    ev = coded([], lambda n, g: (50 + torch.randn(n, 4, generator=g) * scale, torch.zeros(n, 0)))
    found = active_units.compute(ev)
    assert found.value == 2
    assert (found.replicates == 2).all()


def test_the_variance_is_the_unbiased_one(coded):
    five = 0.0045**0.5 * torch.arange(-2.0, 3.0)[:, None]  # .01125 by n - 1, .009 by n
    ev = coded([], {"test": (five, torch.zeros(5, 0))})
    assert active_units.compute(ev).value == 1


def test_a_dimension_at_the_threshold_is_uncertain(coded):
    ev = coded([], lambda n, g: (0.1 * torch.randn(n, 1, generator=g), torch.zeros(n, 0)), sizes=(5, 5, 200))
    expected = (ev.codes().double().var(0) > 0.01).sum()
    found = active_units.compute(ev)
    assert found.value == expected
    assert 0 < float(found.replicates.mean()) < 1
