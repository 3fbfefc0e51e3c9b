import json

import numpy as np
import pytest
import torch
from PIL import Image

from lvmbench.contact_sheet import caption_of, check_sheet, contact_sheet, write_sheet
from lvmbench.data import Attribute, Finding, Schema, Split
from lvmbench.errors import UsageError
from lvmbench.inspected import as_json, as_text
from lvmbench.inspection import Copy, Leak, exact, inspect

NAN = float("nan")
ATTRIBUTES = (
    Attribute("Male", "binary", source="annotators"),
    Attribute("colour", "categorical", ("red", "green", "blue")),
    Attribute("age", "ordinal", unit="years"),
)
SCHEMA = Schema((1, 2, 3), "gaussian", ATTRIBUTES)
LABELS = {
    "train": [[1, 0, 20], [0, 0, 30], [NAN, 1, 70], [0, 1, NAN]],
    "val": [[1, 0, 25]],
    "test": [[0, 1, 80], [1, NAN, 2]],
}
FOUND = [Finding("alpha", f"{i}.png", "changed", "laid on white") for i in range(7)]


class Data:
    """Seven pictures, of which no two are equal until a test makes them so."""

    schema = SCHEMA
    fingerprint = "data"
    findings = ()

    def __init__(self, labels=LABELS, same=(), groups=None):
        counts = {name: len(rows) for name, rows in labels.items()}
        numbers = torch.arange(sum(counts.values()))
        for one, other in same:
            numbers[one] = numbers[other]
        images = numbers.to(torch.uint8)[:, None, None, None].repeat(1, 1, 2, 3)
        self.splits, start = {}, 0
        for name, rows in labels.items():
            here = slice(start, start := start + counts[name])
            people = None if groups is None else torch.tensor(groups[here])
            told = torch.tensor(rows, dtype=torch.float32).reshape(-1, len(ATTRIBUTES))
            self.splits[name] = Split(images[here], told, 100 + torch.arange(here.start, here.stop), people)


def inspected(**how):
    data = Data(**how)
    return inspect(data, data.splits)


def text(every=False, **how):
    return as_text("toys", inspected(**how), every=every)


def test_labels_are_counted_by_split_and_class_and_the_missing_apart():
    part = inspected().parts["train"]
    assert part.pictures == 4
    assert (part.labels["Male"].known, part.labels["Male"].missing) == (3, 1)
    assert part.labels["Male"].classes == (2, 1)
    assert part.labels["colour"].classes == (2, 2, 0)
    ages = part.labels["age"]
    assert (ages.known, ages.missing, ages.low, ages.high) == (3, 1, 20, 70)
    assert (ages.mean, ages.sd) == pytest.approx((np.mean([20, 30, 70]), np.std([20, 30, 70], ddof=1)))


def test_a_split_without_pictures_or_a_column_without_labels_is_told_as_such():
    told = inspected(labels={**LABELS, "val": [], "test": [[NAN, NAN, NAN]]})
    assert told.parts["val"].pictures == 0
    assert told.parts["test"].labels["age"].mean is None
    assert "–" in as_text("toys", told)


def test_pictures_of_equal_pixels_are_found_across_splits_with_the_labels_that_disagree():
    # 5 and 6 are of the test split, 4 of val; a label that is missing contradicts none
    found = inspected(same=[(1, 0), (5, 1), (6, 2), (4, 0)])
    assert found.copies == (
        Copy(("train", 101), ("train", 100), ("Male", "age")),
        Copy(("val", 104), ("train", 100), ("age",)),
        Copy(("test", 105), ("train", 100), ("Male", "colour", "age")),
        Copy(("test", 106), ("train", 102), ("age",)),
    )
    assert [copy.is_across for copy in found.copies] == [False, True, True, True]


def test_no_two_pictures_are_taken_for_equal_that_differ_in_a_pixel(monkeypatch):
    monkeypatch.setattr("lvmbench.inspection.CHUNK", 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 2, (600, 1, 3, 3), generator=generator, dtype=torch.uint8)
    data = Data()
    splits = {"train": Split(images, torch.full((600, 3), NAN), torch.arange(600))}
    found = inspect(data, splits)
    assert len(found.copies) == 600 - len(np.unique(images.numpy().reshape(600, 9), axis=0))


