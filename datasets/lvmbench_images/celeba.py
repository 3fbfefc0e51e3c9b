"""CelebA: photographs of celebrities with 40 labels each (Liu et al. 2015, arXiv 1411.7766).

Written against the documented form of its files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lvmbench import DataError, Finding, Schema
from lvmbench_images.archive import Archive, archive
from lvmbench_images.celeba_labels import ATTRIBUTES, COUNT, read_labels
from lvmbench_images.decode import Box, Frame
from lvmbench_images.flat import Flat
from lvmbench_images.listing import REMEDY as AGAIN
from lvmbench_images.listing import Listing, read_listing
from lvmbench_images.pictures import PictureSet
from lvmbench_images.places import OPTION, find, look
from lvmbench_images.table import PARTS, UNDECIDED, Table

FOLDER = "celeba"
PICTURES = tuple(f"{place}img_align_celeba{form}" for place in ("", "Img/") for form in (".zip", ""))
LABELS = ("list_attr_celeba.txt", "list_attr_celeba.csv", "Anno/list_attr_celeba.txt")
SPLITS = ("list_eval_partition.txt", "list_eval_partition.csv", "Eval/list_eval_partition.txt")
IDENTITIES = ("identity_CelebA.txt", "Anno/identity_CelebA.txt")
REMEDY = (
    "Get it from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, under its agreement: non-commercial research "
    f"only, and no copy may be passed on; {OPTION.removeprefix('and ')}"
)

NAME = re.compile(r"(\d{6})\.jpg")
LAST = (162_770, 182_637)  # the last picture of the official train and val
SIZE = (178, 218)
CROPS: dict[int | str, Box] = {
    148: (15, 35, 163, 183),
    140: (19, 39, 159, 179),
    108: (35, 55, 143, 163),
    "larsen": (15, 40, 163, 188),
    "whole": (0, 0, *SIZE),
}


class CelebA(PictureSet):
    """CelebA at ``size`` pixels, as one of the ``crop`` conventions cuts it; from the files as they are, or halved.

    A number is the side of the square in the middle; ``larsen`` is 148 pixels, five lower; ``whole`` is all of the
    picture, squeezed. The splits are the official ones, from their file or by the numbers of the pictures. Where one
    of these has no picture, as among the first 10,000, all three are drawn by a hash of the names, and whole people
    where ``identity_CelebA.txt`` tells who is who.
    """

    def __init__(
        self,
        *,
        size: Literal[32, 64, 128] = 64,
        crop: Literal[148, 140, 108, "larsen", "whole"] = 148,
        drop_duplicates: bool = False,
    ) -> None:
        schema = Schema((3, size, size), "gaussian", ATTRIBUTES)
        super().__init__(
            "celeba", schema, Frame(size, cut=CROPS[crop], of=SIZE), drop_duplicates=drop_duplicates
        )
        self.title = f"celeba-{size}-{'c' if isinstance(crop, int) else ''}{crop}"

    @property
    def schema(self) -> Schema:
        """Return the shape of a picture, the attributes, and whether a file of identities is there."""
        return replace(super().schema, identities=look(FOLDER, IDENTITIES) is not None)

    def locate(self) -> Sequence[Path]:
        """Return the zip or folder of pictures, the labels, and of splits and identities what is there."""
        needed = [find("CelebA", FOLDER, names, REMEDY) for names in (PICTURES, LABELS)]
        return [*needed, *(path for names in (SPLITS, IDENTITIES) if (path := look(FOLDER, names)))]

    def opened(self, pictures: Path) -> Archive:
        """Return the pictures by their numbers, whatever folders they lie in."""
        return Flat(archive(pictures), NAME, "a number of six digits and .jpg")

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return the labels of all pictures that are listed, with their splits and identities."""
        listing, labels, found = read_labels(tables[0])
        rows = [row for row, name in enumerate(listing.names) if _number(name)]
        names = [listing.names[row] for row in rows]
        numbers = np.array([_number(name) for name in names], dtype=np.int64)
        there = set(pictures.names())
        parts, told = _parts(pictures.path, names, numbers, there)
        people, unknown = _people(names, there)
        return Table(
            ATTRIBUTES,
            names,
            labels[rows],
            [listing.where(row) for row in rows],
            parts,
            people,
            numbers,
            [*found, *_strange(listing), *told, *unknown],
        )


