import numpy as np
import pytest

from lvmbench_faces.attributes import ATTRIBUTES, PALE, RULES, labels
from lvmbench_faces.factors import BY_NAME, GLASSES, draw

CELEBA = {"Male", "Young", "Bald", "Bangs", "Wavy_Hair", "Eyeglasses", "Smiling", "No_Beard", "Pale_Skin"}
COLUMN = {attribute.name: number for number, attribute in enumerate(ATTRIBUTES)}


def table_of(**values):
    """Return one face, everything not given as it happens to be drawn."""
    table = {**draw(0, np.array([0]), rho=1.0), "bald": np.array([0.0]), "bangs": np.array([0.0])}
    return {**table, **{name: np.array([float(value)]) for name, value in values.items()}}


def label(name, **values):
    return labels(table_of(**values))[0, COLUMN[name]]


def test_names_are_unique_and_those_of_celeba():
    assert len(COLUMN) == len(ATTRIBUTES) == 26
    assert set(COLUMN) >= CELEBA


@pytest.mark.parametrize(
    "name",
    [
        "Black_Hair",
        "Blond_Hair",
        "Brown_Hair",
        "Gray_Hair",
        "Bangs",
        "Wavy_Hair",
        "Receding_Hairline",
        "hair_color",
    ],
)
def test_the_hair_of_a_bald_head_is_missing(name):
    assert np.isnan(label(name, bald=1))
    assert not np.isnan(label(name, bald=0))


@pytest.mark.parametrize("name", ["eye_color", "Narrow_Eyes"])
def test_eyes_behind_sunglasses_are_missing(name):
    assert np.isnan(label(name, glasses=GLASSES.index("sun")))
    assert not np.isnan(label(name, glasses=GLASSES.index("clear")))


def test_a_hairline_under_bangs_is_missing():
    assert np.isnan(label("Receding_Hairline", bangs=1))


def test_nothing_else_is_ever_missing():
    shown = labels(table_of(glasses=0))
    assert not np.isnan(shown).any()


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("Young", {"age": 44.9}, 1),
        ("Young", {"age": 45}, 0),
        ("age", {"age": 61.5}, 61.5),
        ("Gray_Hair", {"hair_color": 4}, 1),
        ("Eyeglasses", {"glasses": 2}, 1),
        ("No_Beard", {"facial_hair": 1}, 0),
        ("Mustache", {"facial_hair": 2}, 1),
        ("Mustache", {"facial_hair": 3}, 0),
        ("skin_tone", {"skin_tone": 0.39}, 1),
        ("skin_tone", {"skin_tone": 1.0}, 4),
        ("Bald", {"bald": 1}, 1),
    ],
)
def test_each_rule_says_what_its_card_says(name, values, expected):
    assert label(name, **values) == pytest.approx(expected)


def test_pale_skin_is_as_rare_as_in_celeba():
    tones = draw(0, np.arange(40_000), rho=1.0)["skin_tone"]
    assert (tones < PALE).mean() == pytest.approx(0.0429, abs=0.004)


def test_labels_are_float32_with_one_column_an_attribute():
    table = draw(0, np.arange(7), rho=1.0)
    assert labels(table).shape == (7, len(RULES))
    assert labels(table).dtype == np.float32
    assert {rule.factor for rule in RULES} <= set(BY_NAME)
