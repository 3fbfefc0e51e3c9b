import contextlib
import inspect
import os
import struct
import sys
import tracemalloc
import unicodedata
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvmbench import DataError
from lvmbench_images.archive import MAX_BYTES, Folder, Zip, archive, plain
from pictures_support import png, write, zipped

FILES = {"b.png": b"second", "a/1.JPG": b"first", "a/ü and é.png": b"named", "a/notes.txt": b"no picture"}
LEFT = {"__MACOSX/._b.png": b"x", ".hidden/b.png": b"x", "a/.b.png": b"x", "a/._1.JPG": b"x"}


@pytest.fixture(params=["folder", "zip"])
def files(request, tmp_path):
    if request.param == "folder":
        return archive(write(tmp_path / "faces", FILES | LEFT))
    return archive(zipped(tmp_path / "faces.zip", {"a/": b""} | FILES | LEFT))


def test_a_folder_and_a_zip_have_the_same_members(files):
    pictures = sorted(name for name in FILES if not name.endswith("txt"))
    found = [(member.name, member.size, member.crc) for member in files.members()]
    assert found == [(name, len(FILES[name]), zlib.crc32(FILES[name])) for name in pictures]
    assert {name: files.read(name) for name in pictures} == {name: FILES[name] for name in pictures}
    assert files.findings() == []


@pytest.mark.parametrize("suffix", ["pnm", "pbm", "pgm", "ppm", "JFIF", "jpg", "heic"])
def test_every_suffix_of_a_kind_that_is_read_or_told_is_a_picture(tmp_path, suffix):
    assert archive(write(tmp_path / "faces", {f"1.{suffix}": b"x"})).names() == [f"1.{suffix}"]
    assert archive(zipped(tmp_path / "faces.zip", {f"1.{suffix}": b"x"})).names() == [f"1.{suffix}"]


def test_a_folder_deeper_than_calls_can_be_is_read(tmp_path):
    deep = "a/" * 200
    write(tmp_path, {"1.png": b"x", f"{deep}2.png": b"y"})
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        names = archive(tmp_path).names()
    finally:
        sys.setrecursionlimit(before)
    assert names == ["1.png", f"{deep}2.png"]


def test_many_threads_read_one_archive_that_none_has_opened(tmp_path):
    contents = {f"{i}.png": bytes([i]) * (100 + i) for i in range(60)}
    path = zipped(tmp_path / "faces.zip", contents)
    for _ in range(10):
        files = archive(path)
        with ThreadPoolExecutor(8) as pool:
            assert dict(zip(contents, pool.map(files.read, contents), strict=True)) == contents


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_signature_changes_with_a_file_and_not_else(tmp_path, kind):
    def signature():
        return archive(path).signature

    path = write(tmp_path / "faces", FILES) if kind == "folder" else zipped(tmp_path / "f.zip", FILES)
    first = signature()
    assert signature() == first
    if kind == "folder":
        write(path, {"b.png": b"secund"})
        os.utime(path / "b.png", ns=(0, 0))
    else:
        zipped(path, FILES | {"b.png": b"another one"})
    assert signature() != first


def test_whether_a_file_may_be_read_is_of_the_signature(tmp_path):
    path = write(tmp_path / "faces", FILES)
    first = archive(path).signature
    (path / "b.png").chmod(0o000)
    assert archive(path).signature != first


@pytest.mark.parametrize(
    ("one", "other"),
    [("a\\b.png", "a/b.png"), ("./b.png", "b.png"), (unicodedata.normalize("NFD", "é.png"), "é.png")],
)
def test_two_ways_to_write_a_name_are_one(one, other):
    assert plain(one) == plain(other)


