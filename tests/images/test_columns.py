import unicodedata

import numpy as np
import pandas as pd
import pytest

from lvmbench import DataError, UsageError
from pictures_support import (
    COUNT,
    NAMES,
    csv,
    faces,
    found,
    images,
    png,
    rows_by_name,
    write,
    zipped,
)

pytestmark = pytest.mark.usefixtures("here")


NFD = unicodedata.normalize("NFD", "é1.png")
WRITTEN = [
    ("1.png", "1.png"),
    ("1.png", "1"),
    ("1.png", "1.jpg"),
    ("1.JPG", "1.jpg"),
    ("Anna.png", "anna.PNG"),
    ("a/1.png", "1.png"),
    ("a/1.png", "a\\1.png"),
    ("a/1.png", "faces/a/1.png"),
    ("a/1.png", "./a/1.png"),
    ("1.png", "/home/them/faces/1.png"),
    ("1.png", "C:\\faces\\1.png"),
    ("my picture 1.png", "my picture 1.png"),
    ("v1.5.png", "v1.5"),
    (NFD, "é1.png"),
    ("é1.png", NFD),
    ("顔/１.png", "顔/１"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("picture", "cell"), WRITTEN)
def test_a_cell_names_its_picture_with_or_without_folders_and_suffix(here, picture, cell, packed):
    others = {f"x{i}.png": png(i) for i in range(3)}
    files = others | {picture: png(9)}
    labels = csv([*((name, 0) for name in others), (f'"{cell}"', 1)])
    if packed:
        zipped(here / "faces.zip", files)
    else:
        write(here / "faces", files)
    write(here, {"labels.csv": labels})
    album = images("faces.zip" if packed else "faces").album
    assert dict(zip(album.names, album.labels[:, 0].tolist(), strict=True)) == dict.fromkeys(others, 0) | {
        picture: 1
    }
    assert not album.findings


def test_the_same_name_in_another_folder_is_another_picture(here):
    names = ["train/1.png", "val/1.png", "train/2.png"]
    faces(here / "faces", names, row=lambda i, name: (name, i % 2))
    table = here / "faces" / "labels.csv"
    table.write_text(table.read_text() + "test/1.png,1\n")
    assert [f.where for f in found(images(), "row without a picture")] == [
        "faces/labels.csv, row 4: 'test/1.png'"
    ]


def test_of_several_pictures_the_one_that_is_named_whole_is_meant_and_else_none(here):
    write(
        here / "faces", {n: png(i) for i, n in enumerate(["1.png", "1.jpg", "a/2.png", "b/2.png", "3.png"])}
    )
    write(here / "faces", {"labels.csv": csv([("1.png", 1), ("2.png", 1), ("3.png", 0)])})
    data = images()
    assert data.album.names == ("1.png", "3.png")
    (several,) = found(data, "row that fits several pictures")
    assert several.where.endswith("labels.csv, row 2: '2.png'")
    assert several.told == "'a/2.png', 'b/2.png'"
    assert len(found(data, "picture without a row")) == 3


def test_the_column_of_names_is_the_one_that_names_the_most_pictures(here):
    names = [f"{i}.png" for i in range(1, 31)]
    columns = "age,id,file,smiling"
    faces(here / "faces", names, columns, lambda i, name: (1 + i % 25, 900 + i, name, i % 2))
    assert [a.name for a in images().schema.attributes] == ["age", "smiling"]


def test_two_columns_that_name_other_pictures_are_an_error_and_an_option_decides(here):
    row = lambda i, name: (name, NAMES[i - 1], i % 2)  # noqa: E731
    faces(here / "faces", columns="before,after,smiling", row=row)
    with pytest.raises(UsageError, match="'before' and 'after' name 40 pictures each.*file=before"):
        images().album  # noqa: B018
    data = images(file="after")
    assert rows_by_name(data)[NAMES[-1]][1] == [0]


def test_two_columns_that_name_the_same_pictures_are_no_doubt(here):
    faces(here / "faces", columns="path,id,smiling", row=lambda i, name: (f"x/{name}", name[:-4], i % 2))
    assert [a.name for a in images().schema.attributes] == ["smiling"]


def test_a_table_that_names_no_picture_and_a_column_that_is_not_there_are_told(here):
    faces(here / "faces", row=lambda i, name: (f"other{i}.png", i % 2))
    with pytest.raises(
        DataError, match=r"labels\.csv: no column names a picture.*file, smiling.*file=column"
    ):
        images().album  # noqa: B018
    for option in ("file", "split", "identity"):
        faces(here / "faces")
        with pytest.raises(UsageError, match=rf"{option}=flie: no such column. There are: file, smiling"):
            images(**{option: "flie"}).album  # noqa: B018


def test_columns_become_attributes_by_the_rules_and_others_are_told(here):
    row = lambda i, name: (name, i % 2, "abc"[i % 3], i / 7, "x", f"word {i}", ["m", "f"][i % 2])  # noqa: E731
    faces(here / "faces", columns="file,smiling,hair,age,camera,comment,gender", row=row)
    data = images()
    kinds = [(a.name, a.kind, a.classes) for a in data.schema.attributes]
    assert kinds == [
        ("smiling", "binary", ()),
        ("hair", "categorical", ("a", "b", "c")),
        ("age", "ordinal", ()),
        ("Male", "binary", ()),
    ]
    assert rows_by_name(data)["004.png"][1] == pytest.approx([0, 1, 4 / 7, 1])
    told = {f.where.split("'")[1]: (f.effect, f.told) for f in found(data, "column left out")}
    assert told == {
        "camera": ("left out", "one value only, 'x'"),
        "comment": ("left out", "another word in every row"),
    }


def test_kinds_override_the_rules(here):
    faces(here / "faces", columns="file,digit,fit", row=lambda i, name: (name, i % 5, "lms"[i % 3]))
    data = images(kinds={"digit": "number", "fit": ["s", "m", "l"]})
    assert [(a.kind, a.classes) for a in data.schema.attributes] == [
        ("ordinal", ()),
        ("ordinal", ("s", "m", "l")),
    ]
    assert data.fingerprint != images().fingerprint
    with pytest.raises(UsageError, match="No column 'digits'"):
        images(kinds={"digits": "number"}).album  # noqa: B018


def test_an_empty_cell_is_a_missing_label(here):
    faces(here / "faces", row=lambda i, name: (name, "" if i == 3 else i % 2))
    labels = {name: labels[0] for name, (_, labels) in rows_by_name(images()).items()}
    assert np.isnan(labels.pop("003.png"))
    assert not np.isnan(list(labels.values())).any()


WORDS = [("train", "val", "test"), ("Training", "valid", "TEST"), ("train", "dev", "eval")]


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("column", ["split", "Partition", "subset"])
def test_a_split_column_is_known_by_its_name_and_its_words(here, column, words):
    faces(here / "faces", columns=f"file,{column},smiling", row=lambda i, n: (n, words[i % 3], i // 3 % 2))
    splits = {name: part for name, (part, _) in rows_by_name(images()).items()}
    assert splits == {name: ("train", "val", "test")[i % 3] for i, name in enumerate(NAMES)}


def test_numbers_are_splits_in_a_column_named_partition_or_asked_for(here):
    faces(here / "faces", columns="file,partition,part", row=lambda i, n: (n, i % 3, i % 2))
    assert rows_by_name(images())["001.png"][0] == "val"
    faces(here / "faces", columns="file,set,smiling", row=lambda i, n: (n, i % 3, i % 2))
    assert [a.name for a in images().schema.attributes] == ["set", "smiling"]
    assert rows_by_name(images(split="set"))["002.png"][0] == "test"


def test_a_column_named_split_of_other_words_is_an_attribute(here):
    faces(here / "faces", columns="file,split", row=lambda i, n: (n, ("train", "banana")[i % 2]))
    assert [a.name for a in images().schema.attributes] == ["split"]
    with pytest.raises(
        DataError, match=r"labels\.csv, row 2, column 'split': 'banana' is no split\. Known: train"
    ):
        images(split="split").album  # noqa: B018


def test_a_row_without_a_split_is_drawn_and_told(here):
    row = lambda i, n: (n, "" if i == 5 else "train", i % 2)  # noqa: E731
    faces(here / "faces", columns="file,split,smiling", row=row)
    (one,) = found(images(), "row without a split")
    assert (one.where.split(", ")[-1], one.effect) == ("row 6", "changed")


def test_what_no_column_decides_is_drawn_a_tenth_each_for_val_and_test(here):
    faces(here / "faces", columns="file,split,smiling", row=lambda i, n: (n, "train", i % 2))
    decided = rows_by_name(images())
    faces(here / "faces")
    drawn = rows_by_name(images())
    assert decided == drawn
    counts = [sum(part == name for part, _ in drawn.values()) for name in ("train", "val", "test")]
    assert min(counts) >= 1
    assert counts[0] > COUNT / 2


@pytest.mark.parametrize(
    ("column", "option"), [("identity", {}), ("Person ID", {}), ("who", {"identity": "who"})]
)
def test_a_person_is_never_in_two_splits(here, column, option):
    faces(here / "faces", columns=f"file,{column},smiling", row=lambda i, n: (n, f"p{i % 20}", i % 2))
    data = images(**option)
    assert data.schema.identities
    splits = {part: data.split(part) for part in ("train", "val", "test")}
    people = {part: set(split.groups.tolist()) for part, split in splits.items()}
    assert sum(map(len, people.values())) == len(set.union(*people.values())) == 20
    assert [a.name for a in data.schema.attributes] == ["smiling"]


def test_parquet_reads_as_csv_does_and_its_index_may_be_the_names(here):
    pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow, which is not installed")
    faces(here / "faces")
    expected = rows_by_name(images())
    (here / "faces" / "labels.csv").unlink()
    smiling = [bool(i % 2) for i in range(COUNT)]
    table = pd.DataFrame({"file": NAMES, "smiling": smiling, "box": [[i] for i in range(COUNT)]})
    for change in (lambda t: t, lambda t: t.set_index("file")):
        change(table).to_parquet(here / "faces" / "labels.parquet")
        data = images()
        assert rows_by_name(data) == expected
        assert [f.told for f in data.findings] == ["neither numbers nor words"]
