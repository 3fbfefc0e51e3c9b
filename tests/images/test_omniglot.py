import hashlib
import io
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from lvmbench import DataError
from lvmbench.testing import check_dataset
from lvmbench_images.archive import Zip
from lvmbench_images.decode import Frame, decode
from lvmbench_images.omniglot import PARTS, Omniglot

ONE, TWO = "images_background_small1", "images_background_small2"
CHARACTERS = {"Greek": 394, "Latin": 683, "Japanese_(katakana)": 596}  # the first number of each alphabet


def drawing(seed):
    """Return True where there is ink: bool [105, 105], and the bytes of the PNG, whose ink is black."""
    ink = np.random.default_rng(seed).random((105, 105)) < 0.08
    file = io.BytesIO()
    Image.fromarray(~ink).convert("1").save(file, "PNG")
    return ink, file.getvalue()


def names(alphabet, characters=2, drawers=20):
    first = CHARACTERS[alphabet]
    return {
        f"{alphabet}/character{c + 1:02}/{first + c:04}_{d:02}.png": (first + c) * 100 + d
        for c in range(characters)
        for d in range(1, drawers + 1)
    }


def write(home, stem, files):
    """Write a zip of the true format: folder entries too, and all below a folder of its name."""
    home.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(home / f"{stem}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in sorted({"", *(f"{name.rsplit('/', 1)[0]}/" for name in files)}):
            archive.writestr(f"{stem}/{folder}", b"")
        for name, content in files.items():
            archive.writestr(f"{stem}/{name}", content)


def small(home, **changed):
    """Write both zips: Greek is in both."""
    drawings = {a: {n: drawing(seed)[1] for n, seed in names(a).items()} for a in CHARACTERS}
    write(home, ONE, drawings["Greek"] | drawings["Latin"])
    write(home, TWO, drawings["Greek"] | drawings["Japanese_(katakana)"] | changed.get("second", {}))


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LVMBENCH_DOWNLOAD", raising=False)
    return tmp_path / "data"


@pytest.fixture
def home(root):
    small(root / "omniglot")
    return root / "omniglot"


def drawn(row):
    """Return what the picture of a row should be: uint8 [105, 105]."""
    return drawing(row)[0].astype(np.uint8) * 255


def test_ink_is_255_on_0_and_the_row_tells_character_and_drawer(home):
    data = Omniglot(size=105)
    for name in ("train", "val", "test"):
        split = data.split(name)
        for image, row in zip(split.images[:5], split.rows[:5].tolist(), strict=True):
            assert (image[0].numpy() == drawn(row)).all()


def test_it_meets_the_contract_of_a_data_set_and_names_its_variant(home):
    check_dataset(Omniglot, size=28)
    assert Omniglot(size=28).title == "omniglot-small-28"
    assert Omniglot(part="evaluation", size=64).title == "omniglot-evaluation-64"


def test_the_union_has_each_drawing_once_and_tells_of_those_in_both(home):
    data = Omniglot(size=32)
    rows = torch.cat([data.split(name).rows for name in ("train", "val", "test")])
    assert sorted(rows.tolist()) == sorted(row for a in CHARACTERS for row in names(a).values())
    told = [(f.what, f.effect) for f in data.findings if "class" not in f.what]
    assert told == [("picture in two archives", "left out")] * 40
    assert any(f"{TWO}.zip: '{TWO}/Greek/character01/0394_01.png'" in f.where for f in data.findings)


def test_one_name_for_two_drawings_is_told_and_the_first_is_read(root):
    name = "Greek/character01/0394_01.png"
    small(root / "omniglot", second={name: drawing(0)[1]})
    data = Omniglot(size=105)
    split = data.split("train")
    assert (split.images[split.rows == 39401][0, 0].numpy() == drawn(39401)).all()
    assert [f.where.rsplit("'", 2)[1] for f in data.findings if "differ" in f.what] == [f"{TWO}/{name}"]


def test_every_character_is_in_every_split_by_its_drawers(home):
    data = Omniglot()
    drawers = {"train": range(1, 17), "val": range(17, 19), "test": range(19, 21)}
    for name, expected in drawers.items():
        found = Counter((row // 100, row % 100) for row in data.split(name).rows.tolist())
        assert found == Counter(
            (first + c, d) for first in CHARACTERS.values() for c in range(2) for d in expected
        )


def test_the_alphabet_is_that_of_the_folder(home):
    data = Omniglot()
    (alphabet,) = data.schema.attributes
    split = data.split("train")
    for row, label in zip(split.rows.tolist(), split.labels[:, 0].long().tolist(), strict=True):
        name = alphabet.classes[label]
        assert CHARACTERS[name] <= row // 100 < CHARACTERS[name] + 2
    assert {f.where for f in Omniglot().findings if f.what == "class without a picture"} == {
        f"alphabet: '{name}'" for name in alphabet.classes if name not in CHARACTERS
    }


def test_a_scaled_drawing_is_grey_and_keeps_its_ink(home):
    large, less = Omniglot(size=105).split("test"), Omniglot(size=28).split("test")
    assert less.rows.tolist() == large.rows.tolist()
    assert len(less.images.unique()) > 10
    assert float(less.images.float().mean()) == pytest.approx(float(large.images.float().mean()), rel=0.05)


@pytest.mark.parametrize("part", ["background", "evaluation"])
@pytest.mark.parametrize("folder", ["omniglot", ".", "omniglot-py"])
def test_the_official_parts_are_read_as_zip_from_each_place(root, part, folder):
    alphabet = PARTS[part].alphabets[-1]
    files = {f"{alphabet}/character01/0900_{d:02}.png": drawing(d)[1] for d in range(1, 21)}
    write(root / folder, f"images_{part}", files)
    data = Omniglot(part=part)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [16, 2, 2]
    assert data.split("test").labels.unique().tolist() == [len(PARTS[part].alphabets) - 1]


def test_an_unpacked_folder_reads_as_the_zip_does(home):
    expected = Omniglot().split("train")
    for stem in (ONE, TWO):
        with zipfile.ZipFile(home / f"{stem}.zip") as archive:
            archive.extractall(home)
        (home / f"{stem}.zip").unlink()
    found = Omniglot().split("train")
    assert torch.equal(found.rows, expected.rows)
    assert torch.equal(found.images, expected.images)


STRAYS = ["Greek/0001_01.png", "Klingon/character01/0001_01.png", "Greek/character01/0001_21.png"]


@pytest.mark.parametrize("stray", STRAYS)
def test_a_picture_that_is_no_drawing_of_the_part_is_told_and_left_out(root, stray):
    small(root / "omniglot", second={stray: drawing(0)[1]})
    data = Omniglot()
    assert len(data.split("train")) == 3 * 2 * 16
    assert [f.where.rsplit("'", 2)[1] for f in data.findings if f.what == "picture without a row"] == [stray]


@pytest.mark.parametrize("gone", [ONE, TWO])
def test_a_missing_zip_is_told_with_the_places_the_source_and_the_licence(home, root, gone):
    (home / f"{gone}.zip").unlink()
    with pytest.raises(DataError) as error:
        Omniglot().locate()
    told = (f"'{gone}.zip'", f"{home} and {root}", "brendenlake/omniglot", "MIT", "--download fetches it")
    assert [text for text in told if text not in str(error.value)] == []


def test_a_zip_that_is_missing_is_fetched_when_the_set_is_read(home, monkeypatch):
    held = (home / f"{TWO}.zip").read_bytes()
    (home / f"{TWO}.zip").unlink()
    asked = []

    def given(_title, published, folder):
        asked.append(published.urls)
        (folder / published.name).write_bytes(held)

    monkeypatch.setattr("lvmbench_images.fetch.fetch", given)
    with pytest.raises(DataError, match=TWO):
        Omniglot().split("test")
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    assert len(Omniglot().split("test")) == 3 * 2 * 2
    assert asked == [(f"https://raw.githubusercontent.com/brendenlake/omniglot/master/python/{TWO}.zip",)]


def test_checksums_are_those_that_torchvision_has():
    known = [one for part in ("background", "evaluation") for one in PARTS[part].published]
    found = {one.name.removesuffix(".zip"): one.checksum.removeprefix("md5:") for one in known}
    assert found == datasets.Omniglot.zips_md5


REAL = [p for p in (os.environ.get("LVMBENCH_DATA"), Path(__file__).parents[3] / "shared" / "data") if p]
FOUND = [Path(p) for p in REAL if (Path(p) / "omniglot" / f"{TWO}.zip").is_file()]
needs_files = pytest.mark.skipif(
    not FOUND, reason="the OMNIGLOT files are neither under LVMBENCH_DATA nor in ../shared/data"
)


@needs_files
def test_the_real_files_have_their_published_counts_and_overlap(monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(FOUND[0]))
    data = Omniglot()
    splits = [data.split(name) for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [242 * 16, 242 * 2, 242 * 2]
    rows = torch.cat([split.rows for split in splits])
    assert (len(rows.unique()), len((rows // 100).unique())) == (4840, 242)
    characters = {
        "Balinese": 24, "Early_Aramaic": 22, "Greek": 24, "Japanese_(katakana)": 47, "Korean": 40, "Latin": 26,
        "Sanskrit": 42, "Tagalog": 17,
    }  # fmt: skip
    counts = splits[2].labels[:, 0].long().bincount().tolist()
    assert dict(zip(data.schema.attributes[0].classes, counts, strict=True)) == {
        name: 2 * count for name, count in characters.items()
    }
    assert Counter(f.what for f in data.findings) == {"picture in two archives": 1000}


@needs_files
def test_the_real_files_have_the_checksums_that_a_fetched_one_must_have():
    for one in PARTS["small"].published:
        content = (FOUND[0] / "omniglot" / one.name).read_bytes()
        assert one.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"


@needs_files
@pytest.mark.parametrize(("name", "share", "count"), [(ONE, 7.6, 2720), (TWO, 8.0, 3120)])
def test_the_real_files_have_their_published_share_of_ink(name, share, count):
    archive = Zip(FOUND[0] / "omniglot" / f"{name}.zip")
    members = archive.members()
    frame = Frame(105, channels=1, invert=True)
    found = [decode(archive.read(member.name), frame) for member in members]
    assert len(members) == count
    assert not any(remarks for _, remarks in found)
    assert float(np.mean([pixels.mean() for pixels, _ in found])) / 2.55 == pytest.approx(share, abs=0.05)
