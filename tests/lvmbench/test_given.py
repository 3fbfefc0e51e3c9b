import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from lvmbench.errors import DataError, UsageError
from lvmbench.given import NAMES, given


def held(n=100, **options):
    return given(np.zeros((n, 2)), {"a": np.arange(n) % 2}, **options)


def parts_of(splits, n):
    """Return the split of each row, every row in one of them alone."""
    found = torch.full((n,), -1)
    for place, name in enumerate(NAMES):
        assert (found[splits[name].rows] == -1).all()
        found[splits[name].rows] = place
    assert (found >= 0).all()
    return found


def test_without_splits_a_seed_draws_sixty_twenty_twenty_and_another_seed_others():
    one, same, other = (held().split(seed) for seed in (0, 0, 1))
    assert [len(one[name]) for name in NAMES] == [60, 20, 20]
    assert torch.equal(parts_of(one, 100), parts_of(same, 100))
    assert not torch.equal(parts_of(one, 100), parts_of(other, 100))


def test_labels_and_codes_stay_with_their_rows():
    frame = pd.DataFrame({"a": [0, 1, 0, 1, 1, 0, 1], "b": [10.5, 11, 12, 13, 14, 15, 16]})
    for split in given(np.zeros((7, 1)), frame).split(3).values():
        assert split.labels.tolist() == frame.iloc[split.rows.tolist()].to_numpy().tolist()


@drawn(st.lists(st.integers(0, 12), min_size=40, max_size=80), st.integers(0, 5))
def test_an_identity_is_in_one_split_alone(identities, seed):
    try:
        splits = held(len(identities), groups=identities).split(seed)
    except DataError:  # too few identities for three splits
        return
    parts_of(splits, len(identities))
    of = [{identities[row] for row in splits[name].rows.tolist()} for name in NAMES]
    assert sum(map(len, of)) == len(set(identities))


def test_identities_share_a_number_and_rows_without_one_are_alone():
    groups = held(6, groups=["ann", None, "bob", " Ann", "", "bob"]).groups.tolist()
    assert groups[0] == groups[3]
    assert groups[2] == groups[5]
    assert len(set(groups)) == 4


@pytest.mark.parametrize(
    "words", [("train", "Val", "TEST"), (0, 1, 2), (0.0, 1.0, 2.0), ("training", "dev", "2")]
)
def test_splits_are_taken_as_they_are_given(words):
    column = [words[i] for i in (2, 0, 0, 1, 2)]
    found = held(5, splits=column)
    assert parts_of(found.split(0), 5).tolist() == [2, 0, 0, 1, 2]
    assert torch.equal(found.split(0)["train"].rows, found.split(1)["train"].rows)
    assert found.told == "2 / 1 / 2 train, val, test, as given"


def test_named_columns_are_no_attributes():
    frame = pd.DataFrame({"a": [0, 1, 0], "part": ["train", "val", "test"], "who": ["x", "y", "x"]})
    found = given(np.zeros((3, 1)), frame, splits="part", groups="who")
    assert [a.name for a in found.schema.attributes] == ["a"]
    assert not found.columns.left_out
    assert found.schema.identities


def test_an_identity_that_given_splits_share_is_told():
    found = held(4, splits=["train", "val", "test", "test"], groups=["x", "y", "x", "z"])
    assert found.shared == 1
    assert "identities in both train and test: 1" in found.told
    assert not held(4, groups=["x", "y", "x", "z"]).shared


def test_what_names_the_codes_and_what_names_the_labels_follow_the_rows():
    one = held()
    assert given(np.ones((100, 2)), {"a": np.arange(100) % 2}).source != one.source
    assert given(np.ones((100, 2)), {"a": np.arange(100) % 2}).fingerprint == one.fingerprint
    changed = [held(kinds={"a": "categorical"}), held(groups=range(100)), held(splits=["train", "test"] * 50)]
    changed.append(given(np.zeros((100, 2)), {"a": (np.arange(100) + 1) % 2}))
    assert len({c.fingerprint for c in [one, *changed]}) == 5


@pytest.mark.parametrize(
    ("codes", "told"),
    [
        (np.zeros(3), r"float64 \[3\]"),
        (np.zeros((3, 2), dtype=object), "object"),
        (np.zeros((3, 0)), r"\[3, 0\]"),
        (np.array([[0.0], [math.nan], [math.inf]]), "row 2, 3"),
        (np.array([[0.0], [1e300], [0.0]]), "row 2"),
        (np.full((9, 1), math.nan), "1, 2, 3, 4, 5 and 4 more"),
        (np.zeros((4, 2)), r"4 rows of codes in codes, 3 rows of labels in labels"),
    ],
)
def test_codes_that_are_no_finite_numbers_a_row_each_are_told(codes, told):
    with pytest.raises(DataError, match=told):
        given(codes, {"a": [0, 1, 1]})


@pytest.mark.parametrize(("rows", "hinted"), [(4, True), (2, True), (5, False)])
def test_one_row_too_many_may_be_a_line_of_names(rows, hinted):
    with pytest.raises(DataError) as told:
        given(np.zeros((rows, 2)), {"a": [0, 1, 1]})
    assert ("may be a line of names" in str(told.value)) == hinted


def test_splits_and_groups_that_cannot_be_are_told():
    with pytest.raises(DataError, match="row 2: split 'hold-out'"):
        held(3, splits=["train", "hold-out", "test"])
    with pytest.raises(DataError, match="no row is in the val split"):
        held(3, splits=["train", "train", "test"]).split(0)
    with pytest.raises(DataError, match="no row is in the"):
        held(50, groups=["x"] * 50).split(0)
    with pytest.raises(DataError, match=r"\[3\].*\[2\]"):
        held(3, groups=["x", "y"])
    with pytest.raises(UsageError, match="Did you mean 'part'"):
        given(np.zeros((2, 1)), {"a": [0, 1], "part": ["train", "test"]}, splits="prt")


def test_tensors_and_frames_are_codes_too():
    frame = pd.DataFrame({"z0": [0, 1], "z1": [2.5, 3.5]})
    for codes in (frame, torch.tensor(frame.to_numpy()), frame.to_numpy()):
        assert given(codes, {"a": [0, 1]}).codes.tolist() == [[0, 2.5], [1, 3.5]]
