import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import densities as module
from lvmbench_metrics.densities import (
    LEAST_ROWS,
    Gaussians,
    Symbols,
    _of_attribute,
    densities,
    density_bits,
    symbols_of,
)
from lvmbench_metrics.mixtures import Space

A = Attribute("a", "binary")


def two(d):
    """a ~ Bernoulli(1/2), z | a ~ N(+-d/2, 1), beside a dimension of noise."""

    def draw(n, g):
        a = torch.randint(0, 2, (n,), generator=g)
        z = torch.randn(n, 2, generator=g)
        z[:, 0] += d * (a - 0.5)
        return z, a.float()[:, None]

    return draw


@pytest.mark.parametrize(("d", "bits"), [(0, 0.0), (1, 0.160747), (2, 0.485944), (3, 0.759979)])
def test_bits_are_the_information_of_two_gaussians(coded, d, bits):
    found = density_bits.compute(coded([A], two(d), sizes=(6000, 1000, 6000)))["a"]
    assert found.value == pytest.approx(bits, abs=0.02)
    assert float(found.replicates.std()) < 0.02
    assert found.n == 6000


def test_what_z_does_not_tell_apart_has_one_density(coded):
    def noise(n, g):
        return torch.randn(n, 4, generator=g), torch.randint(0, 2, (n, 1), generator=g).float()

    found = density_bits.compute(coded([A], noise, sizes=(60, 300, 300)))["a"]
    assert found.value == pytest.approx(0, abs=0.01)


def test_where_validation_is_silent_nothing_is_told(coded):
    g = torch.Generator().manual_seed(0)
    parts = {name: two(3)(500, g) for name in ("train", "val", "test")}
    parts["val"] = (parts["val"][0], torch.full((500, 1), math.nan))
    found = density_bits.compute(coded([A], parts))["a"]
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.note == "the density of all codes"


def test_symbols_that_say_one_thing_many_times_are_not_too_sure(coded):
    def repeated(n, g):
        a = torch.randint(0, 2, (n,), generator=g)
        seen = torch.where(torch.rand(n, generator=g) < 0.8, a, 1 - a)
        return torch.nn.functional.one_hot(seen, 2).repeat(1, 64).float(), a.float()[:, None]

    found = density_bits.compute(coded([A], repeated, sizes=(4000, 2000, 4000)))["a"]
    entropy = -0.8 * math.log2(0.8) - 0.2 * math.log2(0.2)
    assert found.value == pytest.approx(1 - entropy, abs=0.03)  # of 64 independent witnesses, less than -10


class Line:
    """A density whose logarithm is a line: no density, but it says how likely codes are and for which value."""

    note = "line"

    def __init__(self, level, slope):
        self.level, self.slope = level, slope

    def log_prob(self, z):
        return self.level + self.slope * z[:, 0]


def test_the_kind_that_finds_codes_likelier_is_drawn_from_and_the_one_that_tells_values_tells():
    g = torch.Generator().manual_seed(0)
    z, a = two(3)(500, g)
    likelier, telling, everyone = [Line(5, 1), Line(5, -1)], [Line(0, -1), Line(0, 1)], Line(-9, 0)
    drawn, told = _of_attribute(A, lambda rows: [likelier, telling], everyone, a[:, 0], z, a[:, 0])
    assert list(drawn.values()) == likelier
    assert list(told.own.values()) == telling