def test_people_of_two_splits_are_leaks():
    found = inspected(groups=[1, 1, 2, 3, 3, 2, 3])
    assert [part.people for part in found.parts.values()] == [3, 1, 2]
    assert found.leaks == (
        Leak(("train", "val"), (3,), ((103, 104),)),
        Leak(("train", "test"), (2, 3), ((102, 105), (103, 106))),
        Leak(("val", "test"), (3,), ((104, 106),)),
    )  # fmt: skip
    assert not inspected(groups=[1, 1, 1, 1, 2, 3, 3]).leaks
    assert not inspected().leaks


@pytest.mark.parametrize(
    ("how", "amiss"),
    [
        ({}, False),
        ({"labels": {**LABELS, "train": [[1, 0, 20]] * 4}, "same": [(1, 0)]}, True),
        ({"same": [(1, 0)]}, True),
        (
            {"labels": {"train": [[1, 0, 20]], "val": [[1, 0, 20]], "test": [[1, 0, 20]]}, "same": [(2, 0)]},
            True,
        ),
        ({"groups": [1, 2, 3, 4, 1, 6, 7]}, True),
    ],
)
def test_copies_and_shared_people_are_amiss(how, amiss):
    assert inspected(**how).is_amiss == amiss
    assert ("nothing amiss" in text(**how)) == (not amiss)


@pytest.mark.parametrize(("effect", "amiss"), [("dropped", False), ("noted", True), ("left out", True)])
def test_findings_are_amiss_but_for_what_an_option_had_left_out(monkeypatch, effect, amiss):
    monkeypatch.setattr(Data, "findings", [Finding("copy within a split", "0.png", effect)])
    assert inspected().is_amiss == amiss
    assert f"{effect}: copy within a split: 1" in text()


class Files(Data):
    """The same pictures with names, of which the last two are equal files."""

    def files_of_rows(self):
        return {row: (f"{row}.png", "same" if row > 104 else str(row)) for row in range(100, 107)}


def test_pictures_that_have_names_are_told_by_them():
    data = Files(same=[(1, 0), (5, 3)], groups=[1, 2, 3, 4, 1, 6, 7])
    told = as_text("toys", inspect(data, data.splits))
    assert "  train '101.png' = train '100.png': Male, age\n" in told
    assert "  test '105.png' = train '103.png'\n" in told
    assert "  person 1: train '100.png', val '104.png'" in told
    assert not set(inspect(data, data.splits).names) - {100, 101, 103, 104, 105}


def test_what_is_a_finding_by_name_is_told_once(monkeypatch):
    data = Files(same=[(6, 5)], groups=[1, 2, 3, 4, 1, 6, 7])
    assert inspect(data, data.splits).copies == ()
    assert len(inspect(data, data.splits).leaks) == 1
    monkeypatch.setattr(Data, "findings", [Finding("person in two splits", "a.csv: 'Ann'")])
    assert inspect(data, data.splits).leaks == ()


def test_how_many_were_looked_at_is_told():
    data = Data()
    told = as_text("toys", inspect(data, data.splits, 4))
    assert "looked at the first 4 of each split" in told
    assert told.endswith("nothing amiss in these")
    assert "looked" not in text()
    assert text().endswith("nothing amiss")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1995, "1995"),
        (0, "0"),
        (12345678, "12345678"),
        (0.125, "0.125"),
        (1995.5, "1995.5"),
        (2 / 3, "0.666667"),
    ],
)
def test_numbers_can_be_read(value, told):
    assert exact(float(value)) == told


def test_the_years_of_pictures_are_told_as_they_are():
    years = {"train": [[1, 0, 1995], [0, 0, 2021]], "val": [[1, 0, 1995]], "test": [[0, 1, 1995]]}
    assert "1995 to 2021" in text(labels=years)
    assert caption_of(SCHEMA, torch.tensor([0, NAN, 1995.0])) == ["age 1995 years"]


