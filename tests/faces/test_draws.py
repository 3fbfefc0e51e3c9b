import numpy as np
import pytest
from scipy import stats

from lvmbench_faces.draws import kumaraswamy, pick, truncated_normal, uniforms

ROWS = np.arange(5000)


def test_a_row_alone_draws_what_it_draws_among_many():
    many = uniforms(0, "age", ROWS)
    for row in (0, 1, 17, 4999):
        assert np.array_equal(uniforms(0, "age", np.array([row])), many[[row]])


def test_rows_in_any_order_and_with_gaps_draw_the_same():
    many = uniforms(0, "age", ROWS)
    some = np.array([40, 41, 42, 7, 4000, 4001, 7])
    assert np.array_equal(uniforms(0, "age", some), many[some])


def test_far_row_numbers_draw_the_same_alone_and_in_a_run():
    far = 2_000_000_000 + np.arange(10)
    assert np.array_equal(uniforms(0, "age", far)[[3]], uniforms(0, "age", far[[3]]))


def test_no_rows_draw_nothing():
    assert uniforms(0, "age", ROWS[:0]).shape == (0, 4)


@pytest.mark.parametrize("other", [(1, "age"), (0, "smile")])
def test_seeds_and_factors_have_streams_of_their_own(other):
    a, b = uniforms(0, "age", ROWS)[:, 0], uniforms(*other, ROWS)[:, 0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(len(ROWS))


def test_the_four_uniforms_of_a_row_are_independent():
    correlation = np.corrcoef(uniforms(0, "age", ROWS).T)
    assert np.abs(correlation - np.eye(4)).max() < 4 / np.sqrt(len(ROWS))


def test_uniforms_are_uniform():
    assert stats.kstest(uniforms(0, "age", ROWS)[:, 0], "uniform").pvalue > 0.01


def test_picks_follow_their_weights_row_by_row():
    u = np.array([0.0, 0.29, 0.31, 0.99, 0.5])
    weights = np.array([[0.3, 0.7, 0.0]] * 4 + [[0.0, 0.0, 1.0]])
    assert pick(u, weights).tolist() == [0, 0, 1, 1, 2]


def test_the_truncated_normal_is_that_of_scipy():
    u = np.linspace(0.001, 0.999, 50)
    assert truncated_normal(u, 0.2, 0.4) == pytest.approx(stats.truncnorm(-2, 2, scale=0.2).ppf(u))


def test_kumaraswamy_quantiles_invert_its_distribution():
    u = np.linspace(0, 1, 50)
    assert 1 - (1 - kumaraswamy(u, 1.3, 3.1) ** 1.3) ** 3.1 == pytest.approx(u)