def test_a_value_is_learned_from_rows_of_everywhere_in_the_file(coded, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 300)

    def sorted_by_side(n, g):
        z, a = torch.randn(n, 1, generator=g), torch.randint(0, 2, (n,), generator=g)
        return z + 10.0 * (torch.arange(n) >= n // 2)[:, None] + 2 * a[:, None], a.float()[:, None]

    ev = coded([A], sorted_by_side, sizes=(2000, 400, 100))
    drawn = densities(ev).by_attribute["a"][1].sample(400, ev.generator("x"))
    assert 0.3 < float((drawn > 7).double().mean()) < 0.7


def test_a_density_of_several_gaussians_is_scipys_mixture_and_draws_follow_it():
    g = torch.Generator().manual_seed(0)
    z = (
        torch.randn(400, 2, generator=g, dtype=torch.float64) @ torch.tensor([[2.0, 1], [0, 0.5]]).double()
        + 3
    )
    space = Space.of(z)
    factors = torch.tensor([[[1.0, 0], [0.3, 0.5]], [[0.4, 0], [0, 2]]], dtype=torch.float64)
    means = torch.tensor([[0.0, 1], [2, -1]], dtype=torch.float64)
    shares = torch.tensor([0.3, 0.7], dtype=torch.float64)
    density = Gaussians(space, shares.log(), means, factors, "")
    turn = (space.axes * space.spread).numpy()
    expected = sum(
        float(share)
        * multivariate_normal(
            space.out(mean[None])[0].numpy(), turn @ (factor @ factor.T).numpy() @ turn.T
        ).pdf(z.numpy())
        for share, mean, factor in zip(shares, means, factors, strict=True)
    )
    np.testing.assert_allclose(density.log_prob(z).exp().numpy(), expected, rtol=1e-8)
    drawn = density.sample(20_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn.mean(0), space.out((shares @ means)[None])[0], atol=0.05, rtol=0)


def test_symbols_are_independent_and_drawn_as_often_as_they_are_likely():
    log_probs = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.float64).log()
    density = Symbols(log_probs)
    assert float(density.log_prob(torch.tensor([[0.0, 1, 1, 0]]))[0].exp()) == pytest.approx(0.4)
    drawn = density.sample(4000, torch.Generator().manual_seed(0))
    assert symbols_of(drawn) == (2, 2)
    torch.testing.assert_close(drawn.mean(0), log_probs.exp().flatten(), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        ([[1, 0, 0, 1], [0, 1, 1, 0]], (2, 2)),
        ([[1, 1, 0, 0], [0, 1, 1, 0]], None),  # two in one block
        ([[0.9, 0.1, 0, 1], [0, 1, 1, 0]], None),
        ([[1, 0, 1, 0, 0], [0, 1, 1, 0, 0]], None),  # no equal blocks
        ([[0, 0], [0, 0]], None),
    ],
)
def test_codes_of_symbols_are_told_from_vectors(codes, found):
    assert symbols_of(torch.tensor(codes, dtype=torch.float64)) == found


def test_one_hot_codes_have_the_density_of_symbols(coded):
    def symbols(n, g):
        a = torch.randint(0, 2, (n,), generator=g)
        first = torch.where(torch.rand(n, generator=g) < 0.9, a, 1 - a)
        other = torch.randint(0, 2, (n,), generator=g)
        return torch.nn.functional.one_hot(torch.stack([first, other], 1), 2).flatten(1).float(), a.float()[
            :, None
        ]

    found = density_bits.compute(coded([A], symbols, sizes=(4000, 500, 4000)))["a"]
    assert found.note == "independent symbols"
    entropy = -0.9 * math.log2(0.9) - 0.1 * math.log2(0.1)
    assert found.value == pytest.approx(1 - entropy, abs=0.03)


def test_a_value_of_too_few_rows_has_no_density_and_says_so(coded):
    def rare(n, g):
        return torch.randn(n, 2, generator=g), (torch.arange(n) < LEAST_ROWS - 1).float()[:, None]

    found = densities(coded([A], rare)).by_attribute["a"]
    assert isinstance(found, NotApplicable)
    assert str(found) == f"fewer than {LEAST_ROWS} training rows of 'yes'"


def test_missing_labels_are_in_no_density(coded):
    def half(n, g):
        z, a = two(3)(n, g)
        missing = torch.rand(n, generator=g) < 0.5
        return torch.where(missing[:, None], 50.0, z), a.masked_fill(missing[:, None], math.nan)

    ev = coded([A], half)
    assert float(densities(ev).by_attribute["a"][1].sample(200, ev.generator("x"))[:, 0].mean()) < 5
    found = density_bits.compute(ev)["a"]
    assert found.n == int((~ev.labels().isnan()).sum())


def test_codes_that_are_one_point_have_no_density(coded):
    ev = coded([A], lambda n, g: (torch.ones(n, 2), (torch.arange(n) % 2).float()[:, None]))
    with pytest.raises(NotApplicable, match="all training rows are the same"):
        densities(ev)


def test_the_kind_of_density_is_the_one_that_validation_rows_find_likelier(coded):
    def one_lump(n, g):
        a = torch.randint(0, 2, (n,), generator=g)
        turned = torch.tensor([[1.0, 0.9], [0.0, 0.4]])  # its axes are not those of all codes
        z = torch.randn(n, 2, generator=g)
        return torch.where(a[:, None] == 1, z @ turned, z @ turned * torch.tensor([1.0, -1.0])), a.float()[
            :, None
        ]

    def several_lumps(n, g):
        a, side = torch.randint(0, 2, (n,), generator=g), torch.randint(0, 2, (n,), generator=g)
        z = 0.3 * torch.randn(n, 2, generator=g)
        z[:, 0] += 4 * side + 2 * a
        return z, a.float()[:, None]

    assert density_bits.compute(coded([A], one_lump, sizes=(3000, 1000, 500)))["a"].note == "gaussian"
    found = density_bits.compute(coded([A], several_lumps, sizes=(3000, 1000, 500)))["a"]
    assert found.note == "mixture of 4"
    assert found.value == pytest.approx(1, abs=0.05)
