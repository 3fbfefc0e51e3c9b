"""The 40 labels of CelebA, and the colour of the hair that four of them tell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvmbench import Attribute, DataError, Finding
from lvmbench_images import registry
from lvmbench_images.listing import REMEDY, Listing, read_listing
from lvmbench_images.table import Labels

COUNT = 202_599
MD5 = "75e246fa4810816ffd6ee81facbd244c"  # of list_attr_celeba.txt, with its first line
FIRST_LINE = f"{COUNT}\r\n".encode()  # which some copies lack

SOURCE = "annotators"
DISPUTED = "annotators hardly agree on it"
DRIFTING = "set twice as often in test as in val"
NOTES = {
    "High_Cheekbones": DISPUTED,
    "Oval_Face": DISPUTED,
    "Pointy_Nose": DISPUTED,
    "Big_Lips": DRIFTING,
    "Narrow_Eyes": DRIFTING,
}
NAMES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache",
    "Narrow_Eyes", "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks",
    "Sideburns", "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
    "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
SHARED = {
    "Male": registry.male(SOURCE),
    "Young": registry.young(SOURCE, registry.IMPRESSION),
}
HAIR = registry.hair_color(SOURCE, "where exactly one of the four colours is set, and not Bald; else missing")
ATTRIBUTES = (
    *(SHARED.get(name, Attribute(name, "binary", source=SOURCE, note=NOTES.get(name, ""))) for name in NAMES),
    HAIR,
)


def read_labels(path: Path) -> tuple[Listing, Labels, list[Finding]]:
    """Return the list of pictures, their labels in the order of ``ATTRIBUTES``, [M, 41], and what is to be told.

    Raises:
        DataError: if the file lacks one of the 40 names, or has a label other than -1 and 1, or 0 and 1.
    """
    listing = read_listing(path)
    missing = [name for name in NAMES if name not in listing.columns]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing[:5])} of CelebA's 40. {REMEDY}")
    raw = listing.numbers[:, [listing.columns.index(name) for name in NAMES]]
    _check(listing, raw)
    labels = np.column_stack([raw == 1, _hair(raw == 1)]).astype(np.float32)
    return listing, labels, list(_remarks(listing))


def _check(listing: Listing, raw: NDArray[np.int32]) -> None:
    """Refuse labels that are neither -1 and 1 nor 0 and 1."""
    low = -1 if (raw == -1).any() else 0
    wrong = (raw != low) & (raw != 1)
    if wrong.any():
        row, column = map(int, np.argwhere(wrong)[0])
        raise DataError(
            f"{listing.where(row)}: {NAMES[column]} is {raw[row, column]}; labels are {low} and 1 here. {REMEDY}"
        )


def _hair(has: NDArray[np.bool_]) -> Labels:
    """Return the class of the hair, NaN where not exactly one is set: labels [M, 40] -> [M]."""
    colors = has[:, [NAMES.index(f"{color.capitalize()}_Hair") for color in HAIR.classes]]
    one = (colors.sum(1) == 1) & ~has[:, NAMES.index("Bald")]
    return np.where(one, colors.argmax(1), np.nan).astype(np.float32)


def _remarks(listing: Listing) -> Iterator[Finding]:
    path, rows = listing.path, len(listing.names)
    if listing.announced not in (None, rows):
        told = f"the first line announces {listing.announced:,} rows, {rows:,} follow"
        yield Finding("count that does not agree", str(path), "noted", told)
    for column in listing.columns:
        if column not in NAMES:
            yield Finding("column that is no label of CelebA", f"{path}: '{column}'", "left out")
    if rows == COUNT and path.suffix == ".txt":
        content = path.read_bytes()
        whole = content if listing.announced is not None else FIRST_LINE + content
        found = hashlib.md5(whole, usedforsecurity=False).hexdigest()
        if found != MD5:
            told = f"its md5 is {found}, the official file's is {MD5}"
            yield Finding("labels other than the official ones", str(path), "noted", told)
