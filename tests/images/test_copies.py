import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvmbench import DataError
from lvmbench_images.copies import copies

TRAIN, VAL, TEST = range(3)


class Files:
    path = "faces"

    def __init__(self, contents):
        self.contents, self.asked = contents, []

    def read(self, name):
        self.asked.append(name)
        if self.contents[name] is None:
            raise DataError("shut")
        return self.contents[name]


def found(contents, parts, drop=True, labels=None, draws=None, crcs=None):
    """Return which pictures stay, and what is told of the others; all files have one size and one checksum."""
    names = [f"{i}.png" for i in range(len(contents))]
    files = Files(dict(zip(names, contents, strict=True)))
    kept, told = copies(
        files,
        names,
        np.full(len(names), 9),
        np.array(crcs or [7] * len(names)),
        np.array(parts, dtype=np.int8),
        np.array(draws or np.arange(len(names)) / 100),
        np.array(labels or [[0.0]] * len(names), dtype=np.float32),
        drop,
    )
    return kept.tolist(), told, files


def test_of_equal_files_the_one_of_test_stays_then_of_val_then_of_train():
    assert found([b"a"] * 3, [TRAIN, VAL, TEST])[0] == [False, False, True]
    assert found([b"a"] * 2, [TRAIN, VAL])[0] == [False, True]


def test_within_a_split_the_first_in_its_order_stays():
    assert found([b"a"] * 3, [TRAIN] * 3, draws=[0.5, 0.2, 0.9])[0] == [False, True, False]


def test_a_test_picture_always_stays_and_is_told():
    kept, told, _ = found([b"a"] * 2, [TEST] * 2)
    assert kept == [True, True]
    assert [(f.what, f.effect, f.told) for f in told] == [("copy within a split", "noted", "equals '0.png'")]


def test_without_the_option_all_stay_and_are_told():
    kept, told, _ = found([b"a", b"b", b"a"], [TRAIN, TRAIN, TEST], drop=False)
    assert kept == [True] * 3
    assert [(f.what, f.where, f.effect) for f in told] == [("copy across splits", "faces: '0.png'", "noted")]


def test_labels_that_disagree_are_told():
    nan = float("nan")
    _, told, _ = found([b"a"] * 3, [TRAIN] * 3, labels=[[nan], [nan], [1]])
    assert [f.what for f in told] == ["copy within a split", "copy within a split, with other labels"]
    assert told[1].told == "equals '0.png', and the labels disagree"


def test_equal_checksums_are_not_enough_and_only_they_are_read():
    kept, told, files = found([b"a", b"b", b"c"], [TRAIN] * 3, crcs=[1, 1, 2])
    assert (kept, told) == ([True] * 3, [])
    assert files.asked == ["0.png", "1.png"]


def test_a_file_that_cannot_be_read_at_this_moment_leaves_nothing_decided():
    with pytest.raises(DataError, match="shut"):
        found([None, None, b"a"], [TRAIN] * 3)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 2)), min_size=1, max_size=9))
def test_what_stays_has_each_content_once_but_for_the_test_split(pictures):
    contents, parts = zip(*pictures, strict=True)
    kept, told, _ = found(list(contents), list(parts))
    staying = [picture for picture, stays in zip(pictures, kept, strict=True) if stays]
    others = [content for content, part in staying if part != TEST]
    in_test = {content for content, part in staying if part == TEST}
    assert len(set(others)) == len(others)
    assert not in_test & set(others)
    assert {content for content, _ in staying} == set(contents)
    assert sum(part == TEST for part in parts) == sum(part == TEST for _, part in staying)
    assert sum(finding.effect == "dropped" for finding in told) == kept.count(False)
