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
        "faces/labels.csv, line 5: 'test/1.png'"
    ]


def test_of_several_pictures_the_one_that_is_named_whole_is_meant_and_else_none(here):
    write(
        here / "faces", {n: png(i) for i, n in enumerate(["1.png", "1.jpg", "a/2.png", "b/2.png", "3.png"])}
    )
    write(here / "faces", {"labels.csv": csv([("1.png", 1), ("2.png", 1), ("3.png", 0)])})
    data = images()
    assert data.album.names == ("1.png", "3.png")
    (several,) = found(data, "row that fits several pictures")
    assert several.where.endswith("labels.csv, line 3: '2.png'")
    assert several.told == "'a/2.png', 'b/2.png'"
    assert len(found(data, "picture without a row")) == 3


@pytest.mark.parametrize("column", ["age", "image", "photo number"])
def test_a_column_of_names_with_suffixes_goes_before_numbers_that_name_more(here, column):
    names = [f"{i}.png" for i in range(1, 31)]
    columns = f"{column},id,file,smiling"
    faces(here / "faces", names, columns, lambda i, name: (30 - i, 900 + i, "x" * (i < 5) + name, i % 2))
    assert rows_by_name(images())["11.png"][1][-1] == 0
    assert len(found(images(), "row without a picture")) == 5


@pytest.mark.parametrize("column", ["image", "Image ID", "file_name", "path"])
def test_a_column_that_is_called_file_goes_before_other_words_and_numbers(here, column):
    names = [f"{i}.png" for i in range(1, 31)]
    columns = f"word,key,{column},smiling"
    faces(here / "faces", names, columns, lambda i, name: (f"0{i}", 61 - 2 * i, i + 1 + 99 * (i < 5), i % 2))
    write(here / "faces", {f"0{i}.png": png(i + 100) for i in range(30)})
    data = images()
    assert {name: labels[-1] for name, (_, labels) in rows_by_name(data).items()} == {
        names[i]: i % 2 for i in range(5, 30)
    }


def test_labels_of_a_table_that_pandas_wrote_are_of_the_named_pictures_though_its_index_names_more(here):
    places = np.random.default_rng(0).permutation(200)[:100].tolist()
    write(here / "faces", {f"{i}.png": png(i) for i in range(200) if i not in places[:3]})
    write(
        here,
        {
            "labels.csv": pd.DataFrame(
                {"file": [f"{i}.png" for i in places], "even": [i % 2 for i in places]}
            ).to_csv()
        },
    )
    data = images()
    labels = {name: labels for name, (_, labels) in rows_by_name(data).items()}
    assert labels == {f"{i}.png": [i % 2] for i in places[3:]}
    assert len(found(data, "row without a picture")) == 3


NUMBERS = [
    ("", lambda i: i),
    ("", lambda i: i * i % 41),
    ("index", lambda i: 2 * i % 41),
    ("id", lambda i: i),
    ("row", lambda i: 39 - i),
    ("age", lambda i: i % 7),
]


@pytest.mark.parametrize(("column", "value"), NUMBERS)
def test_numbers_without_a_name_or_that_count_or_repeat_are_pictures_only_if_asked(here, column, value):
    names = [f"{i}.png" for i in range(COUNT)]
    faces(here / "faces", names, f"{column},smiling,hair", lambda i, name: (value(i), i % 2, "abc"[i % 3]))
    with pytest.raises(UsageError, match=rf"no column names pictures for certain.*file='{column}'"):
        images().album  # noqa: B018
    assert rows_by_name(images(file=column))[f"{value(1)}.png"][1][0] == 1 or column in ("age", "")


def test_other_numbers_and_words_name_pictures_where_nothing_likelier_does(here):
    names = [f"{7 * i % 41}.png" for i in range(0, 80, 2)]
    faces(here / "faces", names, "id,smiling", lambda i, name: (name[:-4], i % 2))
    assert {name: labels for name, (_, labels) in rows_by_name(images()).items()} == {
        name: [i % 2] for i, name in enumerate(names)
    }


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


