import io
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lvmbench import DataError
from lvmbench_images.fairface import FairFace
from lvmbench_images.fairface_labels import AGES, read_labels

HEADER = "file,age,gender,race,service_test"


def jpeg(seed, side=64):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=92, subsampling=0)
    return file.getvalue()


def write(root, pictures, labels=None, folder="fairface"):
    """Write a data set of the true format: name -> bytes; labels name -> (age, gender, race)."""
    home = root / folder
    home.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(home / "fairface_64_q92.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, content in pictures.items():
            archive.writestr(name, content)
    for part in ("train", "val"):
        lines = [
            f"{name},{','.join((labels or {}).get(name, ('20-29', 'Male', 'White')))},TRUE"
            for name in pictures | (labels or {})
            if name.startswith(part)
        ]
        (home / f"fairface_label_{part}_subset.csv").write_text("\n".join([HEADER, *lines, ""]))
    return home


def numbered(train, val):
    return {f"train/{i}.jpg": jpeg(i) for i in range(1, train + 1)} | {
        f"val/{i}.jpg": jpeg(10_000 + i) for i in range(1, val + 1)
    }


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def named(split):
    """Return the official names of the pictures of a split."""
    return [f"val/{r - 1_000_000}.jpg" if r >= 1_000_000 else f"train/{r}.jpg" for r in split.rows.tolist()]


def test_pictures_are_the_decoded_files_and_labels_the_table(root):
    labels = {
        "val/2.jpg": ("more than 70", "Female", "Middle Eastern"),
        "val/1.jpg": ("0-2", "Male", "White"),
    }
    pictures = numbered(20, 2)
    write(root, pictures, labels)
    test = FairFace().split("test")
    expected = {"val/1.jpg": [1, 1, 0, 0], "val/2.jpg": [0, 0, 8, 6]}
    for name, image, row in zip(named(test), test.images, test.labels.tolist(), strict=True):
        assert row == expected[name]
        assert (image.permute(1, 2, 0).numpy() == np.asarray(Image.open(io.BytesIO(pictures[name])))).all()


def test_the_official_validation_pictures_are_the_test_split_and_ours_is_carved_from_training(root):
    write(root, numbered(60, 5))
    parts = {name: named(FairFace().split(name)) for name in ("train", "val", "test")}
    assert sorted(parts["test"]) == [f"val/{i}.jpg" for i in range(1, 6)]
    assert sorted(parts["train"] + parts["val"]) == sorted(f"train/{i}.jpg" for i in range(1, 61))
    assert 1 <= len(parts["val"]) <= 15


def test_a_picture_stays_in_its_split_and_order_when_others_come_and_go(root):
    write(root, numbered(40, 2))
    few = {name: named(FairFace().split(name)) for name in ("train", "val")}
    write(root, numbered(60, 2))
    many = {name: named(FairFace().split(name)) for name in ("train", "val")}
    for name in few:
        assert [n for n in many[name] if n in few[name]] == few[name]


def test_a_limit_gives_the_same_first_rows_not_in_the_order_of_names(root):
    write(root, numbered(60, 2))
    whole, first = FairFace().split("train"), FairFace().split("train", 9)
    assert torch.equal(first.images, whole.images[:9])
    assert torch.equal(first.labels, whole.labels[:9])
    assert torch.equal(first.rows, whole.rows[:9])
    assert named(whole) != sorted(named(whole))
    assert whole.rows.tolist() != sorted(whole.rows.tolist())


def told(data):
    """Return what was found, classes that so few pictures lack aside: (kind, effect, the name that ends its place)."""
    found = [f for f in data.findings if f.what != "class without a picture"]
    return {(f.what, f.effect, f.where.rpartition(": ")[2].strip("'")) for f in found}


def test_labels_without_a_picture_are_left_out_and_named_by_line(root):
    write(root, numbered(20, 2), {"train/999.jpg": ("20-29", "Male", "White")})
    data = FairFace()
    assert "train/999.jpg" not in named(data.split("train")) + named(data.split("val"))
    assert told(data) == {("row without a picture", "left out", "train/999.jpg")}
    assert "fairface_label_train_subset.csv, line 22" in data.findings[0].where


def test_pictures_without_a_label_are_left_out_and_named(root):
    home = write(root, numbered(20, 2))
    table = home / "fairface_label_val_subset.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:2]))
    data = FairFace()
    assert named(data.split("test")) == ["val/1.jpg"]
    assert told(data) == {("picture without a row", "left out", "val/2.jpg")}


def test_ages_that_a_spreadsheet_mangled_are_read_and_ordered_by_age(tmp_path):
    words = ["0-2", "03-Sep", "Oct-19", *AGES[3:], "3-9", "10-19"]
    table = tmp_path / "labels.csv"
    table.write_text(
        "\n".join([HEADER, *(f"train/{i}.jpg,{w},Male,White,TRUE" for i, w in enumerate(words))])
    )
    labels = [row for _, row, _ in read_labels(table)]
    assert [row[2] for row in labels] == [*range(9), 1, 2]
    assert [row[1] for row in labels] == [1] * 5 + [0] * 4 + [1, 1]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train/2.jpg,04-Oct,Male,White,TRUE", "line 3: unknown age '04-Oct'"),
        ("train/2.jpg,0-2,male,White,TRUE", "line 3: unknown gender 'male'"),
        ("train/2.jpg,0-2,Male,Martian,TRUE", "line 3: unknown race 'Martian'"),
        ("train/2.jpg,0-2,Male", "line 3: 3 cells"),
    ],
)
def test_a_line_that_is_not_understood_is_refused_with_file_and_line(tmp_path, line, told):
    table = tmp_path / "labels.csv"
    table.write_text(f"{HEADER}\ntrain/1.jpg,0-2,Male,White,TRUE\n{line}\n")
    with pytest.raises(DataError, match=told) as error:
        read_labels(table)
    assert str(table) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"file,age,gender\n", b"\xff\xfe\x00", HEADER.encode() + b'\n"open']
)
def test_a_file_that_is_no_table_of_labels_is_refused(tmp_path, content):
    table = tmp_path / "labels.csv"
    table.write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_labels(table)


