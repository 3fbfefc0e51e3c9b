import re
import zipfile

import pytest

from lvmbench import DataError
from lvmbench_images.archive import archive
from lvmbench_images.flat import Flat


@pytest.fixture
def flat(tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as file:
        for name in ("a/2.jpg", "a/30.jpg", "b/1.jpg", "b/2.jpg", "c\\4.jpg", "b/readme.jpg"):
            file.writestr(name, name)
    return Flat(archive(tmp_path / "faces.zip"), re.compile(r"\d+\.jpg"), "a number")


def test_pictures_go_by_their_file_names_in_the_order_of_these(flat):
    assert flat.names() == ["1.jpg", "2.jpg", "30.jpg", "4.jpg"]
    assert [member.name for member in flat.members()] == flat.names()


def test_a_picture_is_read_from_the_first_folder_that_has_its_name(flat):
    assert [flat.read(name) for name in ("1.jpg", "2.jpg")] == [b"b/1.jpg", b"a/2.jpg"]
    size = {member.name: member.size for member in flat.members()}
    assert size["30.jpg"] == len("a/30.jpg")


def test_what_is_not_read_is_told_with_its_folder(flat):
    told = {(f.what, f.where.partition(": ")[2], f.effect) for f in flat.findings()}
    assert told == {
        ("name in two folders", "'b/2.jpg'", "left out"),
        ("name of another form", "'b/readme.jpg'", "left out"),
    }


def test_a_name_that_is_there_no_more_is_told(flat):
    with pytest.raises(DataError, match=r"faces\.zip: '5\.jpg' is there no more"):
        flat.read("5.jpg")
