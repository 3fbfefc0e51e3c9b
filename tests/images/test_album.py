import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvmbench import Attribute, DataError, Finding
from lvmbench_images.album import assemble, draw, number
from lvmbench_images.archive import Member
from lvmbench_images.remembered import _packed, _unpacked
from lvmbench_images.table import PARTS, Table

SMILING = Attribute("smiling", "binary")
NAN = float("nan")


class Files:
    """An archive in memory: name -> bytes."""

    path = "faces"
    signature = "one"

    def __init__(self, contents, findings=()):
        self.contents, self.told = contents, list(findings)

    def members(self):
        return [Member(name, len(c), zlib.crc32(c)) for name, c in sorted(self.contents.items())]

    def findings(self):
        return self.told

    def read(self, name):
        return self.contents[name]


def files(names):
    return Files({name: name.encode() for name in names})


def table(names, labels=None, **more):
    values = np.array(labels or [[i % 2] for i in range(len(names))], dtype=np.float32)
    return Table((SMILING,), names, values, [f"labels.csv, line {i + 2}" for i in range(len(names))], **more)


def joined(names, **more):
    return assemble("set", files(names), table(names, **more))


MANY = [f"{i}.png" for i in range(2000)]


def test_draws_and_numbers_are_those_of_sha256_for_ever():
    digest = hashlib.sha256(b"set/a.png").hexdigest()
    assert draw("set/a.png") == int(digest[:12], 16) / 16**12
    assert number("set/a.png") == int(digest[:16], 16) // 4


def test_an_undecided_picture_is_drawn_a_tenth_each_for_val_and_test():
    parts = joined(MANY).parts
    expected = [draw(f"set/{name}") for name in joined(MANY).names]
    assert [PARTS[p] for p in parts] == [
        "val" if d < 0.1 else "test" if d < 0.2 else "train" for d in expected
    ]
    assert np.bincount(parts)[1:] == pytest.approx([200, 200], abs=55)  # four standard deviations


@pytest.mark.parametrize(("given_parts", "missing"), [((0, 2), 1), ((0, 1), 2), ((0,), 1), ((0,), 2)])
def test_a_split_that_is_not_given_is_drawn_from_train_and_the_others_stay(given_parts, missing):
    parts = np.array([given_parts[i % len(given_parts)] for i in range(len(MANY))], dtype=np.int8)
    album = joined(MANY, parts=parts)
    told = dict(zip(MANY, parts.tolist(), strict=True))
    moved = [n for n, part in zip(album.names, album.parts.tolist(), strict=True) if part != told[n]]
    assert all(told[name] == 0 for name in moved)
    assert (album.parts == missing).sum() == pytest.approx(200 / len(given_parts), abs=55)


def test_given_splits_stay_as_they_are():
    parts = np.arange(30, dtype=np.int8) % 3
    album = joined(MANY[:30], parts=parts)
    assert [album.parts[album.names.index(name)] for name in MANY[:30]] == parts.tolist()


def test_pictures_of_a_person_are_drawn_together_and_of_nobody_one_by_one():
    people = ["" if i % 5 == 0 else f"p{i % 40}" for i in range(2000)]
    album = joined(MANY, identities=people)
    told = dict(zip(MANY, people, strict=True))
    splits, groups = {}, {}
    for name, part, group in zip(album.names, album.parts.tolist(), album.identities.tolist(), strict=True):
        key = told[name] or name
        splits.setdefault(key, set()).add(part)
        groups.setdefault(key, set()).add(group)
    assert {len(parts) for parts in splits.values()} == {1}
    assert len(set.union(*groups.values())) == len(groups) == 32 + 400


def test_a_picture_keeps_its_place_when_others_come_and_go():
    few, many = joined(MANY[:300]), joined(MANY[:600])
    for part in PARTS:
        names = [many.names[i] for i in many.order(part)]
        assert [n for n in names if n in few.names] == [few.names[i] for i in few.order(part)]
        assert names != sorted(names)


