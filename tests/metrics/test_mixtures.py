import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from lvmbench_metrics import mixtures
from lvmbench_metrics.mixtures import Space, fit, start


def points(n=600, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 0, 0], [3, 0, 1], [0, 4, -1]], dtype=torch.float64)
    return centres[torch.arange(n) % 3] + torch.randn(n, 3, generator=g, dtype=torch.float64)


def test_expectation_maximisation_ends_where_scikit_learns_does(monkeypatch):
    u = points()
    monkeypatch.setattr(mixtures, "TOLERANCE", 0.0)
    monkeypatch.setattr(mixtures, "ITERATIONS", 300)
    means = u[:3]
    found = fit(u[None], torch.ones(1, len(u), dtype=torch.float64), start(means[None]))
    theirs = GaussianMixture(
        3, covariance_type="diag", means_init=means.numpy(), weights_init=np.full(3, 1 / 3),
        precisions_init=np.ones((3, 3)), reg_covar=0, tol=0, max_iter=300,
    )  # fmt: skip
    with pytest.warns(match="did not converge"):
        theirs.fit(u.numpy())
    own = found.joint(u[None])[0].logsumexp(1)
    np.testing.assert_allclose(own.numpy(), theirs.score_samples(u.numpy()), atol=1e-6)


def test_rows_that_are_padding_count_for_nothing_and_sets_are_apart(monkeypatch):
    monkeypatch.setattr(mixtures, "TOLERANCE", -1.0)  # as many steps for a set alone as for several
    one, other = points(300, 1), points(200, 2)
    padded = torch.zeros(2, 300, 3, dtype=torch.float64)
    padded[0], padded[1, :200] = one, other
    padded[1, 200:] = 99.0
    known = torch.ones(2, 300, dtype=torch.float64)
    known[1, 200:] = 0
    begun = start(torch.stack([one[:3], other[:3]]))
    both = fit(padded, known, begun)
    alone = fit(other[None], known[:1, :200], start(other[None, :3]))
    torch.testing.assert_close(both.means[1], alone.means[0])
    torch.testing.assert_close(both.log_shares[1], alone.log_shares[0])


def test_the_space_has_unit_covariance_and_leads_back():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(500, 3, generator=g, dtype=torch.float64) @ torch.randn(3, 3, generator=g).double() + 5
    z = torch.cat([z, torch.full((500, 1), 2.0, dtype=torch.float64)], 1)  # a dimension that never varies
    space = Space.of(z)
    u = space.into(z)
    assert u.shape == (500, 3)
    torch.testing.assert_close(torch.cov(u.T, correction=0), torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(space.out(u), z)
