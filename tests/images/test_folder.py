import os
import re
from collections import Counter
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from lvmbench import DataError, UsageError
from lvmbench.calls import parse_calls
from lvmbench.cli import lvmbench as command
from lvmbench.options import resolve
from lvmbench.testing import check_dataset
from lvmbench_images.folder import Images
from pictures_support import (
    COUNT,
    NAMES,
    csv,
    faces,
    found,
    images,
    noise,
    pictures,
    png,
    rows_by_name,
    write,
    zipped,
)

pytestmark = pytest.mark.usefixtures("here")


def test_one_call_gives_pictures_labels_and_splits(here):
    faces(here / "faces")
    data = images()
    assert [(a.name, a.kind, a.source) for a in data.schema.attributes] == [
        ("smiling", "binary", "the table")
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
    ],
)
def test_the_table_is_looked_for_in_the_folder_then_beside_it(here, tables):
    write(here / "faces", pictures())
    write(here, dict.fromkeys(tables, "a,b\n"))
    assert [path.name for path in images().locate()] == ["faces", tables[0].split("/")[-1]]


def test_a_table_of_another_name_beside_a_set_is_not_taken_for_its_own(here):
    faces(here / "a")
    (here / "a" / "labels.csv").rename(here / "a.csv")
    write(here / "b", pictures())
    assert [path.name for path in images("a").locate()] == ["a", "a.csv"]
    with pytest.raises(DataError, match="no table in b, none of its name or called labels beside it"):
        images("b").album  # noqa: B018


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
        assert data.schema.attributes[0].name == "smiling"
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
    write(here, {"bare.csv": "", "bare.tsv": ""})
    with pytest.raises(UsageError, match=r"bare\.zip: several tables: bare\.csv, bare\.tsv"):
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


SETS = [f"{part}/{kind}/{i}.png" for i in range(9) for kind in "ab" for part in ("train", "test")]


@pytest.mark.parametrize("strays", [["preview.png"], ["extra/1.png", "test/2.png"], ["more/of/it.png"][:0]])
@pytest.mark.parametrize("top", ["", "pets/", "my/pets/"])
def test_folders_of_splits_are_splits_below_any_folder_and_with_strays_beside_them(here, top, strays):
    files = pictures([top + name for name in [*SETS, *strays]])
    zipped(here / "zip" / "pets.zip", files)
    write(here / "faces", files)
    for data in (images(), images("zip/pets.zip")):
        decided = {
            name: part for name, (part, _) in rows_by_name(data, ("train", "test")).items() if "test" in name
        }
        assert decided == {top + name: "test" for name in SETS if "test" in name}
        assert [a.classes for a in data.schema.attributes] == [("a", "b")]
        assert len(found(data, "picture without a row")) == len(strays)


def test_folders_of_which_some_are_splits_and_some_are_not_are_refused(here):
    write(here / "faces", pictures([*SETS, "extra/a/1.png"]))
    with pytest.raises(
        DataError, match="the folder 'test' is a split, the folder 'extra' beside it is not.*labels="
    ):
        images().album  # noqa: B018


def test_a_class_may_be_called_train_beside_others(here):
    names = [f"{kind}/{i}.png" for i in range(20) for kind in ("bus", "train")]
    write(here / "faces", pictures(names))
    assert [a.classes for a in images().schema.attributes] == [("bus", "train")]


@pytest.mark.parametrize("table", ["labels.csv", None])
def test_a_set_keeps_its_fingerprint_under_another_name_of_its_folder_and_its_table(here, table):
    if table:
        faces(here / "faces")
    else:
        write(here / "faces", pictures([f"{kind}/{i}.png" for i in range(20) for kind in "ab"]))
    before = images().fingerprint
    (here / "faces").rename(here / "pets")
    if table:
        (here / "pets" / table).rename(here / "pets" / "told.csv")
    assert images("pets").fingerprint == before


@pytest.mark.parametrize("root", ["~nosuchuser/x", "x" * 300, "a\0b", "file/x"])
def test_a_name_that_no_path_can_have_is_told_as_one_that_is_not_there(here, root):
    write(here, {"file": ""})
    with pytest.raises(DataError, match="images: no folder or zip '"):
        images(root).locate()


def test_a_place_that_may_not_be_looked_into_is_told(here, monkeypatch):
    def denied(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(DataError, match=r"faces cannot be read \(Permission denied\)"):
        images().locate()


def test_tables_are_found_among_many_pictures_without_a_path_for_each(here, monkeypatch):
    faces(here / "faces")
    write(here / "faces", {".hidden.csv": ""})
    (here / "faces" / "folder.csv").mkdir()
    monkeypatch.setattr(Path, "iterdir", None)
    assert [path.name for path in images().locate()] == ["faces", "labels.csv"]


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


REAL = [p for p in (os.environ.get("LVMBENCH_DATA"), Path(__file__).parents[3] / "shared" / "data") if p]
FACES = [Path(p) / "fairface" for p in REAL if (Path(p) / "fairface" / "fairface_64_q92.zip").is_file()]
CHARACTERS = [Path(p) / "omniglot" for p in REAL if (Path(p) / "omniglot").is_dir()]


@pytest.mark.skipif(
    not FACES, reason="the FairFace files are neither under LVMBENCH_DATA nor in ../shared/data"
)
def test_the_real_faces_read_without_a_reader_of_their_own():
    data = images(str(FACES[0] / "fairface_64_q92.zip"), labels="fairface_label_val_subset.csv")
    found = {a.name: (a.kind, a.n_classes) for a in data.schema.attributes}
    assert found == {
        "age": ("categorical", 9),
        "Male": ("binary", 2),
        "race": ("categorical", 7),
        "service_test": ("binary", 2),
    }
    labels = dict(zip(found, data.album.labels.T, strict=True))
    assert labels["Male"].sum() == 2633
    assert labels["service_test"].sum() == 2380
    told = Counter(finding.what.partition(" ")[0] for finding in data.findings)
    assert told == {"picture": 20_000, "copy": 1}
    assert data.split("val", 20).images.shape == (20, 3, 16, 16)


@pytest.mark.skipif(
    not CHARACTERS, reason="the OMNIGLOT files are neither under LVMBENCH_DATA nor in ../shared/data"
)
def test_the_real_characters_read_as_folders_of_classes():
    data = images(str(CHARACTERS[0] / "images_background_small1.zip"), channels=1)
    (kind,) = data.schema.attributes
    assert (kind.name, kind.n_classes, len(data.album.names)) == ("class", 40, 2720)
    assert not data.findings


def test_a_folder_with_a_point_in_its_name_takes_no_table_of_another(here):
    faces(here / "faces")
    (here / "faces" / "labels.csv").rename(here / "faces.csv")
    write(here / "faces.v2", pictures())
    with pytest.raises(DataError, match=r"no table in faces\.v2"):
        images("faces.v2").album  # noqa: B018


def test_of_folders_below_classes_the_class_is_the_top(here):
    write(here / "faces", {"cat/1.png": png(1), "dog/2.png": png(2), "cat/extra/3.png": png(3)})
    (attribute,) = images().album.attributes
    assert attribute.classes == ("cat", "dog")
    assert rows_by_name(images())["cat/extra/3.png"][1] == rows_by_name(images())["cat/1.png"][1]


def test_a_link_that_is_removed_is_told_no_more(here):
    faces(here / "faces")
    (here / "faces" / "broken.png").symlink_to(here / "nowhere.png")
    assert [f.what for f in images().findings] == ["link that leads nowhere"]
    (here / "faces" / "broken.png").unlink()
    assert list(images().findings) == []
