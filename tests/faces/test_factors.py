import numpy as np
import pytest

from lvmbench_faces.factors import BY_NAME, FACTORS, OLD, SMILE, TRAIT, cell, draw, redraw

N = 40_000
ROWS = np.arange(N)


@pytest.fixture(scope="module")
def celeba():
    return draw(0, ROWS, rho=1.0)


@pytest.fixture(scope="module")
def independent():
    return draw(0, ROWS, rho=0.0)


def assert_share(hits, share, of=None):
    """Hold a share against a published one, within four standard errors of a binomial."""
    hits = hits if of is None else hits[of]
    error = np.sqrt(share * (1 - share) / len(hits))
    assert abs(hits.mean() - share) < 4 * error + 0.5 / len(hits)


def by_cell(hits, table, shares):
    for number, share in enumerate(shares):
        assert_share(hits, share, of=cell(table) == number)


def test_a_row_is_the_same_alone_among_many_and_far_away(celeba):
    alone = draw(0, np.array([123]), rho=1.0)
    assert all(alone[name][0] == celeba[name][123] for name in celeba)


def test_every_factor_stays_in_its_published_range(celeba, independent):
    for table in (celeba, independent):
        for factor in FACTORS:
            top = len(factor.classes) - 1 if factor.classes else factor.high
            assert table[factor.name].min() >= factor.low
            assert table[factor.name].max() <= top


def test_celeba_faces_have_the_published_marginals(celeba):
    assert_share(celeba["male"] == 1, 0.417)
    assert_share(celeba["age"] < OLD, 0.7736)
    assert_share(celeba["smile"] > SMILE.threshold, 0.4821)
    assert_share(celeba["mouth_open"] > 0.3, 0.4834)
    assert_share(celeba["facial_hair"] == 0, 0.8349)
    assert_share(celeba["facial_hair"] == 2, 0.0415)
    assert_share(celeba["facial_hair"] == 3, 0.0628)
    assert_share(celeba["lipstick"] == 1, 0.4724)
    assert_share(celeba["wavy"] == 1, 0.3196)
    assert_share(celeba["bangs"] == 1, 0.1516)
    assert_share(celeba["glasses"] > 0, 0.0651)
    assert_share(celeba["nose_size"] > TRAIT.threshold, 0.2345)
    assert_share(celeba["brow_weight"] > TRAIT.threshold, 0.1422)
    assert_share(celeba["chubby"] > TRAIT.threshold, 0.0576)
    assert_share(celeba["eye_narrow"] > TRAIT.threshold, 0.1151)


def test_celeba_faces_have_the_published_conditionals(celeba):
    by_cell(celeba["bald"] == 1, celeba, (0.0195, 0.1126, 0.0001, 0.0003))
    by_cell(celeba["hairline"] > TRAIT.threshold, celeba, (0.049, 0.236, 0.053, 0.051))
    by_cell(celeba["hair_color"] == 4, celeba, (0.01, 0.42, 0.0, 0.09))
    by_cell(celeba["hair_color"] == 2, celeba, (0.03, 0.03, 0.33, 0.44))
    by_cell(celeba["lipstick"] == 1, celeba, (0.009, 0.001, 0.815, 0.738))
    by_cell(celeba["glasses"] > 0, celeba, (0.071, 0.216, 0.017, 0.067))


def test_men_are_bald_far_more_often_than_women(celeba):
    bald, male = celeba["bald"], celeba["male"] == 1
    assert bald[male].mean() > 20 * bald[~male].mean()


def test_smiles_and_open_mouths_are_correlated_as_in_celeba(celeba):
    smiles, opened = celeba["smile"] > SMILE.threshold, celeba["mouth_open"] > 0.3
    assert np.corrcoef(smiles, opened)[0, 1] == pytest.approx(0.54, abs=0.02)


def test_independent_factors_are_uncorrelated(independent):
    names = list(independent)
    correlation = np.corrcoef([independent[name] for name in names])
    assert np.abs(correlation - np.eye(len(names))).max() < 5 / np.sqrt(N)


def test_independent_classes_are_balanced(independent):
    assert_share(independent["male"] == 1, 0.5)
    for name, k in (("hair_color", 5), ("eye_color", 4), ("facial_hair", 5)):
        for number in range(k):
            assert_share(independent[name] == number, 1 / k)


@pytest.mark.parametrize("name", ["smile", "mouth_open", "nose_size", "brow_weight", "chubby", "hairline"])
def test_traits_have_a_gap_where_they_are_cut(independent, celeba, name):
    for table in (independent, celeba):
        values = np.sort(table[name])
        assert np.diff(values).max() >= 0.3


def test_the_dial_mixes_the_two_modes_factor_by_factor(celeba, independent):
    mixed = draw(0, ROWS, rho=0.3)
    for name in ("male", "scale", "azimuth", "skin_tone"):
        is_celeba = mixed[name] == celeba[name]
        assert np.all(is_celeba | (mixed[name] == independent[name]))
    assert_share(mixed["azimuth"] == celeba["azimuth"], 0.3)


def test_a_redrawn_factor_changes_alone_and_to_another_class(celeba):
    for name in ("glasses", "male", "age"):
        changed = redraw(0, ROWS, celeba, name)
        assert np.all(changed[name] != celeba[name])
        assert all(np.array_equal(changed[other], celeba[other]) for other in celeba if other != name)


def test_every_factor_says_what_it_moves_and_in_which_unit():
    for factor in FACTORS:
        assert factor.moves
        assert factor.unit or factor.classes
    assert BY_NAME["background_hue"].circular
