import importlib.util
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lvmbench import DataError, UsageError
from lvmbench.calls import parse_calls
from lvmbench.options import resolve
from lvmbench.testing import check_dataset
from lvmbench_images.archive import Folder
from lvmbench_images.hf import HuggingFace
from pictures_support import COUNT, found, noise, png, rows_by_name, write

REASON = "reading Hugging Face sets needs the package datasets, which is not installed"
needed = pytest.mark.skipif(importlib.util.find_spec("datasets.load") is None, reason=REASON)
pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def library(here, monkeypatch):
    datasets = pytest.importorskip("datasets.load", reason=REASON) and sys.modules["datasets"]
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", here.parent / "hub")
    datasets.disable_progress_bars()
    return datasets


def rows(library, count=COUNT, first=0, pictures=None, **more):
    """Return a data set as the hub has them: encoded pictures, flags, classes with names, numbers, words, lists."""
    value, numbers = library.Value, range(first, first + count)
    columns = {
        "image": (library.Image(), pictures or [{"bytes": png(i), "path": None} for i in numbers]),
        "Male": (value("bool"), [i % 2 == 0 for i in numbers]),
        "race": (
            library.ClassLabel(names=["white", "black", "asian"]),
            [i % 4 - (i % 4 == 3) * 4 for i in numbers],
        ),
        "age": (value("int64"), [i * 3 for i in numbers]),
        "hair": (value("string"), [None if i == 3 else "abc"[i % 3] for i in numbers]),
        "box": (library.Sequence(value("int64")), [[1, 2]] * count),
        **more,
    }
    features = library.Features({name: feature for name, (feature, _) in columns.items()})
    return library.Dataset.from_dict(
        {name: values for name, (_, values) in columns.items()}, features=features
    )


def hf(name="faces", **options):
    return HuggingFace(**{"name": name, "size": 16, **options})


def test_the_command_line_writes_it_with_the_name_alone():
    (call,) = parse_calls("hf(flwrlabs/celeba, config='img_align+identity+attr')")
    options = resolve("hf", HuggingFace, call.options)
    assert (options["name"], options["config"]) == ("flwrlabs/celeba", "img_align+identity+attr")


def test_making_the_object_reads_nothing_and_imports_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    data = HuggingFace(name="nowhere")
    with pytest.raises(UsageError, match=r"need the package datasets: pip install 'lvmbench\[hf\]'"):
        data.locate()


@needed
@pytest.mark.parametrize("form", ["disk", "one", "parquet", "file"])
def test_a_folder_of_arrow_or_parquet_gives_pictures_labels_and_splits(here, library, form):
    data = rows(library)
    if form == "disk":
        library.DatasetDict(train=data).save_to_disk(here / "faces")
    if form == "one":
        data.save_to_disk(here / "faces")
    if form in ("parquet", "file"):
        (here / "faces").mkdir()
        data.to_parquet(here / "faces" / "train-00000-of-00001.parquet")
    read = hf("faces/train-00000-of-00001.parquet" if form == "file" else "faces")
    kinds = [(a.name, a.kind, a.classes) for a in read.schema.attributes]
    assert kinds == [
        ("Male", "binary", ()),
        ("race", "categorical", ("asian", "black", "white")),
        ("age", "ordinal", ()),
        ("hair", "categorical", ("a", "b", "c")),
    ]
    labels = {int(name.split("/")[1]): values for name, (_, values) in rows_by_name(read).items()}
    nan = float("nan")
    for i in range(COUNT):
        expected = [i % 2 == 0, [2, 1, 0, nan][i % 4], i * 3, nan if i == 3 else i % 3]
        assert np.array_equal(labels[i], expected, equal_nan=True)
    split = read.split("train")
    names = dict(zip(read.album.rows.tolist(), read.album.names, strict=True))
    for row, picture in zip(split.rows.tolist(), split.images, strict=True):
        assert (picture.permute(1, 2, 0).numpy() == noise(int(names[row].split("/")[1]))).all()
    assert {part for part, _ in rows_by_name(read).values()} == {"train", "val", "test"}
    assert [(f.where, f.told) for f in found(read, "column left out")] == [
        (f"{read._place}: 'box'", "neither numbers nor words"),
    ]