OUTSIDE = [
    "../b.png", "a/../../b.png", "/etc/b.png", "C:\\faces\\b.png", "c:/b.png", "..\\b.png", "\\\\host\\b.png",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_member_that_leaves_the_folder_is_left_out_and_told(tmp_path, name):
    files = Zip(zipped(tmp_path / "faces.zip", {name: b"x", "b.png": b"y"}))
    assert [member.name for member in files.members()] == ["b.png"]
    (finding,) = files.findings()
    assert (finding.what, finding.effect) == ("name that leaves the folder", "left out")
    assert finding.where == f"{files.path}: '{name}'"


@pytest.mark.parametrize("name", ["a:b.png", "a..b/c.png", "b..png", "C:b.png"])
def test_dots_and_colons_within_a_name_are_no_way_out(tmp_path, name):
    files = Zip(zipped(tmp_path / "faces.zip", {f"x/{name}": b"x"}))
    assert [member.name for member in files.members()] == [f"x/{name}"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_is_told_and_the_last_is_read(tmp_path):
    path = zipped(tmp_path / "faces.zip", {"b.png": b"old"})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("b.png", b"young")
    files = Zip(path)
    assert [(member.name, member.size) for member in files.members()] == [("b.png", 5)]
    assert files.read("b.png") == b"young"
    (finding,) = files.findings()
    assert (finding.what, finding.told) == ("name twice in a zip", "the last one is read")


def test_a_zip_of_a_mac_whose_names_do_not_say_that_they_are_utf8_is_read_by_them(tmp_path):
    path = zipped(tmp_path / "faces.zip", {"é 顔.png": b"x"})
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = content.index(mark) + place
        content[start : start + 2] = struct.pack("<H", 0)
    path.write_bytes(content)
    files = Zip(path)
    assert [member.name for member in files.members()] == ["é 顔.png"]
    assert files.read("é 顔.png") == b"x"


def test_a_name_in_an_old_code_page_stays_as_zip_says(tmp_path):
    path = zipped(tmp_path / "faces.zip", {"xx.png": b"x"})
    path.write_bytes(path.read_bytes().replace(b"xx.png", b"x\x82.png"))  # é of code page 437
    (member,) = Zip(path).members()
    assert member.name == "xé.png"


def central(path, offset, layout, *values):
    """Change a field of the first member in the directory of a zip file."""
    content = bytearray(path.read_bytes())
    struct.pack_into(layout, content, content.index(b"PK\1\2") + offset, *values)
    path.write_bytes(content)
    return path


DAMAGE = [
    ((24, "<I", MAX_BYTES + 1), "claims 100,000,001 bytes, more than any picture"),
    ((20, "<I", 2**32 - 2), "claims 4,294,967,294 bytes, more than any picture"),
    ((24, "<I", 100), "checksum"),
    ((24, "<I", 40_000), "checksum"),
    ((16, "<I", 7), "checksum"),
    ((42, "<I", 3), "not where the directory"),
    ((42, "<I", 2**31), "not where the directory|cannot be read"),
    ((8, "<H", 1), "is encrypted"),
    ((10, "<H", 99), r"uncommon way \(99\)"),
    ((20, "<I", 5), "damaged|checksum"),
]


@pytest.mark.parametrize(("change", "told"), DAMAGE)
def test_a_damaged_member_is_told_by_name_and_the_others_are_read(tmp_path, change, told):
    files = Zip(central(zipped(tmp_path / "faces.zip", {"a.png": bytes(20_000), "b.png": b"y"}), *change))
    with pytest.raises(DataError, match=told) as error:
        files.read("a.png")
    assert f"{files.path}: 'a.png'" in str(error.value)
    assert files.read("b.png") == b"y"


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_uncommon_compression_is_told(tmp_path, way):
    files = Zip(zipped(tmp_path / "faces.zip", {"a.png": b"x" * 99}, way))
    with pytest.raises(DataError, match="compressed in an uncommon way"):
        files.read("a.png")


def test_a_member_that_inflates_beyond_its_claim_takes_no_more_memory_than_that(tmp_path):
    path = central(zipped(tmp_path / "faces.zip", {"a.png": bytes(50_000_000)}), 24, "<I", 1000)
    files = Zip(path)
    tracemalloc.start()
    with pytest.raises(DataError, match="checksum"):
        files.read("a.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4" + bytes(30), b"x" * 1000])
def test_what_is_no_zip_is_told(tmp_path, content):
    path = tmp_path / "faces.zip"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"faces\.zip is not a readable zip file.*Fetch it again"):
        Zip(path).members()


