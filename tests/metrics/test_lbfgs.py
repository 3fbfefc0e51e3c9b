import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen
from sklearn.linear_model import LogisticRegression, Ridge

from lvmbench_metrics.lbfgs import minimise
from lvmbench_metrics.logistic import fit, logits, losses
from lvmbench_metrics.ridge import ridge


def quadratics(which):
    # three problems whose curvatures differ by a thousand: one step for all would fail
    curvature = torch.tensor([[1.0, 0.5], [1e-2, 1.0], [1e-3, 1e-3]], dtype=torch.float64)[which]
    minimum = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], dtype=torch.float64)[which]
    return lambda x: ((curvature * (x - minimum) ** 2).sum(1) / 2, curvature * (x - minimum))


def test_each_problem_of_a_batch_finds_its_own_minimum():
    found = minimise(quadratics, torch.zeros(3, 2, dtype=torch.float64), tolerance=1e-10)
    assert found.flatten().tolist() == pytest.approx([1, 2, 3, 4, 5, 6], abs=1e-5)


def test_a_problem_is_solved_alike_alone_and_beside_others():
    together = minimise(quadratics, torch.zeros(3, 2, dtype=torch.float64), tolerance=1e-10)[:1]
    assert torch.equal(
        minimise(quadratics, torch.zeros(1, 2, dtype=torch.float64), tolerance=1e-10), together
    )


def test_a_problem_that_is_solved_is_not_asked_again():
    asked = []

    def counted(which):
        objective = quadratics(which)

        def count(x):
            asked.append(which.tolist())
            return objective(x)

        return count

    start = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    found = minimise(counted, start, tolerance=1e-10)
    assert asked[0] == [0, 1, 2]
    assert asked[1] == [0, 2]
    assert len(asked[-1]) == 1
    assert found[1].tolist() == [3.0, 4.0]


def test_steps_are_halved_where_a_full_one_would_climb():
    def valley(x):
        x = x.clone().requires_grad_()
        value = torch.stack([100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2 for p in x])
        return value.detach(), torch.autograd.grad(value.sum(), x)[0]

    start = torch.tensor([[-1.2, 1.0], [2.0, 0.0]], dtype=torch.float64)
    alone, beside = (minimise(lambda which: valley, of, tolerance=1e-8) for of in (start[:1], start))
    assert alone[0].tolist() == pytest.approx(minimize(rosen, start[0], method="BFGS").x, abs=1e-4)
    assert torch.equal(alone[0], beside[0])  # the other's short steps are its own


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    z = torch.randn(400, 5, generator=g, dtype=torch.float64) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1])
    z -= z.mean(0)
    labels = torch.stack(
        [(z[:, 0] + z[:, 1] + 2 * torch.randn(400, generator=g) > c).long() for c in (0, 4)], dim=1
    )
    three = (z[:, :3] + torch.randn(400, 3, generator=g)).argmax(1)[:, None]
    return torch.cat([z, torch.ones(400, 1)], dim=1), labels, three


@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_binary_fits_agree_with_scikit_learn(data, strength):
    x, labels, _ = data
    weights = fit(x, labels, 2, [7.0, strength])[1]
    for t in range(2):
        reference = LogisticRegression(C=strength, tol=1e-10, max_iter=5000).fit(x[:, :-1], labels[:, t])
        expected = [*reference.coef_[0], *reference.intercept_]
        assert weights[t, :, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_fit_of_three_classes_gives_the_probabilities_of_scikit_learn(data):
    x, _, labels = data
    reference = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000).fit(x[:, :-1], labels[:, 0])
    ours = logits(x, fit(x, labels, 3, [0.1])[0])[:, 0].softmax(1)
    assert np.abs(ours.numpy() - reference.predict_proba(x[:, :-1])).max() < 1e-4


def test_rows_without_a_label_are_as_if_they_were_not_there(data):
    x, labels, _ = data
    masked = labels.clone()
    masked[::3] = -1
    kept = torch.arange(400) % 3 != 0
    found, expected = fit(x, masked, 2, [0.1])[0], fit(x[kept], labels[kept], 2, [0.1])[0]
    assert (found - expected).abs().max() < 1e-4
    assert (losses(logits(x, found), masked)[::3] == 0).all()


def test_ridge_agrees_with_scikit_learn_at_every_strength(data):
    x, _, _ = data
    y = x[:, 0] - 2 * x[:, 3] + 7
    for weights, strength in zip(ridge(x, y, (0.01, 1.0)), (0.01, 1.0), strict=True):
        reference = Ridge(alpha=1 / strength).fit(x[:, :-1], y)
        assert weights.tolist() == pytest.approx([*reference.coef_, reference.intercept_], abs=1e-8)
