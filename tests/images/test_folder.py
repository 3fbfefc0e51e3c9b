import re
import unicodedata

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from lvmbench import DataError, UsageError
from lvmbench.calls import parse_calls
from lvmbench.cli import lvmbench as command
from lvmbench.options import resolve
from lvmbench.testing import check_dataset
from lvmbench_images.folder import Images
from pictures_support import csv, found, noise, png, rows_by_name, write, zipped

COUNT = 40
NAMES = [f"{i:03}.png" for i in range(COUNT)]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def pictures(names=NAMES):
    return {name: png(seed) for seed, name in enumerate(names)}


def faces(folder, names=NAMES, columns="file,smiling", row=lambda i, name: (name, i % 2), table="labels.csv"):
    """Write a folder of pictures with a table of them."""
    told = csv([row(i, name) for i, name in enumerate(names)], columns)
    return write(folder, pictures(names) | {table: told})


def images(root="faces", **options):
    return Images(**{"root": root, "size": 16, **options})


def test_one_call_gives_pictures_labels_and_splits(here):
    faces(here / "faces")
    data = images()
    assert [(a.name, a.kind, a.source) for a in data.schema.attributes] == [
        ("smiling", "binary", "labels.csv")
    ]
    rows = rows_by_name(data)
    assert {name: labels for name, (_, labels) in rows.items()} == {n: [i % 2] for i, n in enumerate(NAMES)}
    album = data.album
    names = dict(zip(album.rows.tolist(), album.names, strict=True))
    split = data.split("train")
    for row, picture in zip(split.rows.tolist(), split.images, strict=True):
        assert (picture.permute(1, 2, 0).numpy() == noise(NAMES.index(names[row]))).all()
    assert not data.findings


def test_it_meets_the_contract_of_a_data_set(here):
    faces(here / "faces")
    check_dataset(Images, root="faces", size=16)


def test_the_command_line_writes_it_with_the_folder_alone():
    def asked(text):
        (call,) = parse_calls(text)
        return resolve("images", Images, call.options)

    assert (
        asked("images(faces)") == asked("images(root=faces)") == resolve("images", Images, {"root": "faces"})
    )
    assert asked("images('my faces', size=32)")["root"] == "my faces"
    assert asked("images(~/faces)")["root"] == "~/faces"
    assert asked("images(../sets/faces.zip, labels=./tables/a-1.csv)")["labels"] == "./tables/a-1.csv"
    assert asked("images(faces, kinds={'age': 'number', 'fit': ['s', 'm']})")["kinds"]["fit"] == ["s", "m"]
    with pytest.raises(UsageError, match="images needs the option 'root'"):
        asked("images")


def test_making_the_object_reads_nothing():
    Images(root="nowhere", labels="nothing.csv")