@needed
def test_it_meets_the_contract_of_a_data_set(here, library):
    rows(library).save_to_disk(here / "faces")
    check_dataset(HuggingFace, name="faces", size=16)


@needed
@pytest.mark.parametrize("val", ["valid", "validation", "val", "dev"])
def test_the_splits_of_a_set_are_known_by_their_names(here, library, val):
    parts = {"train": rows(library), val: rows(library, 5, 100), "test": rows(library, 6, 200)}
    library.DatasetDict(parts).save_to_disk(here / "faces")
    told = {name: part for name, (part, _) in rows_by_name(hf()).items()}
    assert [list(told.values()).count(part) for part in ("train", "val", "test")] == [COUNT, 5, 6]
    assert told[f"{val}/0"] == "val"


@needed
def test_a_split_of_another_name_must_be_told_and_an_option_tells_it(here, library):
    library.DatasetDict(train=rows(library), holdout=rows(library, 5, 100)).save_to_disk(here / "faces")
    with pytest.raises(UsageError, match=r"is the split 'holdout' for train, val or test\? Say it: splits="):
        hf().album  # noqa: B018
    told = rows_by_name(hf(splits={"holdout": "test"}))
    assert told["holdout/0"][0] == "test"


@needed
def test_a_column_of_people_gives_groups_by_its_name_or_by_option(here, library):
    people = (library.Value("int64"), [i % 30 for i in range(COUNT)])
    rows(library, celeb_id=people).save_to_disk(here / "faces")
    rows(library, who=people).save_to_disk(here / "others")
    for data in (hf(), hf("others", identity="who")):
        album = data.album
        groups = [set(album.identities[album.parts == part].tolist()) for part in range(3)]
        assert len(set.union(*groups)) == sum(map(len, groups)) == 30
        assert data.schema.identities


@needed
def test_columns_get_other_names_and_kinds_by_option(here, library):
    rows(library).save_to_disk(here / "faces")
    data = hf(
        names={"age": "years", "hair": "hair_color"}, kinds={"hair_color": ["c", "b", "a"], "race": "skip"}
    )
    kinds = {a.name: (a.kind, a.classes) for a in data.schema.attributes}
    assert list(kinds) == ["Male", "years", "hair_color"]
    assert kinds["hair_color"] == ("ordinal", ("c", "b", "a"))
    for names in ({"agee": "years"}, {"age": "hair"}):
        with pytest.raises(UsageError, match="names=.*There are: image, Male, race"):
            hf(names=names).album  # noqa: B018


@needed
def test_classes_whose_names_are_many_numbers_stay_classes(here, library):
    digits = (library.ClassLabel(names=[str(i) for i in range(30)]), [i % 30 for i in range(COUNT)])
    rows(library, fine=digits).save_to_disk(here / "faces")
    (fine,) = [a for a in hf().schema.attributes if a.name == "fine"]
    assert (fine.kind, len(fine.classes)) == ("categorical", 30)


@needed
def test_of_several_columns_of_pictures_one_must_be_chosen(here, library):
    masks = (library.Image(), [{"bytes": png(900 + i), "path": None} for i in range(COUNT)])
    rows(library, mask=masks).save_to_disk(here / "faces")
    with pytest.raises(
        DataError, match="2 columns of pictures. There are: image, mask. Choose: image=column"
    ):
        hf().album  # noqa: B018
    with pytest.raises(DataError, match="no column 'imgae'"):
        hf(image="imgae").album  # noqa: B018
    images = hf(image="mask").split("train").images
    assert not torch.equal(images, hf(image="image").split("train").images)


@needed
def test_pictures_that_cannot_be_read_and_copies_are_told_as_of_files(here, library):
    pictures = [{"bytes": png(i), "path": None} for i in range(COUNT)]
    pictures[4], pictures[5], pictures[7] = (
        {"bytes": b"", "path": None},
        None,
        {"bytes": png(8), "path": None},
    )
    pictures[9] = {"bytes": png(9)[:80], "path": None}
    rows(library, pictures=pictures).save_to_disk(here / "faces")
    data = hf()
    assert set(rows_by_name(data)) == {f"train/{i}" for i in range(COUNT) if i not in (4, 5, 9)}
    left = sorted(finding.where for finding in found(data, "picture that cannot be read"))
    assert left == [f"faces: 'train/{i}'" for i in (4, 5, 9)]
    assert sum(finding.what.startswith("copy") for finding in data.findings) == 1
    assert len(hf(drop_duplicates=True).album.names) == COUNT - 3  # a copy, and two without bytes


