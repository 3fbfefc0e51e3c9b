"""FairFace: photographs of faces, balanced in race (Kärkkäinen & Joo 2021, arXiv 1908.04913)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from lvmbench import DataError, Schema
from lvmbench_images.archive import Archive
from lvmbench_images.decode import Frame
from lvmbench_images.fairface_labels import ATTRIBUTES, Row, read_labels
from lvmbench_images.pictures import PictureSet
from lvmbench_images.places import OPTION, find, look
from lvmbench_images.table import PARTS, Table

PICTURES = ("fairface_64_q92.zip", "fairface-img-margin025-trainval.zip", "fairface-img-margin025-trainval")
LABELS = {
    part: (f"fairface_label_{part}_subset.csv", f"fairface_label_{part}.csv") for part in ("train", "val")
}
REMEDY = f"Get it from https://github.com/joojs/fairface (licence CC BY 4.0) {OPTION}"
FIRST = {"train": 0, "val": 1_000_000}  # added to a picture's number to give its row
OFFICIAL = {"train": "train", "val": "test"}


class FairFace(PictureSet):
    """FairFace at ``size`` pixels: the 25,000-picture subset at 64×64, or the original files.

    The official validation pictures are the test split. Our validation split is a tenth of the training pictures,
    chosen by a hash of their names. A training picture that equals another byte for byte is left out, unless
    ``drop_duplicates`` is off.
    """

    def __init__(self, *, size: Literal[32, 64, 128] = 64, drop_duplicates: bool = True) -> None:
        schema = Schema((3, size, size), "gaussian", ATTRIBUTES)
        super().__init__("fairface", schema, Frame(size), drop_duplicates=drop_duplicates)

    def locate(self) -> Sequence[Path]:
        """Return the zip or folder of pictures, then the labels of the two official parts."""
        tables = [find("FairFace", "fairface", names, REMEDY) for names in LABELS.values()]
        parts = [look("fairface", [part]) for part in LABELS]
        unpacked = parts[0].parent if all(parts) and parts[0] else None
        return [
            look("fairface", PICTURES) or unpacked or find("FairFace", "fairface", PICTURES, REMEDY),
            *tables,
        ]

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return the rows of both label files, those of the official validation part for test."""
        rows = [(part, *row) for part, path in zip(LABELS, tables, strict=True) for row in _rows(part, path)]
        parts, names, labels, lines = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Table(
            ATTRIBUTES,
            names,
            np.array(labels, dtype=np.float32).reshape(len(rows), len(ATTRIBUTES)),
            lines,
            parts=np.array([PARTS.index(OFFICIAL[part]) for part in parts], dtype=np.int8),
            rows=np.array([FIRST[p] + _number(n) for p, n in zip(parts, names, strict=True)], dtype=np.int64),
            drawn=("val",),
        )


def _rows(part: str, path: Path) -> Iterator[tuple[str, Row, str]]:
    for name, labels, line in read_labels(path):
        if not name.startswith(f"{part}/"):
            raise DataError(f"{line}: '{name}' is no picture of the part '{part}'.")
        yield name, labels, line


def _number(name: str) -> int:
    found = re.fullmatch(r"(?:train|val)/(\d{1,6})\.jpe?g", name)
    if found is None:
        raise DataError(f"FairFace: '{name}' is not a name like 'train/1.jpg' or 'val/1.jpg'.")
    return int(found[1])
