import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lvmbench.contact_sheet import caption_of, contact_sheet, write_sheet
from lvmbench.data import Attribute, Finding, Schema, Split
from lvmbench.errors import UsageError
from lvmbench.inspected import as_json, as_text
from lvmbench.inspection import Copy, Leak, inspect

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
        Leak(("train", "val"), (3,)), Leak(("train", "test"), (2, 3)), Leak(("val", "test"), (3,)),
    )  # fmt: skip
    assert not inspected(groups=[1, 1, 1, 1, 2, 3, 3]).leaks
    assert not inspected().leaks


@pytest.mark.parametrize(
    ("how", "amiss"),
    [
        ({}, False),
        ({"labels": {**LABELS, "train": [[1, 0, 20]] * 4}, "same": [(1, 0)]}, False),
        ({"same": [(1, 0)]}, True),
        (
            {"labels": {"train": [[1, 0, 20]], "val": [[1, 0, 20]], "test": [[1, 0, 20]]}, "same": [(2, 0)]},
            True,
        ),
        ({"groups": [1, 2, 3, 4, 1, 6, 7]}, True),
    ],
)
def test_copies_across_splits_or_with_other_labels_and_shared_people_are_amiss(how, amiss):
    assert inspected(**how).is_amiss == amiss
    assert ("nothing amiss" in text(**how)) == (not amiss and "same" not in how)


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
        "26.5",
        "25",
        "±",
        "0",
        "41",
        "±",
        "55.2",
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
    assert "people of train and val: 1\n  person 1" in told


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


def test_json_has_everything(monkeypatch):
    monkeypatch.setattr(Data, "findings", FOUND)
    told = json.loads(as_json("toys", inspected(same=[(5, 0)], groups=[1, 2, 3, 4, 1, 6, 7])))
    assert (told["data"], told["amiss"]) == ("toys", True)
    assert told["parts"]["train"]["labels"]["colour"]["classes"] == [2, 2, 0]
    assert told["copies"] == [
        {"picture": ["test", 105], "equals": ["train", 100], "disagree": ["Male", "colour", "age"]}
    ]
    assert told["leaks"] == [{"splits": ["train", "val"], "people": [1]}]
    assert len(told["findings"]) == 7
    assert told["findings"][0] == {
        "what": "alpha",
        "where": "0.png",
        "effect": "changed",
        "told": "laid on white",
    }


def test_a_caption_says_what_is_so_and_nothing_of_what_is_missing():
    assert caption_of(SCHEMA, torch.tensor([1, 2, 33.0])) == ["Male", "colour: blue", "age 33 years"]
    assert caption_of(SCHEMA, torch.tensor([0, NAN, NAN])) == []
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
    with pytest.raises(UsageError, match="the contact sheet cannot be written"):
        write_sheet("toys", schema, split, Path(tmp_path / "none" / "sheet.png"))