def official(numbers: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the official splits of pictures by their numbers, as places in ``PARTS``: [N]."""
    return np.searchsorted(LAST, numbers).astype(np.int8)


def _number(name: str) -> int:
    """Return the number of a picture, 0 if its name is none of CelebA's."""
    found = NAME.fullmatch(name)
    return int(found[1]) if found and int(found[1]) <= COUNT else 0


def _strange(listing: Listing) -> Iterator[Finding]:
    for row, name in enumerate(listing.names):
        if not _number(name):
            told = f"pictures are 000001.jpg to {COUNT}.jpg"
            yield Finding("row of no picture of CelebA", f"{listing.where(row)}: '{name}'", "left out", told)


def _parts(
    where: Path, names: Sequence[str], numbers: NDArray[np.int64], there: Collection[str]
) -> tuple[NDArray[np.int8], list[Finding]]:
    """Return the splits of the rows, [M], all undecided where one of them has no picture."""
    parts = official(numbers)
    found: list[Finding] = []
    path = look(FOLDER, SPLITS)
    if path is not None:
        given, found = _split_file(path)
        parts = np.array([given.get(n, p) for n, p in zip(names, parts.tolist(), strict=True)], dtype=np.int8)
        found += [
            Finding("picture without a split", f"{path}: '{name}'", "noted", "its number tells")
            for name in names
            if name in there and name not in given
        ]
    has = np.bincount(parts[[name in there for name in names]], minlength=len(PARTS)) > 0
    if has.any() and not has.all():
        lacking = " and ".join(part for part, some in zip(PARTS, has, strict=True) if not some)
        told = f"no picture is of the official {lacking}; all splits are drawn, by a hash"
        return np.full_like(parts, UNDECIDED), [
            *found,
            Finding("official splits not usable", str(where), "noted", told),
        ]
    return parts, found


def _split_file(path: Path) -> tuple[dict[str, int], list[Finding]]:
    """Return the split of each picture as a place in ``PARTS``, which is how the file numbers them."""
    listing = read_listing(path)
    values = _only_column(listing)
    wrong = (values < 0) | (values >= len(PARTS))
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{listing.where(row)}: no split is numbered {values[row]}; 0, 1 and 2 are. {AGAIN}")
    return _by_name(listing)


def _people(names: Sequence[str], there: Collection[str]) -> tuple[list[str] | None, list[Finding]]:
    """Return who is in each picture, "" where that is not told, [M]; None where no file tells."""
    path = look(FOLDER, IDENTITIES)
    if path is None:
        return None, []
    people, found = _by_name(read_listing(path))
    found += [
        Finding("picture without an identity", f"{path}: '{name}'", "noted", "taken for a person of its own")
        for name in names
        if name in there and name not in people
    ]
    return [str(people.get(name, "")) for name in names], found


def _by_name(listing: Listing) -> tuple[dict[str, int], list[Finding]]:
    """Return the number of each name, and each row whose name is in one before it: the first row stays."""
    said: dict[str, int] = {}
    found: list[Finding] = []
    for row, (name, value) in enumerate(zip(listing.names, _only_column(listing).tolist(), strict=True)):
        if name not in said:
            said[name] = value
            continue
        where = f"{listing.where(row)}: '{name}'"
        if said[name] == value:
            found.append(Finding("row twice", where, "noted", "read once"))
        else:
            told = f"{value} here, {said[name]} in the first row, which is taken"
            found.append(Finding("rows of one picture that disagree", where, "changed", told))
    return said, found


def _only_column(listing: Listing) -> NDArray[np.int32]:
    if listing.numbers.shape[1] != 1:
        cells = 1 + listing.numbers.shape[1]
        raise DataError(f"{listing.where(0)}: {cells} cells, where a name and one number are needed. {AGAIN}")
    return listing.numbers[:, 0]