def test_a_byte_order_mark_windows_line_ends_and_an_empty_cell_are_no_trouble(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_bytes(f"\ufeff{HEADER}\r\ntrain/1.jpg,,Female,Black,TRUE\r\n\r\n".encode())
    ((_, row, _),) = read_labels(table)
    assert row[0] == 0
    assert np.isnan(row[1:3]).all()
    assert row[3] == 1


def test_a_training_picture_that_equals_a_test_picture_is_dropped_and_counted(root):
    pictures = numbered(20, 3)
    pictures["train/7.jpg"] = pictures["val/2.jpg"]
    write(root, pictures)
    data = FairFace()
    assert "train/7.jpg" not in named(data.split("train")) + named(data.split("val"))
    assert len(data.split("test")) == 3
    assert ("copy across splits", "dropped", "train/7.jpg") in told(data)


def test_copies_stay_where_that_is_asked_for_and_are_still_told(root):
    pictures = numbered(20, 3)
    pictures["train/7.jpg"] = pictures["val/2.jpg"]
    write(root, pictures)
    data = FairFace(drop_duplicates=False)
    assert "train/7.jpg" in named(data.split("train")) + named(data.split("val"))
    assert told(data) == {("copy across splits", "noted", "train/7.jpg")}


def test_copies_within_training_are_kept_once_and_within_test_all(root):
    pictures = numbered(20, 3)
    pictures["train/12.jpg"] = pictures["train/9.jpg"]
    pictures["val/3.jpg"] = pictures["val/1.jpg"]
    write(root, pictures)
    data = FairFace()
    kept = named(data.split("train")) + named(data.split("val"))
    assert len({"train/9.jpg", "train/12.jpg"} & set(kept)) == 1
    assert len(kept) == 19
    assert len(data.split("test")) == 3


def test_rows_of_one_picture_that_disagree_leave_the_label_in_question_missing(root):
    home = write(root, numbered(2, 1), {"val/1.jpg": ("20-29", "Male", "White")})
    table = home / "fairface_label_val_subset.csv"
    table.write_text(table.read_text() + "val/1.jpg,20-29,Female,White,TRUE\n")
    data = FairFace()
    male, *others = data.split("test").labels[0].tolist()
    assert np.isnan(male)
    assert others == [1, 3, 0]
    assert ("rows of one picture that disagree", "changed", "val/1.jpg") in told(data)


def test_at_32_pixels_each_one_is_weighted_over_four_a_side(root):
    write(root, numbered(20, 2))
    large, small = FairFace().split("test"), FairFace(size=32).split("test")
    triangle = torch.tensor([1.0, 3, 3, 1]) / 8
    kernel = torch.outer(triangle, triangle)[None, None].expand(3, 1, 4, 4)
    expected = torch.nn.functional.conv2d(large.images.float(), kernel, stride=2, padding=1, groups=3)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert small.images.shape == (2, 3, 32, 32)
    assert (small.images[inner] - expected[inner]).abs().max() <= 1  # both passes are rounded
    assert FairFace(size=32).schema.shape == (3, 32, 32)


def test_pictures_of_another_size_are_resized(root):
    write(root, {"train/1.jpg": jpeg(1), "train/2.jpg": jpeg(2), "val/1.jpg": jpeg(3, side=224)})
    assert FairFace().split("test").images.shape == (1, 3, 64, 64)


def test_grey_pictures_become_three_equal_channels(root):
    file = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(file, "JPEG")
    write(root, numbered(2, 0) | {"val/1.jpg": file.getvalue()})
    (image,) = FairFace().split("test").images
    assert torch.equal(image[0], image[1])


@pytest.mark.parametrize("damage", [lambda b: b[:-700], lambda b: b"no picture" * 50, lambda b: b""])
def test_a_picture_that_cannot_be_decoded_is_left_out_and_named(root, damage):
    write(root, numbered(2, 1) | {"val/2.jpg": damage(jpeg(1))})
    data = FairFace()
    assert named(data.split("test")) == ["val/1.jpg"]
    assert told(data) == {("picture that cannot be read", "left out", "val/2.jpg")}


def test_bytes_that_changed_within_the_zip_are_noticed(root):
    home = write(root, numbered(2, 2))
    path = home / "fairface_64_q92.zip"
    content = bytearray(path.read_bytes())
    content[content.rindex(jpeg(10_001)) + 2000] ^= 1
    path.write_bytes(content)
    data = FairFace()
    assert named(data.split("test")) == ["val/2.jpg"]
    (finding,) = [f for f in data.findings if f.effect == "left out"]
    assert "val/1.jpg' does not agree with its checksum" in finding.told


def test_a_split_of_which_no_picture_can_be_read_is_an_error(root):
    write(root, numbered(2, 0) | {"val/1.jpg": b""})
    with pytest.raises(DataError, match="no picture of the test split can be read"):
        FairFace().split("test")


def test_a_zip_cut_in_half_is_refused_by_name(root):
    path = write(root, numbered(3, 1)) / "fairface_64_q92.zip"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"fairface_64_q92\.zip is not a readable zip"):
        FairFace().split("test")