def test_the_text_has_a_line_a_class_and_a_column_a_split():
    lines = [line.split() for line in text().splitlines()]
    assert ["train", "4"] in lines
    assert ["Male", "binary", "yes", "33.3", "%", "100.0", "%", "50.0", "%"] in lines
    assert ["missing", "25.0", "%", "none", "none"] in lines
    assert ["blue", "none", "none", "none"] in lines
    assert [
        "age",
        "number",
        "mean",
        "±",
        "sd,",
        "years",
        "40",
        "±",
        "26.4575",
        "25",
        "±",
        "0",
        "41",
        "±",
        "55.1543",
    ] in lines
    assert ["labels:", "annotators", "(Male)"] in lines
    assert "people" not in text()
    assert ["train", "4", "4"] in [line.split() for line in text(groups=[1, 2, 3, 4, 5, 6, 7]).splitlines()]


def test_the_first_five_of_each_finding_are_named_and_all_where_all_are_asked_for(monkeypatch):
    monkeypatch.setattr(Data, "findings", [*FOUND, Finding("row twice", "a.csv, line 9")])
    told = text()
    assert "changed: alpha: 7\n  0.png: laid on white\n" in told
    assert "  4.png: laid on white\n  and 2 more (--all)\nnoted: row twice: 1\n  a.csv, line 9" in told
    whole = text(every=True)
    assert "6.png" in whole
    assert "more" not in whole


def test_copies_and_leaks_are_named_by_split_and_row():
    told = text(same=[(1, 0), (5, 3)], groups=[1, 2, 3, 4, 1, 6, 7])
    assert (
        "equal pictures across splits, with other labels: 1\n  test row 105 = train row 103: Male, age"
        not in told
    )
    assert "equal pictures across splits: 1\n  test row 105 = train row 103\n" in told
    assert (
        "equal pictures within a split, with other labels: 1\n  train row 101 = train row 100: Male, age"
        in told
    )
    assert "people of train and val: 1\n  person 1: train row 100, val row 104" in told


def test_of_many_classes_the_most_and_the_fewest_are_told_unless_all_are_asked_for(monkeypatch):
    letters = tuple(f"letter {i}" for i in range(30))
    monkeypatch.setattr(
        Data, "schema", Schema((1, 2, 3), "gaussian", (Attribute("letter", "categorical", letters),))
    )
    data = Data()
    labels = torch.tensor([7.0, *range(30)])[:, None]
    images = torch.arange(31, dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 2, 3)
    found = inspect(data, {"train": Split(images, labels, torch.arange(31))})
    told = as_text("letters", found)
    assert "most of 30: letter 7" in told
    assert "fewest: letter 0" in told
    assert "letter 4" not in told
    assert "letter 4 " in as_text("letters", found, every=True)


def test_the_text_keeps_to_a_hundred_columns(monkeypatch):
    where = "/home/somebody/pictures of faces and of much more/labels of all pictures.csv, line 20002"
    monkeypatch.setattr(
        Data, "findings", [Finding("row without a picture", f"{where}: 'train/20001.jpg'", "left out")]
    )
    assert max(map(len, text(same=[(5, 1)]).splitlines())) <= 100


def test_long_names_of_several_lines_and_long_numbers_keep_to_a_hundred_columns(monkeypatch):
    attributes = (
        Attribute(
            "the hair of the person in the middle of the picture", "categorical", ("dark\nbrown", "x" * 50)
        ),
        Attribute("height above the sea of the place where it was taken", "ordinal", unit="m"),
    )
    monkeypatch.setattr(Data, "schema", Schema((1, 2, 3), "gaussian", attributes))
    rows = [[0, 123456.789], [1, 999999.123]]
    splits = {
        name: Split(torch.rand(2, 1, 2, 3).mul(255).byte(), torch.tensor(rows), torch.arange(2))
        for name in LABELS
    }
    told = as_text("toys " * 30, inspect(Data(labels={}), splits))
    assert max(map(len, told.splitlines())) <= 100
    assert "dark brown" in told
    assert sum("mean ± sd, m" in line for line in told.splitlines()) > 1  # a table a few splits
    assert told.count("123457 to 999999") == 3