def test_rows_of_one_picture_are_told_each_and_their_labels_missing_where_they_differ():
    names = ["a.png", "a.png", "./a.png", "b.png", "b.png", "c.png"]
    labels = [[0], [0], [1], [NAN], [NAN], [1]]
    album = assemble("set", files(["a.png", "b.png", "c.png"]), table(names, labels))
    assert [np.isnan(album.labels[album.names.index(n), 0]) for n in ("a.png", "b.png", "c.png")] == [
        True,
        True,
        False,
    ]
    told = [(f.what, f.where, f.effect) for f in album.findings if "row" in f.what]
    assert told == [
        ("rows of one picture that disagree", "labels.csv, line 3: 'a.png'", "changed"),
        ("rows of one picture that disagree", "labels.csv, line 4: './a.png'", "changed"),
        ("row twice", "labels.csv, line 6: 'b.png'", "noted"),
    ]


def test_rows_that_say_another_person_are_told():
    album = assemble("set", files(["a.png"]), table(["a.png", "a.png"], [[0], [0]], identities=["p", "q"]))
    assert [f.told for f in album.findings if "disagree" in f.what] == ["identity: of the first"]


def test_what_is_in_one_place_only_is_left_out_and_told():
    album = assemble(
        "set", Files({"a.png": b"a", "b.png": b"b"}, [Finding("odd", "there")]), table(["a.png", "c.png"])
    )
    assert album.names == ("a.png",)
    told = [(f.what, f.where, f.effect) for f in album.findings]
    assert told[:3] == [
        ("odd", "there", "noted"),
        ("row without a picture", "labels.csv, line 3: 'c.png'", "left out"),
        ("picture without a row", "faces: 'b.png'", "left out"),
    ]


def test_two_pictures_of_one_name_are_told_and_the_first_stays():
    album = assemble("set", Files({"./a.png": b"one", "a.png": b"other"}), table(["a.png"]))
    assert album.names == ("./a.png",)
    (finding,) = [f for f in album.findings if f.what == "name written in two ways"]
    assert (finding.where, finding.effect) == ("faces: 'a.png'", "left out")


@pytest.mark.parametrize(
    ("pictures", "rows", "told"),
    [
        (["x.png"], ["a.png"], r"the first there: 'x\.png'.*line 2: 'a\.png' is the first"),
        ([], ["a.png"], "there is none"),
        (["x.png"], [], "there are no rows"),
    ],
)
def test_nothing_in_common_is_an_error_that_shows_both_sides(pictures, rows, told):
    with pytest.raises(DataError, match=told):
        assemble("set", files(pictures), table(rows, [[0]] * len(rows) or np.empty((0, 1)).tolist()))


def test_a_class_that_no_picture_has_is_told():
    hair = Attribute("hair", "categorical", ("black", "red"))
    rows = Table((SMILING, hair), ["a.png"], np.array([[0, 1]], dtype=np.float32), ["line 2"])
    told = [f.where for f in assemble("set", files(["a.png"]), rows).findings]
    assert told == ["smiling: 'yes'", "hair: 'black'"]


def test_the_digest_tells_labels_splits_and_people_apart_and_not_the_order_of_rows():
    names = MANY[:20]
    seen = {joined(names).digest(), joined(names, identities=["p"] * 20).digest()}
    seen.add(joined(names, labels=[[0]] * 20).digest())
    seen.add(joined(names, parts=np.arange(20, dtype=np.int8) % 3).digest())
    assert len(seen) == 4
    turned = assemble("set", files(names), table(names[::-1], [[i % 2] for i in range(20)][::-1]))
    assert turned.digest() == joined(names).digest()


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
        min_size=1,
        max_size=8,
        unique=True,
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_an_album_is_remembered_as_it_was(stems, people):
    names = [f"{stem}.png" for stem in stems]
    album = joined(names, identities=["p"] * len(names) if people else None)
    again = _unpacked(_packed(album))
    assert again.digest() == album.digest()
    assert (again.names, again.findings, again.attributes) == (album.names, album.findings, album.attributes)
    assert (again.identities is None) == (not people)
