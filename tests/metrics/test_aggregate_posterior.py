import math
from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Independent, MixtureSameFamily, MultivariateNormal, Normal
from torch.distributions.categorical import Categorical

from lvmbench import LvmbenchError, NotApplicable
from lvmbench_metrics import aggregate_posterior as metrics
from lvmbench_metrics.aggregate_posterior import gaussian_total_correlation, mixture_log_density

PARTS = (metrics.index_code_mi, metrics.total_correlation, metrics.dimwise_kl)


def product(mean, scale):
    return Independent(Normal(mean, scale), 1)


class Known:
    """A posterior for each picture, found by the number that its pixels write."""

    def __init__(self, mean, scale, prior=None):
        self.mean, self.scale = mean, scale
        d = mean.shape[1]
        self.given = prior or product(torch.zeros(d), torch.ones(d))

    def prior(self):
        return self.given

    def posterior(self, x):
        # dequantised pixels are (value + u) / 256
        high, low = (x.flatten(1) * 256).floor().long().T
        row = 256 * high + low
        return product(self.mean[row], self.scale[row])


def numbered(n):
    rows = torch.arange(n)
    return torch.stack([rows // 256, rows % 256], dim=1).to(torch.uint8).view(n, 2, 1, 1)


@pytest.fixture
def known(pictured):
    return lambda mean, scale, **options: pictured(Known(mean, scale, **options), numbered(len(mean)))


def test_the_mixture_is_the_one_of_torch_joint_and_dimension_by_dimension(monkeypatch):
    monkeypatch.setattr(metrics, "CELLS", 64)
    g = torch.Generator().manual_seed(0)
    mean, scale = torch.randn(30, 3, generator=g).double(), torch.rand(30, 3, generator=g).double() + 0.1
    z = mean + scale * torch.randn(30, 3, generator=g)
    joint, by_dim = mixture_log_density(z, mean, scale)
    even = Categorical(logits=torch.zeros(30).double())
    assert torch.allclose(joint, MixtureSameFamily(even, product(mean, scale)).log_prob(z), atol=1e-10)
    expected = sum(
        MixtureSameFamily(even, Normal(mean[:, d], scale[:, d])).log_prob(z[:, d]) for d in range(3)
    )
    assert torch.allclose(by_dim, expected, atol=1e-10)


def test_a_gaussian_code_has_the_parts_of_the_closed_form(known):
    # x moves a mean of covariance S, z = mean + noise of variance 1 - S_dd: q(z) = N(0, S + noise)
    g = torch.Generator().manual_seed(0)
    s = torch.tensor([[0.75, 0.6], [0.6, 0.75]])
    mean = torch.randn(3000, 2, generator=g) @ torch.linalg.cholesky(s).T
    mean = (mean - mean.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(mean.T.cov(correction=0))).T
    mean = mean @ torch.linalg.cholesky(s).T
    ev = known(mean, torch.full((3000, 2), 0.5))
    q = s + 0.25 * torch.eye(2)
    information = float(torch.logdet(q) - 2 * math.log(0.25)) / 2
    correlation = -float(torch.logdet(q)) / 2  # its diagonal is 1
    for metric, expected in zip(PARTS, (information, correlation, 0.0), strict=True):
        found = metric.compute(ev)
        spread = float(found.rows.std()) / math.sqrt(3000)
        assert found.n == 3000
        assert found.value == pytest.approx(expected, abs=4 * spread + 0.01)


def test_the_three_parts_are_the_rate(known):
    g = torch.Generator().manual_seed(0)
    mean, scale = torch.randn(700, 3, generator=g), torch.rand(700, 3, generator=g) + 0.2
    exact = (scale.square() + mean.square() - 1 - 2 * scale.log()).sum(1).mean() / 2
    total = sum(metric.compute(known(mean, scale)).rows for metric in PARTS)
    error = float(total.std()) / math.sqrt(700)
    assert float(total.mean()) == pytest.approx(float(exact), abs=4 * error)


def test_information_ends_at_the_log_of_the_number_of_rows_and_says_so(known):
    g = torch.Generator().manual_seed(0)
    apart = metrics.index_code_mi.compute(known(torch.randn(400, 4, generator=g), torch.full((400, 4), 1e-4)))
    assert apart.value == pytest.approx(math.log(400), abs=1e-6)
    assert apart.note == "at least: 400 rows show at most log N = 5.99"
    assert metrics.index_code_mi.compute(known(torch.zeros(400, 4), torch.ones(400, 4))).note == ""


def test_where_rows_stand_apart_the_aggregate_is_not_seen_and_no_total_correlation_is_told(known):
    g = torch.Generator().manual_seed(0)
    apart = known(torch.randn(400, 4, generator=g), torch.full((400, 4), 0.1))
    with pytest.raises(NotApplicable, match="z tells 400 rows apart"):
        metrics.total_correlation.compute(apart)
    # independent dimensions whose aggregate is N(0, I): there is none to tell
    near = known(0.6 * torch.randn(2000, 4, generator=g), torch.full((2000, 4), 0.8))
    assert metrics.total_correlation.compute(near).value == pytest.approx(0, abs=0.05)
    assert metrics.index_code_mi.compute(near).note == ""


def test_every_row_is_in_the_mixture_not_only_those_of_its_batch(known):
    # two rows share each code; of 600 in batches of 256 they lie in different ones
    mean = 10.0 * torch.arange(300).repeat(2)[:, None]
    found = metrics.index_code_mi.compute(known(mean, torch.full((600, 1), 0.1)))
    assert found.value == pytest.approx(math.log(300), abs=1e-6)


def test_a_posterior_that_is_the_prior_has_nothing_in_any_part(known):
    for metric in PARTS:
        assert metric.compute(known(torch.zeros(300, 2), torch.ones(300, 2))).value == pytest.approx(
            0, abs=1e-9
        )


def test_two_evaluations_of_one_seed_agree(known):
    mean = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    one, same = (metrics.total_correlation.compute(known(mean, mean.abs() + 0.1)) for _ in range(2))
    assert torch.equal(one.rows, same.rows)


def test_posteriors_and_priors_that_are_no_product_of_gaussians_are_not_applicable(known, pictured):
    full = SimpleNamespace(
        prior=lambda: product(torch.zeros(2), torch.ones(2)),
        posterior=lambda x: MultivariateNormal(torch.zeros(len(x), 2), torch.eye(2)),
    )
    for metric in PARTS:
        with pytest.raises(NotApplicable, match="posterior.*MultivariateNormal"):
            metric.compute(pictured(full, numbered(5)))
    mixture = MixtureSameFamily(Categorical(torch.ones(2)), product(torch.randn(2, 2), torch.ones(2, 2)))
    ev = known(torch.zeros(300, 2), torch.ones(300, 2), prior=mixture)
    with pytest.raises(NotApplicable, match="prior"):
        metrics.dimwise_kl.compute(ev)
    assert metrics.total_correlation.compute(ev).value == pytest.approx(0, abs=1e-9)


def test_a_posterior_that_is_not_finite_is_an_error(known):
    with pytest.raises(LvmbenchError, match="not finite"):
        metrics.total_correlation.compute(known(torch.full((3, 1), math.inf), torch.ones(3, 1)))


def test_the_total_correlation_of_a_gaussian_has_its_published_value():
    value, _ = gaussian_total_correlation(torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64))
    assert float(value) == pytest.approx(0.8303656, abs=1e-7)


def correlated(n, g):
    z = torch.randn(n, 3, generator=g, dtype=torch.float64)
    z[:, 1] = 5 * (0.9 * z[:, 0] + math.sqrt(1 - 0.81) * z[:, 1])
    z[:, 2] = 7
    return z, torch.zeros(n, 0)


def test_gaussian_tc_ignores_scale_and_dimensions_that_never_change(coded):
    found = metrics.gaussian_tc.compute(coded([], correlated, sizes=(100, 2, 20_000)))
    assert found.value == pytest.approx(0.8303656, abs=0.05)


def test_gaussian_tc_has_no_end_where_a_dimension_is_said_twice(coded):
    def twice(n, g):
        z = torch.randn(n, 2, generator=g)
        return torch.cat([z, z[:, :1]], dim=1), torch.zeros(n, 0)

    with pytest.raises(NotApplicable, match="weighted sum"):
        metrics.gaussian_tc.compute(coded([], twice))
    with pytest.raises(NotApplicable, match="ever changes"):
        metrics.gaussian_tc.compute(coded([], lambda n, g: (torch.ones(n, 2), torch.zeros(n, 0))))


def test_the_bootstrap_has_the_spread_of_new_test_rows(coded):
    found = [metrics.gaussian_tc.compute(coded([], correlated, sizes=(9, 2, 300), seed=s)) for s in range(40)]
    spread = torch.tensor([e.value for e in found]).std()
    told = torch.stack([e.replicates.std() for e in found]).mean()
    assert float(told / spread) == pytest.approx(1, abs=0.35)
