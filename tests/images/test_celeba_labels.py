import hashlib
import re

import numpy as np
import pytest

from celeba_support import ALL, ANNOUNCED, HEADER, NAMES, has, lines, table, text
from lvmbench import DataError
from lvmbench_images import celeba_labels, listing
from lvmbench_images.celeba_labels import read_labels


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list_attr_celeba.txt", text(end="\n")),
        ("list_attr_celeba.txt", text().removeprefix(ANNOUNCED)),
        ("list_attr_celeba.txt", "\ufeff" + text()),
        ("list_attr_celeba.txt", text() + "\r\n\r\n"),
        ("list_attr_celeba.txt", text().replace(" \r\n", "\r\n", 1).replace("  ", " ")),
        ("list_attr_celeba.txt", text().replace("\r\n0", "\r\n  0")),
        ("list_attr_celeba.csv", table()),
        ("list_attr_celeba.csv", re.sub(r"[^,\n]+", r'"\g<0>"', table())),
        ("list_attr_celeba.csv", "\ufeff" + table().replace("\n", "\r\n")),
        ("list_attr_celeba.csv", table(comma=";")),
        ("list_attr_celeba.csv", table().replace("image_id", "").replace("-1", "0")),
        ("list_attr_celeba.csv", table().replace(",", ", ")),
    ],
)
def test_every_form_of_the_list_reads_as_the_official_one(tmp_path, name, content):
    (tmp_path / "official.txt").write_bytes(text().encode())
    (tmp_path / name).write_bytes(content.encode())
    expected, labels, _ = read_labels(tmp_path / "official.txt")
    found, again, findings = read_labels(tmp_path / name)
    assert found.names == expected.names == [f"{n:06d}.jpg" for n in ALL]
    assert np.array_equal(labels, again, equal_nan=True)
    assert labels[:, :40].tolist() == [has(number) for number in ALL]
    assert findings == []


def test_columns_in_another_order_and_more_of_them_are_found_by_name(tmp_path):
    head, *rows = table().splitlines()
    turned = [",".join([line.split(",")[0], *reversed(line.split(",")[1:]), "7"]) for line in [head, *rows]]
    (tmp_path / "labels.csv").write_text("\n".join([turned[0].removesuffix("7") + "stars", *turned[1:]]))
    _, labels, findings = read_labels(tmp_path / "labels.csv")
    assert labels[:, :40].tolist() == [has(number) for number in ALL]
    assert [(f.what, f.effect) for f in findings] == [("column that is no label of CelebA", "left out")]
    assert "'stars'" in findings[0].where


def only(*names):
    return [int(name in names) for name in NAMES]


@pytest.mark.parametrize(
    ("names", "colour"),
    [
        (["Black_Hair"], "black"),
        (["Brown_Hair", "Male", "Wavy_Hair"], "brown"),
        (["Blond_Hair"], "blond"),
        (["Gray_Hair"], "gray"),
        ([], None),
        (["Black_Hair", "Brown_Hair"], None),
        (["Bald"], None),
        (["Bald", "Gray_Hair"], None),
    ],
)
def test_hair_has_a_colour_where_exactly_one_label_of_hair_is_set(tmp_path, names, colour):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text(text([1, 2], lambda n: only(*names)))
    _, labels, _ = read_labels(path)
    attribute = celeba_labels.ATTRIBUTES[-1]
    assert (attribute.name, "missing" in attribute.note) == ("hair_color", True)
    classes = [None if np.isnan(x) else attribute.classes[int(x)] for x in labels[:, 40]]
    assert classes == [colour] * 2


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("000002.jpg", "000002.jpg 1", r"line 4: 42 cells, where the first row has 41"),
        ("\r\n000003.jpg", " 1\r\n000003.jpg", r"line 4: 42 cells"),
        ("Young ", "Old ", r"no column Young of CelebA's 40"),
        ("Male ", "", r"line 3: 41 cells below 39 names of columns"),
    ],
)
def test_a_list_that_is_not_understood_is_refused_with_file_and_line(tmp_path, old, new, told):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_bytes(text().replace(old, new, 1).encode())
    with pytest.raises(DataError, match=told) as error:
        read_labels(path)
    assert str(path) in str(error.value)
    assert "Fetch the file again" in str(error.value)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["-1"] * 39, "line 5: 40 cells, where the first row has 41"),
        (["1"] * 39 + ["x"], "line 5: 'x' is not a whole number"),
        (["1"] * 39 + ["1.5"], "line 5: '1.5' is not a whole number"),
        (["1"] * 39 + ["9999999999"], "line 5: '9999999999' is not a whole number"),
        (["1"] * 39 + ["2"], "line 5: Young is 2; labels are -1 and 1"),
        (["1"] * 39 + ["0"], "line 5: Young is 0; labels are -1 and 1"),
        (["1"] * 39 + ['"1'], "labels.txt"),
        (["1"] * 39 + ["\0"], "line 5: '\0' is not a whole number"),
    ],
)
def test_a_row_that_is_not_understood_is_refused_with_its_line(tmp_path, cells, told):
    path = tmp_path / "labels.txt"
    rows = lines()
    path.write_text("\n".join(["17", HEADER, *rows[:2], " ".join(["000099.jpg", *cells]), *rows[2:]]))
    with pytest.raises(DataError, match=told):
        read_labels(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"17\r\n", text([]).encode(), b"\xff\xfe" * 50, b"<html>\n<p>quota"]
)
def test_a_file_that_is_no_list_is_refused(tmp_path, content):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"list_attr_celeba\.txt.*Fetch the file again"):
        read_labels(path)


def test_a_quotation_mark_that_spans_lines_loses_no_row(tmp_path):
    path = tmp_path / "list_attr_celeba.csv"
    path.write_text(table().replace("000001.jpg", '"000001.jpg').replace("000002.jpg", '000002.jpg"'))
    with pytest.raises(DataError, match="quotation mark"):
        read_labels(path)


def test_a_list_of_absurd_size_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text(text())
    monkeypatch.setattr(listing, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_labels(path)


def whole(path, first=b"202599\r\n"):
    """Write a list of all pictures."""
    end = lines([1])[0].removeprefix("000001.jpg").encode() + b"\r\n"
    rows = b"".join(b"%06d.jpg" % n + end for n in range(1, 202_600))
    path.write_bytes(first + HEADER.encode() + b" \r\n" + rows)


def test_a_whole_list_is_compared_with_the_official_one_with_and_without_its_first_line(
    tmp_path, monkeypatch
):
    path = tmp_path / "list_attr_celeba.txt"
    whole(path)
    own = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    found, labels, (told,) = read_labels(path)
    assert (found.names[-1], labels.shape) == ("202599.jpg", (202_599, 41))
    assert told.effect == "noted"
    assert own in told.told
    assert "75e246fa4810816ffd6ee81facbd244c" in told.told
    monkeypatch.setattr(celeba_labels, "MD5", own)
    assert read_labels(path)[2] == []
    whole(path, b"")
    assert read_labels(path)[2] == []
