"""The label files of FairFace: ``file,age,gender,race,service_test``, a line a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from lvmbench import DataError
from lvmbench_images import registry

AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
GENDERS = ("Female", "Male")
RACES = ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern")
MANGLED = {"03-Sep": "3-9", "Oct-19": "10-19"}  # what a spreadsheet makes of two of the ages
YOUNG = AGES.index("40-49")  # people below this bin

SOURCE = "annotators"
ATTRIBUTES = (
    registry.male(SOURCE),
    registry.young(SOURCE, "younger than 40, from the age bin"),
    registry.age(SOURCE, AGES),
    registry.race(SOURCE, RACES),
)

Row = tuple[float, ...]


def read_labels(path: Path) -> list[tuple[str, Row, str]]:
    """Return each row: a picture's name, its labels in the order of ``ATTRIBUTES``, NaN where empty, and its line.

    Raises:
        DataError: if the file is not such a table, or holds an unknown word; names the file, line and word.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_rows(path, csv.reader(file, strict=True)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of labels ({error}).") from error


def _rows(path: Path, lines: Iterator[list[str]]) -> Iterator[tuple[str, Row, str]]:
    header = next(lines, [])
    missing = {"file", "age", "gender", "race"} - set(header)
    if missing:
        raise DataError(
            f"{path}: the first line must name the columns; it lacks {', '.join(sorted(missing))}."
        )
    for number, cells in enumerate(lines, start=2):
        if not cells:
            continue  # a blank last line
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {number}: {len(cells)} cells, where the first line has {len(header)}."
            )
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        line = f"{path}, line {number}"
        yield row["file"], _labels(row, line), line


def _labels(row: dict[str, str], place: str) -> Row:
    age = _index(MANGLED.get(row["age"], row["age"]), AGES, "age", place)
    young = age if math.isnan(age) else float(age < YOUNG)
    gender, race = _index(row["gender"], GENDERS, "gender", place), _index(row["race"], RACES, "race", place)
    return gender, young, age, race


def _index(word: str, known: tuple[str, ...], column: str, place: str) -> float:
    if not word:
        return math.nan
    if word not in known:
        raise DataError(f"{place}: unknown {column} '{word}'. Known: {', '.join(known)}.")
    return float(known.index(word))