@pytest.mark.parametrize("name", ["fairface_64_q92.zip", "fairface_label_train_subset.csv"])
def test_a_missing_file_is_told_with_the_places_the_source_and_the_licence(root, name):
    home = write(root, numbered(2, 1))
    (home / name).unlink()
    with pytest.raises(DataError) as error:
        FairFace().split("test")
    for told in (name, str(home), str(root), "https://github.com/joojs/fairface", "CC BY 4.0"):
        assert told in str(error.value)


def test_files_may_lie_in_the_root_itself_and_default_to_datasets_data(tmp_path, monkeypatch):
    monkeypatch.delenv("LVMBENCH_DATA")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "datasets" / "data", numbered(2, 1), folder=".")
    assert len(FairFace().split("test")) == 1


def test_an_unpacked_folder_reads_as_the_zip_does(root, monkeypatch):
    home = write(root, numbered(20, 3))
    from_zip, expected = FairFace().fingerprint, FairFace().split("test")
    with zipfile.ZipFile(home / "fairface_64_q92.zip") as archive:
        archive.extractall(home)
    (home / "fairface_64_q92.zip").unlink()
    found = FairFace().split("test")
    assert torch.equal(found.images, expected.images)
    assert FairFace().fingerprint == from_zip


def test_pictures_that_no_label_knows_are_an_error(root):
    home = write(root, numbered(2, 1))
    for part in ("train", "val"):
        (home / f"fairface_label_{part}_subset.csv").write_text(HEADER)
    with pytest.raises(DataError, match="no picture of"):
        FairFace().split("test")


def test_the_fingerprint_tells_pictures_labels_and_options_apart(root):
    seen = set()
    for pictures, labels in [
        (numbered(3, 1), None),
        (numbered(3, 1) | {"val/1.jpg": jpeg(77)}, None),
        (numbered(3, 1), {"val/1.jpg": ("0-2", "Male", "White")}),
    ]:
        write(root, pictures, labels)
        assert FairFace().fingerprint == FairFace().fingerprint
        seen.add(FairFace().fingerprint)
    assert len({*seen, FairFace(size=32).fingerprint}) == 4


def test_making_the_object_reads_nothing():
    assert FairFace(size=32).schema.shape == (3, 32, 32)


def test_labels_say_who_decided_them():
    assert {a.source for a in FairFace().schema.attributes} == {"annotators"}


REAL = [p for p in (os.environ.get("LVMBENCH_DATA"), Path(__file__).parents[3] / "shared" / "data") if p]
FOUND = [Path(p) for p in REAL if (Path(p) / "fairface" / "fairface_64_q92.zip").is_file()]


@pytest.mark.skipif(
    not FOUND, reason="the FairFace files are neither under LVMBENCH_DATA nor in ../shared/data"
)
def test_the_real_files_have_their_published_counts(monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(FOUND[0]))
    data = FairFace()
    album = data.album
    labels = torch.from_numpy(album.labels[album.order("test")])
    assert int(labels[:, 0].sum()) == 2633
    assert torch.bincount(labels[:, 2].long()).tolist() == [89, 628, 544, 1507, 1074, 603, 358, 145, 52]
    assert torch.bincount(labels[:, 3].long()).tolist() == [962, 726, 715, 725, 664, 681, 527]
    assert len(album.order("train")) + len(album.order("val")) == 20_000 - 19
    counts = Counter((finding.what.partition(",")[0], finding.effect) for finding in data.findings)
    assert counts["row without a picture", "left out"] == 20_000
    assert sum(n for (what, _), n in counts.items() if what.startswith("copy")) == 20
    assert sum("disagree" in finding.told for finding in data.findings) == 6
