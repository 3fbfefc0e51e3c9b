"""Whatever is wrong with what people have: counted, named by file and row, never silently dropped."""

import errno
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lvmbench import DataError
from pictures_support import (
    MANY,
    csv,
    encoded,
    found,
    images,
    noise,
    png,
    rows_by_name,
    split_of,
    trained,
    write,
    zipped,
)

pytestmark = pytest.mark.usefixtures("here")


BAD = "007.png"


def read(data):
    """Read all pictures of a data set, and return the kinds of what was found, counted."""
    for part in ("train", "val", "test"):
        data.split(part)
    return Counter(finding.what for finding in data.findings)


def exif(orientation):
    marks = Image.Exif()
    marks[0x0112] = orientation
    return marks


def clear():
    return np.dstack([noise(7), noise(8, channels=1)])


def deep():
    values = np.random.default_rng(7).integers(0, 65536, (16, 16)).astype(np.uint16)
    return encoded(values)


def animated():
    frames = [Image.fromarray(noise(i, channels=1)) for i in range(3)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def claiming(side):
    """Return a PNG that claims to be so large."""
    content = bytearray(png(7))
    struct.pack_into(">II", content, 16, side, side)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    return bytes(content)


JPEG = encoded(noise(7, 64), "JPEG")
UNREADABLE = [
    (b"", "an empty file"),
    (JPEG[: len(JPEG) // 2], "truncated"),
    (JPEG[:20], ""),
    (png(7)[:200], "truncated|Truncated|broken"),
    (b"<html>", "no picture of a known kind"),
    (claiming(50_000), "claims|exceeds limit|pixels"),
]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("content", "told"), UNREADABLE)
def test_a_picture_that_cannot_be_read_is_left_out_and_told_with_the_reason(here, content, told, packed):
    trained(here / "faces", {BAD: content})
    if packed:
        zipped(here / "faces.zip", {name: (here / "faces" / name).read_bytes() for name in MANY})
        (here / "faces" / "labels.csv").rename(here / "labels.csv")
    data = images("faces.zip" if packed else "faces")
    assert read(data) == {"picture that cannot be read": 1}
    (finding,) = data.findings
    assert finding.effect == "left out"
    assert finding.where == f"{data.locate()[0]}: '{BAD}'"
    assert any(word in finding.told for word in told.split("|"))
    assert set(rows_by_name(data)) == set(MANY) - {BAD}


CHANGED = [
    (encoded(clear()), ["transparency laid on white"]),
    (encoded(noise(7, channels=1)), ["grey made RGB"]),
    (encoded(Image.fromarray(noise(7)).quantize(16)), ["a palette made colours"]),
    (encoded(Image.fromarray(noise(7)).convert("CMYK"), "JPEG"), ["CMYK made RGB"]),
    (encoded(noise(7), "JPEG", exif=exif(6)), ["turned as its EXIF says"]),
    (deep(), ["16 bits made 8", "grey made RGB"]),
    (animated(), ["the first frame of an animation", "a palette made colours"]),
]


@pytest.mark.parametrize(("content", "told"), CHANGED)
def test_a_picture_that_is_changed_is_told(here, content, told):
    trained(here / "faces", {BAD: content})
    data = images()
    assert read(data) == dict.fromkeys(told, 1)
    assert {f.effect for f in data.findings} == {"changed"}
    assert {f.where for f in data.findings} == {f"faces: '{BAD}'"}
    assert set(rows_by_name(data)) == set(MANY)


@pytest.mark.parametrize(
    "content",
    [encoded(np.dstack([noise(7), np.full((16, 16), 255, np.uint8)])), encoded(noise(7), exif=exif(1))],
)
def test_an_opaque_alpha_and_an_upright_exif_are_nothing_to_tell(here, content):
    trained(here / "faces", {BAD: content})
    assert read(images()) == {}


def test_a_file_that_may_not_be_read_is_told_and_read_once_it_may(here, monkeypatch):
    trained(here / "faces")
    real = Path.open

    def shut(self, *args, **options):
        if self.name == BAD:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *args, **options)

    (here / "faces" / BAD).chmod(0o000)  # which the superuser may read all the same
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", shut)
        data = images()
        assert read(data) == {"picture that cannot be read": 1}
        assert "Permission denied" in data.findings[0].told
    (here / "faces" / BAD).chmod(0o644)
    assert read(images()) == {}
    assert set(rows_by_name(images())) == set(MANY)


def test_names_with_spaces_and_of_other_scripts_just_work(here):
    odd = [
        "my face (1).png",
        "Zoë.png",
        "顔 七.png",
        unicodedata.normalize("NFD", "Ünal é.png"),
        "a,b;c'd\"e.png",
    ]
    names = odd + MANY
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    trained(here / "faces", names=names, rows=[(name, split_of(i), i % 2) for i, name in enumerate(quoted)])
    assert read(images()) == {}
    assert set(rows_by_name(images())) == set(names)


letters = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], exclude_characters="/\\")


