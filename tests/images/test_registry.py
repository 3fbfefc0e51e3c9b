import pandas as pd
import pytest
import torch

from lvmbench import Attribute
from lvmbench.tabular import read_labels
from lvmbench_faces.attributes import ATTRIBUTES as DRAWN
from lvmbench_faces.factors import HAIR_COLORS as DRAWN_COLORS
from lvmbench_faces.factors import OLD as DRAWN_OLD
from lvmbench_images import registry
from lvmbench_images.fairface_labels import ATTRIBUTES as FAIRFACE
from lvmbench_images.registry import unify


def unified(name, cells, kinds=None, **others):
    """Return names, and the labels of the first column, of a table as it is read and unified."""
    table = pd.DataFrame({name: cells, **others}, dtype=object)
    columns = read_labels(pd.concat([table, table]), kinds)  # a word that stands once is no class
    attributes, values = unify(columns.attributes, columns.values)
    assert values.shape == columns.values.shape
    return [a.name for a in attributes], values[: len(cells), 0].tolist()


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("gender", ["male", "female", "male"]),
        ("Gender", ["Male", "Female", "MALE"]),
        ("SEX", ["m", "f", "M"]),
        ("sex", ["Man", "Woman", "Man"]),
        ("gender", ["men", "women", "male"]),
        ("Male", ["1", "0", "1"]),
        ("male", ["1", "-1", "1"]),
        ("is_male", ["True", "False", "True"]),
        ("Is Male", ["yes", "no", "yes"]),
        ("is-male", ["m", "f", "m"]),
        ("female", ["0", "1", "0"]),
        ("is_female", ["no", "yes", "no"]),
        ("woman", ["-1", "1", "-1"]),
        ("female", ["male", "female", "male"]),
    ],
)
def test_a_column_that_says_who_is_a_man_becomes_male_with_men_as_one(name, cells):
    assert unified(name, cells) == (["Male"], [1, 0, 1])


@pytest.mark.parametrize(
    ("name", "cells", "labels"),
    [
        ("gender", ["0", "1", "1"], [0, 1, 1]),
        ("gender", ["1", "2", "1"], [0, 1, 0]),
        ("gender", ["yes", "no", "yes"], [1, 0, 1]),
        ("gender", ["male", "female", "other", "other"], [1, 0, 2, 2]),
        ("gender", ["male", "boy", "boy"], [1, 0, 0]),
        ("gender", ["male", "m", "male"], [1, 0, 1]),
        ("size", ["m", "f", "m"], [1, 0, 1]),
        ("partner", ["male", "female", "male"], [1, 0, 1]),
        ("tomale", ["yes", "no", "no"], [1, 0, 0]),
    ],
)
def test_a_column_whose_sense_is_not_known_stays_as_it_is(name, cells, labels):
    assert unified(name, cells) == ([name], labels)


def test_a_kind_that_the_user_asks_for_stays():
    assert unified("gender", ["male", "female", "m"], {"gender": ("male", "m", "female")})[0] == ["gender"]
    assert unified("gender", ["male", "female", "male"], {"gender": "categorical"})[0] == ["gender"]


def test_a_missing_gender_stays_missing_in_either_sense():
    for name in ("is_male", "is_female"):
        labels = unified(name, ["yes", "", "no"])[1]
        assert torch.tensor(labels).isnan().tolist() == [False, True, False]


def test_other_columns_keep_names_labels_and_places():
    columns = read_labels(pd.DataFrame({"age": [31, 8], "gender": ["woman", "man"], "hat": [1, 0]}))
    attributes, values = unify(columns.attributes, columns.values)
    assert [a.name for a in attributes] == ["age", "Male", "hat"]
    assert torch.equal(values, torch.tensor([[1.0, 0, 1], [0, 1, 0]]))
    assert columns.values[:, 1].tolist() == [1, 0]  # what was given is not changed


def test_male_says_from_which_column_it_is_and_that_it_is_an_impression():
    given = Attribute("sex", "binary", ("f", "m"), source="labels.csv")
    ((male,), _) = unify([given], torch.zeros(1, 1))
    assert (male.kind, male.classes, male.source) == ("binary", (), "labels.csv")
    assert "'sex'" in male.note
    assert "impression" in male.note


@pytest.mark.parametrize("first", [True, False])
def test_of_two_columns_the_one_that_is_named_male_is_male(first):
    columns = {"Male": ["1", "0"], "gender": ["female", "male"]}
    table = pd.DataFrame(dict(sorted(columns.items(), reverse=not first)))
    read = read_labels(table)
    attributes, values = unify(read.attributes, read.values)
    assert sorted(a.name for a in attributes) == ["Male", "gender"]
    assert values[:, [a.name for a in attributes].index("Male")].tolist() == [1, 0]


def test_a_column_that_is_named_male_and_says_something_else_leaves_the_name_to_nobody():
    names, _ = unified("gender", ["female", "male", "male"], Male=["a lot", "some", "some"])
    assert names == ["gender", "Male"]


def test_a_table_without_such_a_column_is_what_it_was():
    assert unified("hat", ["1", "0"]) == (["hat"], [1, 0])


def test_the_drawn_faces_and_the_photographs_share_names_kinds_and_classes():
    shared = [registry.male(""), registry.young("")]
    drawn = {a.name: a for a in DRAWN}
    assert [(drawn[a.name].kind, drawn[a.name].classes) for a in shared] == [("binary", ())] * 2
    assert drawn["age"].unit == registry.age("").unit
    assert drawn["hair_color"].kind == registry.hair_color("", "").kind
    assert [c for c in DRAWN_COLORS if c != "red"] == list(registry.HAIR_COLORS)
    assert DRAWN_OLD == registry.OLD


def test_fairface_takes_its_attributes_from_the_registry():
    assert [a.name for a in FAIRFACE] == ["Male", "Young", "age", "race"]
    assert FAIRFACE[0] == registry.male("annotators")
    assert "40" in FAIRFACE[1].note
    assert FAIRFACE[2].unit == ""
