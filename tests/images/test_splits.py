"""What is given stays, what is not is drawn by whole people, and what is odd there is told."""

import numpy as np
import pytest

from lvmbench_images.splits import amiss, completed
from lvmbench_images.table import PARTS, UNDECIDED
from pictures_support import MANY, faces, images

TRAIN, VAL, TEST = range(3)


def parts_of(*counts):
    """Return given splits: (split, how many), ..."""
    return np.repeat([part for part, _ in counts], [n for _, n in counts]).astype(np.int8)


def drawn(given, people=None):
    """Return the splits of pictures, each of a person of its own by default, and the draws of the people."""
    people = np.arange(len(given)) if people is None else np.array(people)
    draws = np.random.default_rng(0).random(int(people.max()) + 1)[people]
    return completed(given, people, draws), draws


def test_a_few_empty_cells_do_not_make_a_split_of_a_few_pictures():
    given = parts_of((TRAIN, 800), (TEST, 180), (UNDECIDED, 20))
    parts, draws = drawn(given)
    assert ((parts == VAL) == ((given != TEST) & (draws < 0.1))).all()
    assert (parts == VAL).sum() == pytest.approx(82, abs=35)  # four standard deviations
    assert (parts[given == TEST] == TEST).all()


def test_an_undecided_picture_goes_where_its_person_is():
    decided = parts_of((TRAIN, 60), (VAL, 20), (TEST, 20))
    given = np.concatenate([decided, parts_of((UNDECIDED, 100))])
    parts, _ = drawn(given, [*range(100), *range(100)])
    assert parts.tolist() == [*decided, *decided]


@pytest.mark.parametrize(
    ("there", "taken"), [((TRAIN, TEST), TRAIN), ((VAL, TEST), VAL), ((TEST, VAL, TRAIN), TRAIN)]
)
def test_of_several_splits_of_a_person_an_undecided_picture_goes_to_the_first(there, taken):
    parts = completed(
        np.array([*there, UNDECIDED, VAL], np.int8),
        np.array([0] * (len(there) + 1) + [1]),
        np.full(len(there) + 2, 0.15),
    )
    assert parts.tolist() == [*there, taken, VAL]


def test_a_val_that_is_drawn_has_whole_people_who_are_nowhere_else():
    people = np.random.default_rng(1).integers(0, 100, 1000)
    given = np.where(np.random.default_rng(2).random(1000) < 0.01, TEST, TRAIN).astype(np.int8)
    given[::7] = UNDECIDED
    parts, _ = drawn(given, people)
    val = set(people[parts == VAL].tolist())
    assert val
    assert not val & set(people[parts != VAL].tolist())


def test_no_pictures_are_no_error():
    assert completed(parts_of(), np.empty(0, np.int64), np.empty(0)).tolist() == []


def told(folder, splits, columns="file,split,smiling", people=None):
    """Return what is odd in the splits of 60 pictures: what, of what, told."""

    def row(i, name):
        return (name, splits[i % len(splits)], i % 2, *([people(i)] if people else []))

    faces(folder, MANY, columns, row)
    findings = images().findings
    assert {finding.effect for finding in findings if "without a split" not in finding.what} <= {"noted"}
    return [(f.what, f.where, f.told) for f in findings if "split" in f.what and "row" not in f.what]


GIVES_NONE = "the files give it no picture"


@pytest.mark.parametrize(
    ("given", "empty", "made"),
    [
        (["test"], ["train", "val"], []),
        (["val"], ["train", "test"], []),
        (["train"], [], ["val", "test"]),
        (["train", "test"], [], ["val"]),
        (["val", "test"], ["train"], []),
        (["train", "val", "test"], [], []),
        (["train", "train", ""], [], ["val", "test"]),
        ([""], [], []),
    ],
)
def test_a_split_that_the_files_give_no_picture_is_told_where_they_give_some(here, given, empty, made):
    expected = [("split without a picture", f"faces: '{part}'", GIVES_NONE) for part in empty]
    expected += [("split that is drawn", f"faces: '{part}'", GIVES_NONE) for part in made]
    assert told(here / "faces", given) == expected


def test_a_person_in_two_splits_that_are_given_is_told_by_name(here):
    found = told(
        here / "faces",
        ["train", "val", "test"],
        "file,split,smiling,person",
        lambda i: {3: "Zoë", 4: "Zoë", 5: "Zoë", 6: "p 7", 8: "p 7", 9: "", 10: ""}.get(i, f"q{i}"),
    )
    assert found == [
        ("person in two splits", "faces: person 'Zoë'", "in train and val and test"),
        ("person in two splits", "faces: person 'p 7'", "in train and test"),
    ]


def test_people_of_splits_that_are_drawn_are_in_one_each(here):
    columns = "file,split,smiling,identity"
    assert told(here / "faces", [""], columns, lambda i: f"q{i % 9}") == []
    album = images().album
    assert len(np.unique(np.stack([album.identities, album.parts]), axis=1).T) == 9


def test_a_split_that_a_set_lacks_by_design_is_not_told():
    given = parts_of((TRAIN, 4), (TEST, 4))
    assert [f.where for f in amiss("set", given, given, None, ())] == ["set: 'val'"]
    assert list(amiss("set", given, given, None, ("val",))) == []
    assert PARTS == ("train", "val", "test")