@given(st.lists(st.text(letters, min_size=1, max_size=12), min_size=3, max_size=6, unique_by=str.casefold))
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_are_joined_with_their_rows_or_told(tmp_path_factory, stems):
    home = tmp_path_factory.mktemp("names")
    names = [f"x{stem}.png" for stem in stems]
    rows = [('"' + name.replace('"', '""') + '"', i) for i, name in enumerate(names)]
    write(home, {name: png(i) for i, name in enumerate(names)} | {"labels.csv": csv(rows, "file,n")})
    album = images(str(home), kinds={"n": "number"}).album
    told = Counter(f.what for f in album.findings)
    assert len(album.names) + told["name written in two ways"] + told[
        "row that fits several pictures"
    ] >= len(names)
    for name, (label,) in zip(album.names, album.labels.tolist(), strict=True):
        assert np.isnan(label) or unicodedata.normalize("NFC", names[int(label)]) == unicodedata.normalize(
            "NFC", name
        )


def test_a_picture_without_a_row_and_a_row_without_a_picture_are_left_out_and_told(here):
    rows = [(name, split_of(i), i % 2) for i, name in enumerate(["nothing.png", *MANY[1:]])]
    trained(here / "faces", rows=rows)
    data = images()
    assert read(data) == {"row without a picture": 1, "picture without a row": 1}
    one, other = data.findings
    assert (one.where, one.effect) == ("faces/labels.csv, line 2: 'nothing.png'", "left out")
    assert (other.where, other.effect) == ("faces: '000.png'", "left out")


def test_rows_of_one_picture_are_one_where_they_agree_and_missing_where_they_do_not(here):
    rows = [(name, split_of(i), i % 2) for i, name in enumerate(MANY)]
    rows += [
        (MANY[0], "train", 0),
        (MANY[1], "train", 0),
        (f"faces/{MANY[1]}", "train", 1),
        (MANY[2], "val", 0),
    ]
    trained(here / "faces", rows=rows)
    data = images()
    assert read(data) == {"row twice": 1, "rows of one picture that disagree": 3}
    (same,) = found(data, "row twice")
    assert (same.where.split(", ")[-1], same.effect) == ("line 62: '000.png'", "noted")
    apart = [
        (f.where.split(", ")[-1], f.effect, f.told) for f in found(data, "rows of one picture that disagree")
    ]
    assert apart == [
        ("line 63: '001.png'", "changed", "smiling: missing"),
        ("line 64: '001.png'", "changed", "smiling: missing"),
        ("line 65: '002.png'", "changed", "split: of the first"),
    ]
    labels = {name: label for name, (_, [label]) in rows_by_name(data).items()}
    assert np.isnan(labels.pop("001.png"))
    assert labels == {name: i % 2 for i, name in enumerate(MANY) if i != 1}


def test_a_row_without_a_name_is_told(here):
    rows = [("" if i == 4 else name, split_of(i), i % 2) for i, name in enumerate(MANY)]
    trained(here / "faces", rows=rows)
    data = images()
    assert read(data) == {"row without a name": 1, "picture without a row": 1}
    assert data.findings[0].where == "faces/labels.csv, line 6"


def test_a_column_of_constants_is_left_out_and_an_empty_class_told(here):
    rows = [(name, split_of(i), i % 2, "same", "abc"[i % 2]) for i, name in enumerate(MANY)] + [
        ("no.png", "train", 0, "same", "c")
    ]
    write(trained(here / "faces"), {"labels.csv": csv(rows, "file,split,smiling,camera,hair")})
    data = images()
    assert read(data) == {"column left out": 1, "class without a picture": 1, "row without a picture": 1}
    (column,), (empty,) = found(data, "column left out"), found(data, "class without a picture")
    assert (column.where, column.told) == ("faces/labels.csv: 'camera'", "one value only, 'same'")
    assert (empty.where, empty.effect) == ("hair: 'c'", "noted")