def test_three_numbers_are_splits_in_any_column_of_such_a_name_and_two_are_not_understood(here):
    faces(here / "faces", columns="file,split,smiling", row=lambda i, n: (n, i % 3, i // 3 % 2))
    splits = {name: part for name, (part, _) in rows_by_name(images()).items()}
    assert splits == {name: ("train", "val", "test")[i % 3] for i, name in enumerate(NAMES)}
    faces(here / "faces", columns="file,split,smiling", row=lambda i, n: (n, i % 2, i // 3 % 2))
    with pytest.raises(DataError, match=r"line 2, column 'split': '0' is no split.*split='split'"):
        images().album  # noqa: B018
    assert rows_by_name(images(split="split"))["001.png"][0] == "val"


@pytest.mark.parametrize("column", ["split", "Subset", "partition"])
def test_a_split_column_with_a_word_that_is_not_known_is_an_error_unless_it_is_an_attribute(here, column):
    faces(here / "faces", columns=f"file,{column}", row=lambda i, n: (n, ("train", "banana")[i == 1]))
    told = rf"labels\.csv, line 3, column '{column}': 'banana' is no split\. Known: train"
    with pytest.raises(DataError, match=rf"{told}.*kinds=\{{'{column}': 'categorical'\}}"):
        images().album  # noqa: B018
    with pytest.raises(DataError, match=told):
        images(split=column).album  # noqa: B018
    assert [a.name for a in images(kinds={column: "binary"}).schema.attributes] == [column]


def test_a_row_without_a_split_is_drawn_and_told(here):
    row = lambda i, n: (n, "" if i == 5 else "train", i % 2)  # noqa: E731
    faces(here / "faces", columns="file,split,smiling", row=row)
    (one,) = found(images(), "row without a split")
    assert (one.where.split(", ")[-1], one.effect) == ("line 7", "changed")


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


@pytest.mark.parametrize("column", ["subject", "Person", "individual"])
def test_a_column_that_may_name_people_does_so_from_21_values_on_and_else_is_told(here, column):
    kinds = ("cat", "dog", "horse")
    faces(here / "faces", columns=f"file,{column},sunny", row=lambda i, n: (n, kinds[i % 3], i // 3 % 2))
    data = images()
    assert [a.name for a in data.schema.attributes] == [column, "sunny"]
    assert not data.schema.identities
    (told,) = found(data, "column that may name people")
    assert told.told.endswith(f"identity='{column}'")
    assert not found(images(kinds={column: "categorical"}), "column that may name people")
    for people, known in ((20, False), (21, True)):
        faces(here / "faces", columns=f"file,{column},sunny", row=lambda i, n: (n, f"p{i % people}", i % 2))  # noqa: B023
        assert images().schema.identities == known
    assert images(identity=column).schema.identities


def test_a_column_of_people_whose_kind_is_asked_for_is_an_attribute(here):
    faces(here / "faces", columns="file,identity,sunny", row=lambda i, n: (n, "abc"[i % 3], i % 2))
    data = images(kinds={"identity": "categorical"})
    assert [a.name for a in data.schema.attributes] == ["identity", "sunny"]
    assert not data.schema.identities


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


def test_of_two_columns_with_suffixes_the_one_that_is_called_a_file_names_the_pictures(here):
    near = NAMES[1:] + NAMES[:1]
    row = lambda i, name: ("gone.png" if i == 3 else name, near[i], i % 2)  # noqa: E731
    faces(here / "faces", columns="file,nearest,even", row=row)
    labels = {name: told[1] for name, told in rows_by_name(images()).items()}
    assert labels == {name: [i % 2] for i, name in enumerate(NAMES) if i != 3}


def test_a_counter_that_is_called_a_file_is_not_taken_where_another_column_could_be_meant(here):
    names = [f"{i}.png" for i in range(30)]
    row = lambda i, name: (i, 29 - i, i % 2)  # noqa: E731
    faces(here / "faces", names=names, columns="image_id,name,even", row=row)
    with pytest.raises(UsageError, match="'image_id' may only count or measure"):
        images().album  # noqa: B018
    labels = {name: told[1] for name, told in rows_by_name(images(file="name")).items()}
    assert labels == {f"{29 - i}.png": [i % 2] for i in range(30)}


def test_a_counter_that_is_called_a_file_is_taken_where_nothing_else_names_pictures(here):
    names = [f"{i}.png" for i in range(30)]
    faces(
        here / "faces", names=names, columns="image_id,smiling", row=lambda i, name: (i, ("no", "yes")[i % 2])
    )
    assert len(images().album.names) == 30


def test_codes_of_splits_may_be_written_as_numbers_with_a_point(here):
    row = lambda i, name: (name, f"{i % 3}.0", i // 3 % 2)  # noqa: E731
    faces(here / "faces", columns="file,split,smiling", row=row)
    album = images().album
    assert dict(zip(album.names, album.parts.tolist(), strict=True)) == {
        n: i % 3 for i, n in enumerate(NAMES)
    }
