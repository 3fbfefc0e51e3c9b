import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvmbench.errors import DataError, UsageError
from lvmbench.tabular import MISSING, read_labels, texts

OTHER = {"other": [0, 1]}  # what stands beside a column that may be left out


def one(values, kind=None):
    """Return the only attribute of a column, and its labels."""
    found = read_labels({"a": values}, {"a": kind} if kind else None)
    return found.attributes[0], found.values[:, 0]


def reason(values):
    """Return why a column is left out."""
    other = (OTHER["other"] * len(values))[: len(values)]
    return read_labels({"a": values, "other": other}).left_out["a"]


@pytest.mark.parametrize(
    "pair",
    [(0, 1), (-1, 1), (0.0, 1.0), (False, True), ("no", "YES"), ("False", "true"), ("N", "y"), ("0", "1")],
)
def test_a_column_of_no_and_yes_is_binary_and_yes_is_the_second_class(pair):
    attribute, labels = one([pair[1], pair[0], pair[0], pair[1]])
    assert (attribute.kind, attribute.classes) == ("binary", ())
    assert labels.tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("values", "classes"),
    [(["male", "female", "male"], ("female", "male")), ([2, 1, 2], ("1", "2")), ([0.7, 0.3, 0.7], ("0.3", "0.7"))],
)  # fmt: skip
def test_two_other_values_are_binary_with_their_names_in_order(values, classes):
    attribute, labels = one(values)
    assert (attribute.kind, attribute.classes) == ("binary", classes)
    assert labels.tolist() == [1, 0, 1]


def test_words_are_classes_in_alphabetical_order_whatever_their_case():
    attribute, labels = one(["blond", " Brown", "black", "blond", "black"])
    assert (attribute.kind, attribute.classes) == ("categorical", ("black", "blond", "Brown"))
    assert labels.tolist() == [1, 2, 0, 1, 0]


def test_few_whole_numbers_are_classes_by_value_and_more_are_a_quantity():
    attribute, labels = one([*range(2, 22), 2])
    assert (attribute.kind, attribute.classes) == ("categorical", tuple(map(str, range(2, 22))))
    assert labels.tolist() == [*range(20), 0]
    attribute, labels = one([*range(2, 23), 2])
    assert attribute.is_number
    assert labels.tolist() == [*range(2, 23), 2]


def test_fractions_are_a_quantity_however_few():
    attribute, labels = one(["0.5", "1", "2.5"])
    assert attribute.is_number
    assert labels.tolist() == [0.5, 1, 2.5]


def test_two_ways_of_writing_a_number_are_one_value():
    attribute, labels = one(["1", "1.0", "01", "2", "3e0"])
    assert attribute.classes == ("1", "2", "3")
    assert labels.tolist() == [0, 0, 0, 1, 2]
    assert one([0.0, -0.0, 1.0])[0].classes == ()


@pytest.mark.parametrize("missing", [None, math.nan, "", " ", "NA", "n/a", "NaN", "null"])
def test_missing_cells_are_nan_and_no_class(missing):
    attribute, labels = one(["a", missing, "b", "c", "a"])
    assert attribute.classes == ("a", "b", "c")
    assert labels.isnan().tolist() == [False, True, False, False, False]
    assert one([1, None, 0])[1].isnan().tolist() == [False, True, False]


def test_none_is_a_word():
    assert one(["none", "grey", "none", "blond"])[0].classes == ("blond", "grey", "none")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (["x", "x", "x"], "one value only, 'x'"),
        ([3, 3, math.nan], "one value only, '3'"),
        (["", None, "NA"], "no value"),
        ([f"{i}.jpg" for i in range(30)], "another word in every row"),
        ([*range(100, 130)], "counts the rows"),
        ([f"w{i}" for i in range(101)] * 2, "101 different words"),
        ([*map(str, range(40)), "x", "x"], "'x' in row 41"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "dates"),
    ],
)
def test_what_is_no_attribute_is_left_out_with_its_reason(values, told):
    assert told in reason(values)


def test_nothing_left_is_an_error_that_tells_each_reason():
    with pytest.raises(DataError, match=r"faces.csv: .*'x': no value; 'y': one value only"):
        read_labels({"x": ["", ""], "y": [1, 1]}, where="faces.csv")


def test_an_asked_kind_wins_over_the_rules():
    assert one([1, 2, 3], "number")[0].is_number
    assert one(["3", "", "7"], "number")[1].nan_to_num(-1).tolist() == [3, -1, 7]
    attribute, labels = one([30, 5, 30], "ordinal")
    assert (attribute.kind, attribute.classes, labels.tolist()) == ("ordinal", ("5", "30"), [1, 0, 1])
    attribute, labels = one([0.5, 0.1, 2.5], "categorical")
    assert (attribute.kind, labels.tolist()) == ("categorical", [1, 0, 2])
    attribute, labels = one(["low", "high", "mid", None], ["low", "mid", "high", "utmost"])
    assert (attribute.kind, attribute.classes) == ("ordinal", ("low", "mid", "high", "utmost"))
    assert labels.nan_to_num(-1).tolist() == [0, 2, 1, -1]
    found = read_labels({"a": [0, 1], **OTHER}, {"a": "skip"})
    assert [a.name for a in found.attributes] == ["other"]
    assert found.left_out == {}  # who asked for it need not be told