DIALECTS = [
    lambda text: text.encode("utf-8-sig"),
    lambda text: text.replace(",", ";").encode(),
    lambda text: text.replace(",", "\t").encode(),
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace(",", ";").replace("\n", "\r\n").encode("utf-8-sig"),
    lambda text: ("\n" + text + "\n\n").encode(),
    lambda text: text.replace(",", " , ").encode(),
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_csv_may_have_a_byte_order_mark_semicolons_tabs_and_windows_line_ends(here, dialect):
    home = trained(here / "faces")
    expected = rows_by_name(images())
    write(home, {"labels.csv": dialect((home / "labels.csv").read_text())})
    assert read(images()) == {}
    assert rows_by_name(images()) == expected


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"file,smiling\n\xff\xfe,1\n", "not UTF-8"),
        (b"file,smiling\n001.png,1,2\n", "line 2: 3 cells"),
        (b'file,smiling\n"001.png,1\n', "cannot be read"),
        (b"file,file\n001.png,1\n", "two columns are named 'file'"),
        (b"file,smiling\n", "no column names a picture"),
    ],
)
def test_a_table_that_is_none_is_told_by_file_and_line(here, content, told):
    trained(here / "faces", {"labels.csv": content})
    with pytest.raises(DataError, match=told) as error:
        images().split("train")
    assert "faces/labels.csv" in str(error.value)


def test_parquet_that_is_none_is_told(here):
    pytest.importorskip("pyarrow", reason="reading Parquet needs pyarrow, which is not installed")
    trained(here / "faces")
    write(here, {"labels.parquet": b"PAR1 and no more"})
    with pytest.raises(DataError, match=r"labels\.parquet: not a whole Parquet file"):
        images(labels="labels.parquet").split("train")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_wrong_with_the_names_in_a_zip_is_told_and_the_others_are_read(here):
    home = trained(here / "faces")
    path = zipped(
        here / "faces.zip", {name: (home / name).read_bytes() for name in MANY} | {"../out.png": png(99)}
    )
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("000.png", png(98))
        file.writestr("./001.png", png(97))
    (home / "labels.csv").rename(here / "labels.csv")
    data = images("faces.zip")
    assert read(data) == {
        "name that leaves the folder": 1,
        "name twice in a zip": 1,
        "name written in two ways": 1,
    }
    assert {f.where for f in data.findings} == {
        f"faces.zip: '{n}'" for n in ("../out.png", "000.png", "001.png")
    }
    assert set(rows_by_name(data)) == {"./001.png", *MANY} - {"001.png"}


@pytest.mark.parametrize("way", ["encrypted", "lzma", "bz2", "bomb"])
def test_a_member_that_cannot_be_unpacked_is_left_out_and_told(here, way):
    home = trained(here / "faces")
    (home / "labels.csv").rename(here / "labels.csv")
    path = zipped(here / "faces.zip", {name: (home / name).read_bytes() for name in MANY if name != BAD})
    kind = {"lzma": zipfile.ZIP_LZMA, "bz2": zipfile.ZIP_BZIP2}.get(way, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a", kind) as file:
        file.writestr(BAD, bytes(30_000_000) if way == "bomb" else png(7))
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\1\2")
    if way == "encrypted":
        content[entry + 8] |= 1
    if way == "bomb":
        struct.pack_into("<I", content, entry + 24, 1000)
    path.write_bytes(content)
    data = images("faces.zip")
    assert read(data) == {"picture that cannot be read": 1}
    assert BAD not in rows_by_name(data)


def test_a_picture_of_a_kind_that_is_not_read_is_told(here):
    trained(here / "faces", {"photo.HEIC": b"ftypheic"}, names=[*MANY, "photo.HEIC"])
    data = images()
    assert read(data) == {"picture that cannot be read": 1}
    assert data.findings[0].where == "faces: 'photo.HEIC'"


def test_links_are_told(here):
    home = trained(here / "faces")
    (home / "round").symlink_to(home)
    (home / "lost.png").symlink_to(home / "nowhere.png")
    assert read(images()) == {"link to a folder": 1, "link that leads nowhere": 1}


def test_equal_files_are_told_and_left_out_where_it_is_asked_for(here):
    trained(here / "faces", {MANY[3]: png(1), MANY[5]: png(2)})
    data = images()
    assert read(data) == {"copy within a split": 1, "copy within a split, with other labels": 1}
    assert {f.effect for f in data.findings} == {"noted"}
    few = images(drop_duplicates=True)
    read(few)
    assert {f.effect for f in few.findings} == {"dropped"}
    assert len(rows_by_name(few)) == len(MANY) - 2


def test_no_picture_at_all_is_an_error_that_says_what_is_there(here):
    write(here / "faces", {"labels.csv": csv([("a.png", 1), ("b.png", 0)])})
    with pytest.raises(DataError, match=r"no column names a picture"):
        images().split("train")
    trained(here / "bad", dict.fromkeys(MANY, b""))
    with pytest.raises(DataError, match=r"no picture of the train split can be read, of \d+"):
        images("bad").split("train")


# --- the first rows of a split are the same whatever is asked for, and in whatever order -----------------------