@needed
def test_pictures_that_are_files_beside_the_data_are_read_from_them(here, library):
    paths = [here / "files" / f"{i}.png" for i in range(COUNT)]
    paths[0].parent.mkdir()
    for i, path in enumerate(paths):
        path.write_bytes(png(i))
    rows(library, pictures=[{"bytes": None, "path": str(path)} for path in paths]).save_to_disk(
        here / "faces"
    )
    data = hf()
    assert len(rows_by_name(data)) == COUNT
    assert not found(data, "picture that cannot be read")


def parquet_of_paths(here, library):
    """Write a set whose cells are paths of pictures beside it, and return these."""
    paths = [here / "files" / f"{i}.png" for i in range(COUNT)]
    write(here / "files", {path.name: png(i) for i, path in enumerate(paths)})
    cells = [{"bytes": None, "path": str(path)} for path in paths]
    (here / "faces").mkdir()
    rows(library, pictures=cells).to_parquet(here / "faces" / "train-0.parquet")
    embedded = pd.read_parquet(here / "faces" / "train-0.parquet")
    embedded["image"] = cells
    embedded.to_parquet(here / "faces" / "train-0.parquet")
    return paths


@needed
def test_pictures_beside_the_data_that_change_are_another_data_set(here, library):
    paths = parquet_of_paths(here, library)
    first = hf(image="image")
    before = first.split("train").images.clone()
    write(here / "files", {path.name: png(i + 500) for i, path in enumerate(paths)})
    second = hf(image="image")
    assert second.fingerprint != first.fingerprint
    assert not torch.equal(second.split("train").images, before)


@needed
def test_each_split_names_its_classes_itself(here, library):
    def split(classes, first):
        return rows(library, 12, first, pet=(library.ClassLabel(names=classes), [i % 2 for i in range(12)]))

    library.DatasetDict(train=split(["cat", "dog"], 0), test=split(["dog", "cat"], 50)).save_to_disk(
        here / "faces"
    )
    data = hf()
    place = [a.name for a in data.schema.attributes].index("pet")
    assert data.schema.attributes[place].classes == ("cat", "dog")
    labels = {name: labels[place] for name, (_, labels) in rows_by_name(data, ("train", "test")).items()}
    assert {i: labels[f"test/{i}"] for i in range(12)} == {i: 1 - i % 2 for i in range(12)}
    assert all(labels.get(f"train/{i}", i % 2) == i % 2 for i in range(12))


@needed
def test_a_column_that_is_of_classes_in_one_split_only_is_refused(here, library):
    other = (library.Value("int64"), [i % 2 for i in range(5)])
    library.DatasetDict(train=rows(library), test=rows(library, 5, 50, race=other)).save_to_disk(
        here / "faces"
    )
    with pytest.raises(DataError, match="'race' has named classes in some splits only"):
        hf().album  # noqa: B018


@needed
@pytest.mark.parametrize("word", ["NA", "nan", "null", "N/A"])
def test_a_class_that_is_called_as_a_missing_cell_is_a_class(here, library, word):
    two = (library.ClassLabel(names=["x", word]), [i % 2 for i in range(COUNT)])
    three = (library.ClassLabel(names=["x", "b", word]), [i % 3 for i in range(COUNT)])
    rows(library, two=two, three=three).save_to_disk(here / "faces")
    kinds = {a.name: (a.kind, set(a.classes)) for a in hf().schema.attributes}
    assert kinds["two"] == ("binary", {"x", word})
    assert kinds["three"] == ("categorical", {"x", "b", word})
    assert not np.isnan(hf().album.labels[:, -2:]).any()