@pytest.mark.parametrize(
    ("values", "kind", "error", "told"),
    [
        (["1", "2", "x"], "number", DataError, "labels, row 3, column 'a': 'x' is not a number"),
        (["low", "high", "hi"], ["low", "high"], DataError, "labels, row 3, column 'a': 'hi' is none of"),
        (["1", "x", "a"], "number", DataError, "row 2, column 'a': 'x' is not a number"),
        (["1", "2", "3"], "binary", DataError, "3 different values"),
        (["low", "mid", "high"], "ordinal", UsageError, "a=high,low,mid"),
        ([f"w{i}" for i in range(101)], "categorical", DataError, "101 different values"),
        ([1, 2], "numbr", UsageError, "Did you mean 'number'"),
        ([1, 2, math.inf], None, DataError, "row 3, column 'a': 'inf' is not a finite number"),
        (["1", "2", "1e99"], None, DataError, "row 3, column 'a': '1e\\+99' is not a finite number"),
    ],
)
def test_what_cannot_be_is_told_with_row_and_column(values, kind, error, told):
    with pytest.raises(error, match=told):
        one(values, kind)


def test_a_kind_of_no_column_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'gender'"):
        read_labels({"gender": [0, 1]}, {"gendr": "binary"})


def test_columns_of_pandas_keep_what_they_know():
    ordered = pd.Categorical(["mid", "low", None, "high"], ["low", "mid", "high", "utmost"], ordered=True)
    attribute, labels = one(ordered)
    assert (attribute.kind, attribute.classes) == ("ordinal", ("low", "mid", "high"))
    assert labels.nan_to_num(-1).tolist() == [1, 0, -1, 2]
    assert one(pd.array([1, None, 0], dtype="Int64"))[1].isnan().tolist() == [False, True, False]
    assert one(pd.array([True, None, False], dtype="boolean"))[0].kind == "binary"
    assert one(pd.Series(["x", "y", "x"], dtype="string"))[0].kind == "binary"
    assert one(pd.Series(["x", "y", "z", "x"], dtype="category"))[0].kind == "categorical"
    assert one(pd.Categorical(["3", "1", "2"], ["1", "2", "3"], ordered=True), "number")[1].tolist() == [
        3,
        1,
        2,
    ]


def test_arrays_and_tensors_are_tables_too():
    found = read_labels(torch.tensor([[0, 5], [1, 7], [0, 9]]))
    assert [(a.name, a.kind) for a in found.attributes] == [("label 0", "binary"), ("label 1", "categorical")]
    assert read_labels(np.array([0, 1, 1])).attributes[0].name == "label"
    assert read_labels({"a": torch.tensor([0, 1])}).values.tolist() == [[0], [1]]
    frame = pd.DataFrame({"a": [0, 1]}, index=[7, 3])
    assert read_labels(frame).values.tolist() == [[0], [1]]


@pytest.mark.parametrize(
    "data", [np.zeros((2, 2, 2)), {"a": [1, 2], "b": [1]}, pd.DataFrame([[0, 1]], columns=["a", "a"])]
)
def test_what_is_no_table_is_an_error(data):
    with pytest.raises(DataError):
        read_labels(data)


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=5)
numbers = st.floats(-1e6, 1e6, width=32)
columns = st.one_of(
    st.lists(st.one_of(words, st.none()), min_size=1, max_size=40),
    st.lists(st.one_of(numbers, st.just(math.nan)), min_size=1, max_size=40),
    st.lists(st.integers(-30, 30), min_size=1, max_size=40),
    st.lists(st.sampled_from(["yes", "no", "NA", "1", "0", "2.5"]), min_size=1, max_size=40),
)


def read_column(values):
    """Return the attribute of a column and its labels, None where it is left out or refused."""
    try:
        return one(values)
    except DataError:
        return None


@given(columns)
def test_labels_are_places_among_classes_or_the_numbers_themselves_and_nan_just_where_a_cell_is_missing(
    values,
):
    if (read := read_column(values)) is None:
        return
    attribute, labels = read
    texts = ["" if v is None else str(v).strip().casefold() for v in values]
    assert labels.isnan().tolist() == [text in MISSING for text in texts]
    present = labels[~labels.isnan()]
    if attribute.is_number:
        known = [float(v) for v, text in zip(values, texts, strict=True) if text not in MISSING]
        assert present.tolist() == pytest.approx(known)
    else:
        assert set(present.tolist()) == set(range(attribute.n_classes))


@given(columns, st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_neither_kind_nor_classes_and_labels_move_along(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    read, moved = read_column(values), read_column([values[i] for i in order])
    assert (read is None) == (moved is None)
    if read and moved:
        assert read[0] == moved[0]
        assert torch.equal(read[1][order].nan_to_num(-9e9), moved[1].nan_to_num(-9e9))


@given(columns)
def test_written_out_as_words_a_column_reads_the_same(values):
    written = ["" if v is None or v != v else repr(v) if isinstance(v, float) else str(v) for v in values]
    read, again = read_column(values), read_column(written)
    assert (read is None) == (again is None)
    if read and again:
        assert read[0] == again[0]
        assert torch.equal(read[1].nan_to_num(-9e9), again[1].nan_to_num(-9e9))


def test_lists_are_no_attribute_and_no_text():
    boxes = [[1, 2], [3], None, [1, 2]]
    columns = read_labels({"box": pd.Series(boxes), "smiling": [0, 1, 0, 1]})
    assert columns.left_out == {"box": "neither numbers nor words"}
    assert texts(pd.Series(boxes)) == [""] * 4


def test_cells_are_the_texts_that_a_person_would_write():
    assert texts(pd.Series([7, 8])) == ["7", "8"]
    assert texts(pd.Series([7.0, np.nan, 7.5])) == ["7", "", "7.5"]
    assert texts(pd.Series([" a.jpg ", "", None, "n/a", "NULL", "none"])) == ["a.jpg", "", "", "", "", "none"]
    assert texts(pd.Series([True, False])) == ["True", "False"]
