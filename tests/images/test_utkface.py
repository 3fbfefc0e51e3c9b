import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from lvmbench import DataError
from lvmbench.testing import check_dataset
from lvmbench_images import lvmbench_datasets
from lvmbench_images.album import number
from lvmbench_images.utkface import UTKFace

LABELS = {  # name -> Male, Young, age, race
    "1_0_0_20161219140623097.jpg.chip.jpg": [1, 1, 1, 0],
    "44_0_1_20170116174525125.jpg.chip.jpg": [1, 1, 44, 1],
    "45_1_2_20170117151304728.jpg.chip.jpg": [0, 0, 45, 2],
    "116_1_3_20170112213001988.jpg.chip.jpg": [0, 0, 116, 3],
    "100_1_4_20170112213303693.jpg": [0, 0, 100, 4],
    "0_1_0_20170110213303693.JPG": [0, 1, 0, 0],
}
MALFORMED = [  # the four of the set itself, then what is out of range
    "14_0_0_2017011022340900.jpg.chip.jpg",
    "39_1_20170116174525125.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",
    "61_1_20170109150557335.jpg.chip.jpg",
    "117_0_0_20161219140623097.jpg.chip.jpg",
    "20_2_0_20161219140623097.jpg.chip.jpg",
    "20_0_5_20161219140623097.jpg.chip.jpg",
    "20_0_0_201612191406230970.jpg.chip.jpg",
    "20_0_0_20161219140623097.png",
    "cover.jpg",
]


def jpeg(seed, side=200):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def many(count):
    """Return well-formed names of all labels."""
    return [f"{i % 117}_{i % 2}_{i % 5}_201701{i:011d}.jpg.chip.jpg" for i in range(count)]


def write(root, names, inside="UTKFace/"):
    home = root / "utkface"
    home.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(home / "UTKFace.zip", "w") as archive:
        for name in names:
            archive.writestr(f"{inside}{name}", jpeg(number(name), 20))
    return home


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def whole(data):
    """Return the labels of all pictures by their names."""
    album = data.album
    return dict(zip(album.names, album.labels.tolist(), strict=True))


def told(data):
    return [(f.what, f.effect, f.where) for f in data.findings if f.what != "class without a picture"]


def test_it_is_registered_as_utkface_and_meets_the_contract_of_a_data_set(root):
    assert lvmbench_datasets()["utkface"].target == "lvmbench_images.utkface:UTKFace"
    write(root, many(60))
    check_dataset(UTKFace)


def test_labels_are_read_from_names_and_men_are_one(root):
    write(root, LABELS)
    data = UTKFace()
    assert [a.name for a in data.schema.attributes] == ["Male", "Young", "age", "race"]
    assert whole(data) == LABELS


def test_age_is_a_number_of_years_and_race_one_of_five_and_a_note_says_what_is_young():
    male, young, age, race = UTKFace().schema.attributes
    assert (male.kind, age.is_number, age.unit) == ("binary", True, "years")
    assert race.classes == ("White", "Black", "Asian", "Indian", "Others")
    assert "45" in young.note
    assert {a.source for a in (male, young, age, race)} == {"DEX, checked by an annotator"}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_name_is_left_out_and_told_once(root, name):
    home = write(root, [*LABELS, name])
    data = UTKFace()
    assert set(whole(data)) == set(LABELS)
    assert told(data) == [("name of another form", "left out", f"{home / 'UTKFace.zip'}: 'UTKFace/{name}'")]


def test_a_name_in_two_folders_is_read_once_and_told(root):
    home = write(root, LABELS)
    with zipfile.ZipFile(home / "UTKFace.zip", "a") as archive:
        archive.writestr(f"crop_part1/{next(iter(LABELS))}", jpeg(0))
    data = UTKFace()
    assert set(whole(data)) == set(LABELS)
    assert [(what, effect) for what, effect, _ in told(data)] == [("name in two folders", "left out")]


def test_zip_and_folders_however_nested_are_the_same_data(root):
    home = write(root, many(60))
    expected, split = UTKFace().fingerprint, UTKFace().split("test")
    (home / "UTKFace.zip").unlink()
    for folder in ("UTKFace/part", "."):
        (home / folder).mkdir(parents=True, exist_ok=True)
        for name in many(60):
            (home / folder / name).write_bytes(jpeg(number(name), 20))
        data = UTKFace()
        assert data.fingerprint == expected
        assert torch.equal(data.split("test").images, split.images)
        assert torch.equal(data.split("test").rows, split.rows)
        for path in [*(home / folder).glob("*.jpg")]:
            path.unlink()
        if folder != ".":
            (home / folder).rmdir()
            (home / folder).parent.rmdir()


def test_a_tenth_is_drawn_for_val_and_for_test_and_stays_when_pictures_come(root):
    write(root, many(200))
    few = {p: set(UTKFace().split(p).rows.tolist()) for p in ("train", "val", "test")}
    write(root, many(300))
    more = {p: set(UTKFace().split(p).rows.tolist()) for p in ("train", "val", "test")}
    assert sum(map(len, few.values())) == len(set.union(*few.values())) == 200
    assert all(8 <= len(few[p]) <= 36 for p in ("val", "test"))  # within four standard deviations
    assert all(few[p] <= more[p] for p in few)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_pictures_are_the_files_at_the_asked_size(root, size):
    home = write(root, [])
    with zipfile.ZipFile(home / "UTKFace.zip", "w") as archive:
        for i, name in enumerate(many(60)):
            archive.writestr(name, jpeg(i))
    split = UTKFace(size=size).split("test")
    files = {number(f"utkface/{name}"): jpeg(i) for i, name in enumerate(many(60))}
    picture = Image.open(io.BytesIO(files[int(split.rows[0])]))
    if size == 32:
        picture.draft(None, (64, 64))
    expected = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    assert (split.images[0].permute(1, 2, 0).numpy() == expected).all()


def test_missing_files_are_told_with_the_places_the_source_and_the_terms(root):
    with pytest.raises(DataError) as error:
        UTKFace().split("test")
    parts = (
        "UTKFace.zip",
        str(root / "utkface"),
        "https://susanqq.github.io/UTKFace",
        "non-commercial",
        "--data-root",
    )
    assert [part for part in parts if part not in str(error.value)] == []


def test_a_folder_without_a_picture_of_the_form_is_refused_with_the_form_and_the_source(root):
    write(root, ["cover.jpg"])
    with pytest.raises(DataError, match=r"no picture in .*UTKFace\.zip is named \[age\].*susanqq"):
        UTKFace().split("test")


def test_making_the_object_reads_nothing():
    assert UTKFace(size=32).schema.shape == (3, 32, 32)
