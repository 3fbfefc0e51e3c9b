from pathlib import Path

from lvmbench.errors import DataError
from lvmbench.readiness import Readiness, readiness, table
from tests_support import catalog_of


class Drawn:
    pass


class Read:
    def locate(self):
        return [Path("/data/faces/pictures.zip"), Path("/data/faces/labels.csv"), Path("/more/splits.csv")]

    def split(self, name, limit=None):
        raise AssertionError("it opened its pictures")

    fingerprint = property(split)


class Absent:
    def locate(self):
        raise DataError("Absent: no 'img.zip' in /data. Get it from https://example.org (non-commercial).")


class Folder:
    def __init__(self, *, root: str, crop: int = 148):
        raise AssertionError("it was built without what it asks for")


def found(**datasets):
    return {one.name: one for one in readiness(catalog_of(datasets=datasets))}


def test_a_data_set_that_is_drawn_needs_no_files():
    assert found(drawn=Drawn)["drawn"] == Readiness("drawn", "ready", "needs no files")


def test_where_files_are_is_told_and_none_is_opened():
    told = found(read=Read)["read"]
    assert (told.state, told.told) == (
        "ready", "/data/faces: pictures.zip, labels.csv\n/more: splits.csv",
    )  # fmt: skip


def test_what_is_missing_is_told_with_its_remedy():
    told = found(absent=Absent)["absent"]
    assert told.state == "missing"
    assert "Get it from https://example.org (non-commercial)." in told.told


def test_a_data_set_that_needs_an_option_says_which():
    assert found(images=Folder)["images"].told == "reads what is named: images(root=...)"


def test_a_data_set_that_cannot_be_loaded_hides_no_other():
    told = found(gone="no_such_module:Gone", drawn=Drawn)
    assert told["gone"].state == "broken"
    assert "No module named 'no_such_module'" in told["gone"].told
    assert told["drawn"].state == "ready"


class Locked:
    def locate(self):
        raise PermissionError(13, "Permission denied", "/root/celeba")


def test_a_data_set_that_breaks_when_its_files_are_looked_for_hides_no_other():
    told = found(locked=Locked, drawn=Drawn)
    assert told["locked"].state == "broken"
    assert told["locked"].told == "PermissionError: [Errno 13] Permission denied: '/root/celeba'"
    assert told["drawn"].state == "ready"


def test_the_table_keeps_to_a_hundred_columns():
    names = {"read": Read, "absent": Absent, "images-of-a-long-name": Folder, "gone": "no_such:Gone"}
    text = table(catalog_of(datasets=names))
    assert max(map(len, text.splitlines())) <= 100
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("absent")] == [
        ["absent", "missing"]
    ]