@pytest.mark.parametrize("place", ["here", "data", "home"])
def test_a_folder_is_found_from_here_in_the_data_root_and_at_home(here, tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    faces(tmp_path / place / "my sets" / "faces")
    root = "~/my sets/faces" if place == "home" else "my sets/faces"
    assert len(images(root).album.names) == COUNT


def test_a_zip_reads_as_the_folder_does_with_or_without_its_suffix(here):
    faces(here / "faces")
    folder = rows_by_name(images())
    zipped(here / "packed.zip", pictures())
    write(here, {"packed.csv": (here / "faces" / "labels.csv").read_text(), "other.csv": "a,b\n"})
    assert rows_by_name(images("packed.zip")) == folder
    assert rows_by_name(images("packed")) == folder


def test_the_same_pictures_keep_splits_and_numbers_wherever_they_lie(here):
    faces(here / "faces")
    faces(here / "elsewhere")
    one, other = images(), images("elsewhere")
    assert one.fingerprint == other.fingerprint
    assert torch.equal(one.split("val").rows, other.split("val").rows)


@pytest.mark.parametrize(
    "tables",
    [
        ["faces/labels.csv", "faces/other.csv", "third.csv"],
        ["faces/only.tsv", "labels.csv", "faces.csv"],
        ["faces.csv", "labels.csv", "other.csv"],
        ["labels.csv", "other.csv"],
        ["only.csv"],
    ],
)
def test_the_table_is_looked_for_in_the_folder_then_beside_it(here, tables):
    write(here / "faces", pictures())
    write(here, dict.fromkeys(tables, "a,b\n"))
    assert [path.name for path in images().locate()] == ["faces", tables[0].split("/")[-1]]


def test_several_tables_are_an_error_that_names_them(here):
    write(here / "faces", pictures() | {"a.csv": "", "b.parquet": ""})
    with pytest.raises(
        UsageError, match=r"faces: several tables: a\.csv, b\.parquet\. Choose: labels=a\.csv"
    ):
        images().locate()


@pytest.mark.parametrize("name", ["labels.csv", "about/them.csv"])
def test_a_table_in_the_zip_is_read_there_before_one_beside_it(here, name):
    told = csv([(n, i % 2) for i, n in enumerate(NAMES)])
    path = zipped(
        here / "faces.zip", pictures() | {name: told.encode(), "__MACOSX/._x.csv": b"", "notes.txt": b""}
    )
    write(here, {"other.csv": "a,b\n", "third.csv": "a,b\n"})
    for data in (images("faces.zip"), images("faces.zip", labels=name)):
        assert data.locate()[0] == path.relative_to(here)
        assert rows_by_name(data)["001.png"][1] == [1]
        assert data.schema.attributes[0].source == name.split("/")[-1]
    write(here, {name: told.replace("smiling", "frowning")})
    assert images("faces.zip", labels=name).schema.attributes[0].name == "frowning"


def test_several_tables_in_a_zip_and_a_broken_one_are_told(here):
    zipped(here / "faces.zip", pictures() | {"a.csv": b"file,smiling\n000.png\n", "b.csv": b""})
    with pytest.raises(
        UsageError, match=r"faces\.zip: several tables: a\.csv, b\.csv\. Choose: labels=a\.csv"
    ):
        images("faces.zip").album  # noqa: B018
    with pytest.raises(DataError, match=r"faces\.zip/a\.csv, line 2: 1 cells"):
        images("faces.zip", labels="a.csv").album  # noqa: B018
    with pytest.raises(DataError, match=r"no table 'c\.csv'"):
        images("faces.zip", labels="c.csv").locate()
    zipped(here / "bare.zip", pictures())
    write(here, {"a.csv": "", "b.csv": ""})
    with pytest.raises(UsageError, match=r"bare\.zip: several tables: a\.csv, b\.csv"):
        images("bare.zip").album  # noqa: B018


def test_another_table_in_the_zip_is_another_data_set(here):
    tables = {
        f"{n}.csv": csv([(name, i % 2) for i, name in enumerate(NAMES)], f"file,{n}").encode() for n in "ab"
    }
    zipped(here / "faces.zip", pictures() | tables)
    read = [images("faces.zip", labels=f"{n}.csv").schema.attributes[0].name for n in "ab"]
    assert read == ["a", "b"]


@pytest.mark.parametrize("place", [".", "faces", "../data"])
def test_a_named_table_is_found_from_here_in_the_folder_and_in_the_data_root(here, place):
    write(here / "faces", pictures())
    write(here / place, {"my labels.csv": csv([(n, i % 2) for i, n in enumerate(NAMES)])})
    assert len(images(labels="my labels.csv").album.names) == COUNT


def test_what_is_missing_is_told_with_the_places_and_the_option(here, tmp_path):
    with pytest.raises(DataError, match=rf"no folder or zip 'faces' in {here} or {tmp_path}/data.*root="):
        images().locate()
    write(here / "faces", pictures())
    with pytest.raises(DataError, match=r"no table 'l\.csv' here.*labels="):
        images(labels="l.csv").locate()
    with pytest.raises(DataError, match=r"no table in .*no folders of classes.*labels="):
        images().album  # noqa: B018


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


def test_folders_of_classes_need_no_table(here):
    names = [f"{kind}/{i}.png" for i in range(20) for kind in ("cat", "a dog")]
    write(here / "faces", pictures(names))
    data = images()
    assert [(a.name, a.classes) for a in data.schema.attributes] == [("class", ("a dog", "cat"))]
    assert {name: labels for name, (_, labels) in rows_by_name(data).items()} == {
        name: [name.startswith("cat")] for name in names
    }


def test_folders_of_classes_in_folders_of_splits_give_both(here):
    names = [
        f"{part}/{kind}/{i}.png" for i in range(3) for kind in "ab" for part in ("train", "valid", "test")
    ]
    write(here / "faces", pictures(names))
    assert {n: part for n, (part, _) in rows_by_name(images()).items()} == {
        n: n.split("/")[0].replace("valid", "val") for n in names
    }
    write(here / "bare", pictures(["train/1.png", "test/1.png"]))
    with pytest.raises(DataError, match="no folders of classes"):
        images("bare").album  # noqa: B018


def test_shape_crop_and_pixels_are_options(here):
    wide = {name: png(i) for i, name in enumerate(NAMES)}
    faces(here / "faces")
    write(here / "faces", {NAMES[0]: wide[NAMES[1]]})
    data = images(channels=1, size=8, pixels="bernoulli", drop_duplicates=True, crop="whole")
    assert (data.schema.shape, data.schema.pixels) == ((1, 8, 8), "bernoulli")
    assert data.split("train").images.shape[1:] == (1, 8, 8)
    assert len(data.album.names) == COUNT - 1


def test_a_changed_table_or_picture_is_another_data_set(here):
    faces(here / "faces")
    seen = {images().fingerprint}
    write(here / "faces", {NAMES[0]: png(999)})
    seen.add(images().fingerprint)
    table = here / "faces" / "labels.csv"
    table.write_text(table.read_text().replace("000.png,0", "000.png,1"))
    seen.add(images().fingerprint)
    assert len(seen) == 3
    assert rows_by_name(images())["000.png"][1] == [1]


def test_a_folder_never_seen_before_gives_the_attribute_table_with_one_command(here):
    names = [f"{i:03}.png" for i in range(120)]
    faces(here / "my faces", names, "file,smiling,hair", lambda i, n: (n, i % 2, "abc"[i % 3]))
    words = ["--models", "pca(latent_dim=4)", "--dataset", "images('my faces', size=16)", "--seeds", "1"]
    words += ["--metrics", "auroc", "--budget", "smoke", "--no-controls", "--jobs", "0", "--device", "cpu"]
    ran = CliRunner().invoke(command, ["run", *words, "--results", "results"])
    assert ran.exit_code == 0, ran.output
    assert re.search(r"^smiling +auroc", ran.output, re.MULTILINE), ran.output
