"""UTKFace: photographs of faces, their labels in their names (Zhang et al. 2017, arXiv 1702.08423).

Written against the documented form of its files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lvmbench import DataError, Schema
from lvmbench_images import registry
from lvmbench_images.archive import Archive, archive
from lvmbench_images.decode import Frame
from lvmbench_images.flat import Flat
from lvmbench_images.pictures import PictureSet
from lvmbench_images.places import OPTION, find
from lvmbench_images.table import Table

PICTURES = ("UTKFace.zip", "UTKFace", "crop_part1.zip", "crop_part1", "utkface.zip", "utkface")
REMEDY = (
    "Get the aligned and cropped faces from https://susanqq.github.io/UTKFace/ (for non-commercial research only; the "
    f"pictures stay their owners'), unpack a .tar.gz, {OPTION}"
)
FORM = "[age]_[gender]_[race]_[date of 17 digits].jpg, or .jpg.chip.jpg"
NAME = re.compile(r"(\d{1,2}|10\d|11[0-6])_([01])_([0-4])_\d{17}\.jpg(?:\.chip\.jpg)?", re.IGNORECASE)
MALE = 0  # the other way round than CelebA
RACES = ("White", "Black", "Asian", "Indian", "Others")

SOURCE = "DEX, checked by an annotator"
ATTRIBUTES = (
    registry.male(SOURCE),
    registry.young(SOURCE),
    registry.age(SOURCE),
    registry.race(SOURCE, RACES),
)


class UTKFace(PictureSet):
    """UTKFace, aligned and cropped, at ``size`` pixels.

    There is no official split, and nobody says which pictures show one person: a tenth of the pictures is drawn for
    each of val and test, by a hash of their names.
    """

    def __init__(self, *, size: Literal[32, 64, 128] = 64, drop_duplicates: bool = False) -> None:
        schema = Schema((3, size, size), "gaussian", ATTRIBUTES)
        super().__init__("utkface", schema, Frame(size), drop_duplicates=drop_duplicates)

    def locate(self) -> Sequence[Path]:
        """Return the zip or folder of pictures."""
        return [find("UTKFace", "utkface", PICTURES, REMEDY)]

    def opened(self, pictures: Path) -> Archive:
        """Return the pictures whose names tell their labels, whatever folders they lie in."""
        return Flat(archive(pictures), NAME, FORM)

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return what the names say: a row a picture."""
        names = pictures.names()
        if not names:
            raise DataError(f"UTKFace: no picture in {pictures.path} is named {FORM}. {REMEDY}")
        labels = np.array([_labels(name) for name in names], dtype=np.float32)
        return Table(ATTRIBUTES, names, labels, [str(pictures.path)] * len(names))


def _labels(name: str) -> tuple[float, ...]:
    """Return what a name says, in the order of ``ATTRIBUTES``."""
    found = NAME.fullmatch(name)
    assert found is not None, name
    age, gender, race = (int(number) for number in found.groups())
    return float(gender == MALE), float(age < registry.OLD), age, race