def test_json_has_everything(monkeypatch):
    monkeypatch.setattr(Data, "findings", FOUND)
    told = json.loads(as_json("toys", inspected(same=[(5, 0)], groups=[1, 2, 3, 4, 1, 6, 7])))
    assert (told["data"], told["amiss"]) == ("toys", True)
    assert told["parts"]["train"]["labels"]["colour"]["classes"] == [2, 2, 0]
    assert told["copies"] == [
        {"picture": ["test", 105], "equals": ["train", 100], "disagree": ["Male", "colour", "age"]}
    ]
    assert told["leaks"] == [{"splits": ["train", "val"], "people": [1], "rows": [[100, 104]]}]
    assert told["limit"] is None
    assert len(told["findings"]) == 7
    assert told["findings"][0] == {
        "what": "alpha",
        "where": "0.png",
        "effect": "changed",
        "told": "laid on white",
    }


def test_a_caption_says_what_is_so_and_nothing_of_what_is_missing():
    assert caption_of(SCHEMA, torch.tensor([1, 2, 33.0])) == ["Male", "colour: blue", "age 33 years"]
    assert caption_of(SCHEMA, torch.tensor([0, NAN, NAN])) == ["nothing is so"]
    assert caption_of(SCHEMA, torch.tensor([NAN, NAN, NAN])) == ["no labels"]
    lines = Schema((1, 2, 3), "gaussian", (Attribute("hair\nof the head", "binary"),))
    assert caption_of(lines, torch.tensor([1.0])) == ["hair of the head"]
    sexes = Schema((1, 2, 3), "gaussian", (Attribute("sex", "binary", ("female", "male")),))
    assert caption_of(sexes, torch.tensor([0.0])) == ["sex: female"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sheet_shows_each_picture_as_it_is(channels):
    schema = Schema((channels, 2, 4), "gaussian", ATTRIBUTES)
    images = torch.zeros(7, channels, 2, 4, dtype=torch.uint8)
    images[0], images[6] = 200, 90
    split = Split(images, torch.zeros(7, 3), torch.arange(7))
    sheet = np.asarray(contact_sheet("a Bäcker's toys", schema, split))
    grey = (sheet == sheet[..., :1]).all(-1)
    left, below = grey & (sheet[..., 0] == 200), grey & (sheet[..., 0] == 90)
    assert left.sum() == below.sum() == 170 * 85  # a picture twice as wide as high, 170 pixels wide
    assert np.argwhere(left)[:, 1].min() == np.argwhere(below)[:, 1].min()
    assert np.argwhere(left)[:, 0].max() < np.argwhere(below)[:, 0].min()


def test_a_caption_that_has_no_room_is_cut_and_the_sheet_is_written(tmp_path):
    many = tuple(Attribute(f"An_Attribute_{i}" + "x" * i, "binary") for i in range(40))
    schema = Schema((1, 2, 3), "gaussian", many)
    split = Split(torch.zeros(1, 1, 2, 3, dtype=torch.uint8), torch.ones(1, 40), torch.arange(1))
    write_sheet("toys", schema, split, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height < 500
    with pytest.raises(UsageError, match="there is no folder"):
        check_sheet(tmp_path / "none" / "sheet.png")
    with pytest.raises(UsageError, match=r"'.pgn' is the ending of no picture.*Name it .png or .jpg"):
        check_sheet(tmp_path / "sheet.pgn")


def test_a_sheet_that_fails_half_way_leaves_the_old_one(tmp_path, monkeypatch):
    path, split = (
        tmp_path / "sheet.JPG",
        Split(torch.zeros(1, 1, 2, 3).byte(), torch.ones(1, 3), torch.arange(1)),
    )
    write_sheet("toys", SCHEMA, split, path)
    before = path.read_bytes()
    assert before[:2] == b"\xff\xd8"

    def full(self, path, *_):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UsageError, match="the contact sheet cannot be written"):
        write_sheet("toys", SCHEMA, split, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_title_ends_within_the_sheet():
    split = Split(torch.zeros(1, 1, 2, 3).byte(), torch.ones(1, 3), torch.arange(1))
    sheet = np.asarray(contact_sheet("of a long name\n" * 60, SCHEMA, split))
    assert (sheet[:44, -12:] == sheet[0, 0]).all()