@needed
def test_a_label_that_a_split_lacks_is_missing_there_and_told(here, library):
    test = rows(library, 5, 50).remove_columns(["age", "race"])
    library.DatasetDict(train=rows(library), test=test).save_to_disk(here / "faces")
    data = hf()
    assert [(f.where, f.told) for f in found(data, "column that a split lacks")] == [
        ("faces, test: 'race'", "missing there"),
        ("faces, test: 'age'", "missing there"),
    ]
    names = [a.name for a in data.schema.attributes]
    missing = np.isnan(data.album.labels[[name.startswith("test") for name in data.album.names]])
    assert dict(zip(names, missing.all(0), strict=True)) == {
        "Male": False,
        "race": True,
        "age": True,
        "hair": False,
    }
    named = hf(names={"age": "years"}).schema.attributes
    assert "years" in [a.name for a in named]


@needed
def test_a_split_without_pictures_and_a_column_that_holds_none_are_told(here, library):
    bare = rows(library, 5, 50).remove_columns(["image"])
    library.DatasetDict(train=rows(library), test=bare).save_to_disk(here / "faces")
    with pytest.raises(DataError, match="faces: split 'test' has no column 'image'. There are: Male, race"):
        hf().album  # noqa: B018
    rows(library).save_to_disk(here / "others")
    with pytest.raises(DataError, match="column 'age' of 'train' holds no pictures"):
        hf("others", image="age").album  # noqa: B018


@needed
def test_equal_rows_have_one_fingerprint_wherever_they_lie_and_others_another(here, library):
    rows(library).save_to_disk(here / "faces")
    rows(library).save_to_disk(here / "elsewhere")
    rows(library, first=1).save_to_disk(here / "others")
    assert hf().fingerprint == hf("elsewhere").fingerprint
    assert hf().fingerprint != hf("others").fingerprint
    assert hf().fingerprint != hf(size=8).fingerprint


@needed
def test_nothing_is_asked_of_the_network_without_leave(here, library, monkeypatch):
    def reached(*args, **options):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", reached)
    monkeypatch.setattr("socket.getaddrinfo", reached)
    with pytest.raises(
        DataError, match=r"no folder 'owner/faces' here.*Nothing is downloaded without --download"
    ):
        hf("owner/faces").split("train")
    (here.parent / "hub" / "owner___faces").mkdir(parents=True)
    with pytest.raises(DataError, match="'owner/faces' cannot be opened"):
        hf("owner/faces").split("train")
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    asked = []
    monkeypatch.setattr(
        library, "load_dataset", lambda *args, **options: asked.append((args, options)) or 1 / 0
    )
    with pytest.raises(DataError, match="ZeroDivisionError"):
        hf("owner/faces", config="small", revision="main").split("train")
    assert asked == [(("owner/faces", "small"), {"revision": "main"})]
    assert not library.config.HF_HUB_OFFLINE


@needed
def test_what_was_downloaded_before_is_read_without_the_network(here, library):
    (here / "made").mkdir()
    rows(library).to_parquet(here / "made" / "train-0.parquet")
    library.load_dataset(str(here / "made"))
    (here.parent / "hub" / "made").rename(here.parent / "hub" / "owner___made")
    (here / "made" / "train-0.parquet").unlink()
    data = hf("owner/made")
    assert data.locate() == [here.parent / "hub" / "owner___made"]
    assert len(rows_by_name(data)) == COUNT
    with pytest.raises(DataError, match=r"cannot be opened.*Available configs.*default"):
        hf("owner/made", config="other").split("train")


@needed
def test_a_folder_that_is_no_data_set_is_told(here, library):
    Path("faces").mkdir()
    Path("faces/labels.txt").write_text("")
    with pytest.raises(DataError, match="hf: 'faces' cannot be opened|columns of pictures"):
        hf().split("train")


@needed
def test_a_picture_beside_the_data_is_no_finding_where_the_disk_fails_for_a_moment(
    here, library, monkeypatch
):
    parquet_of_paths(here, library)
    read = Folder.read

    def broken(self, name):
        if name == "3.png":
            raise DataError("an error of the disk")
        return read(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", broken)
        with pytest.raises(DataError, match="an error of the disk"):
            hf(image="image").album  # noqa: B018
    assert len(hf(image="image").album.names) == COUNT