def test_a_zip_that_is_not_there_is_told(tmp_path):
    for ask in (lambda: Zip(tmp_path / "no.zip").signature, Zip(tmp_path / "no.zip").members):
        with pytest.raises(DataError, match=r"no\.zip"):
            ask()


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_damage_to_a_zip_raises_anything_but_a_data_error(tmp_path, place, damage):
    path = tmp_path / "faces.zip"
    content = zipped(path, {"a.png": b"x" * 300, "ü.png": png(1, 4)}).read_bytes()
    place %= len(content)
    path.write_bytes(content[:place] + damage + content[place + len(damage) :])
    with contextlib.suppress(DataError):
        files = Zip(path)
        files.findings()
        for member in files.members():
            with contextlib.suppress(DataError):
                assert len(files.read(member.name)) == member.size


@given(st.binary(max_size=80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_as_a_zip_raise_anything_but_a_data_error(tmp_path, rest):
    path = tmp_path / "faces.zip"
    path.write_bytes(rest + b"PK\5\6" + rest[:18].ljust(18, b"\0"))
    with contextlib.suppress(DataError):
        Zip(path).members()


names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20
).filter(lambda name: not name.startswith((".", "__MACOSX")) and "\\" not in name)


@given(names)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_that_a_folder_can_hold_is_read_in_a_folder_and_in_a_zip(tmp_path, name):
    home = tmp_path / f"n{abs(hash(name))}"
    write(home, {f"in {name}/{name}.png": b"x"})
    for files in (Folder(home), Zip(zipped(tmp_path / "n.zip", {f"in {name}/{name}.png": b"x"}))):
        (member,) = files.members()
        assert plain(member.name) == plain(f"in {name}/{name}.png")
        assert files.read(member.name) == b"x"


def test_links_to_folders_are_told_and_not_followed_and_links_to_files_are_read(tmp_path):
    home = write(tmp_path / "faces", {"a/1.png": b"x"})
    (home / "a" / "round").symlink_to(home)
    (home / "other").symlink_to(write(tmp_path / "other", {"2.png": b"y"}))
    (home / "3.png").symlink_to(tmp_path / "other" / "2.png")
    (home / "4.png").symlink_to(tmp_path / "nothing.png")
    (home / "5.png").symlink_to(home / "5.png")
    files = Folder(home)
    assert {member.name: files.read(member.name) for member in files.members()} == {
        "a/1.png": b"x",
        "3.png": b"y",
    }
    assert sorted((f.what, f.where) for f in files.findings()) == [
        ("link that leads nowhere", f"{home}/4.png"),
        ("link that leads nowhere", f"{home}/5.png"),
        ("link to a folder", f"{home}/a/round"),
        ("link to a folder", f"{home}/other"),
    ]


def test_a_name_that_is_no_text_is_told(tmp_path):
    home = write(tmp_path / "faces", {"1.png": b"x"})
    try:
        Path(os.fsdecode(os.fsencode(home) + b"/\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes no name that is not UTF-8")
    files = Folder(home)
    assert [member.name for member in files.members()] == ["1.png"]
    assert [(f.what, f.where) for f in files.findings()] == [("name that is not UTF-8", f"{home}/\ufffd.png")]


def test_what_is_no_file_is_no_picture(tmp_path):
    home = write(tmp_path / "faces", {"1.png": b"x", "folder.png/2.png": b"y"})
    os.mkfifo(home / "3.png")
    assert [member.name for member in Folder(home).members()] == ["1.png", "folder.png/2.png"]


def test_a_folder_that_cannot_be_listed_is_told_and_the_others_are_read(tmp_path, monkeypatch):
    home = write(tmp_path / "faces", {"1.png": b"x", "shut/2.png": b"y"})
    real = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    files = Folder(home)
    assert [member.name for member in files.members()] == ["1.png"]
    (finding,) = files.findings()
    assert (finding.what, finding.where) == ("folder that cannot be read", f"{home}/shut")
    with pytest.raises(DataError, match="shut cannot be read"):
        Folder(home / "shut").members()


def test_a_file_that_is_too_large_is_told(tmp_path):
    home = write(tmp_path / "faces", {"1.png": b"x"})
    os.truncate(home / "1.png", MAX_BYTES + 1)
    with pytest.raises(DataError, match=r"1\.png holds more than 100,000,000 bytes"):
        Folder(home).read("1.png")
