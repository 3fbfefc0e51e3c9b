"""MNIST (LeCun, Cortes & Burges) and Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), read from the published idx files.

Fashion-MNIST is written after its description, and not tried on the published files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le

from lvmbench import Attribute, DataError, Schema, Split
from lvmbench_images.fetch import HINT, Published, provide
from lvmbench_images.idx import Bytes, read_idx
from lvmbench_images.order import lasting_order
from lvmbench_images.places import OPTION, find

Part = Literal["train", "t10k"]
SplitName = Literal["train", "val", "test"]

VERSION = 1  # of what this reader makes of the files
SIDE = 28
FIRST: dict[Part, int] = {"train": 0, "t10k": 1_000_000}  # added to a place in a file to give its row
FILES = tuple(f"{part}-{what}" for part in FIRST for what in ("images-idx3-ubyte", "labels-idx1-ubyte"))
CLASSES = 10


@dataclass(frozen=True)
class Origin:
    """Where one of the sets comes from: its folders here and in torchvision, page, addresses, md5 of each .gz.

    ``first`` are the labels of the first training pictures: the files of all sets bear the same names.
    """

    title: str
    folder: str
    elsewhere: str
    licence: str
    page: str
    urls: tuple[str, ...]
    md5: tuple[str, ...]
    first: tuple[int, ...]

    @property
    def remedy(self) -> str:
        """Tell where to get the files."""
        return f"Get it from {self.page} (licence {self.licence}) {OPTION} {HINT}"

    def names(self, file: str) -> list[str]:
        """Return the names under which a file may lie."""
        return [f"{place}{file}{ending}" for place in ("", self.elsewhere) for ending in ("", ".gz")]

    def published(self, file: str) -> Published:
        """Return where a file is fetched from."""
        name = f"{file}.gz"
        return Published(name, tuple(url + name for url in self.urls), f"md5:{self.md5[FILES.index(file)]}")


DIGITS = Origin(
    "MNIST",
    "mnist",
    "MNIST/raw/",
    "CC BY-SA 3.0, as commonly stated",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/",),
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    (5, 0, 4, 1, 9, 2, 1, 3, 1, 4),
)
FASHION = Origin(
    "Fashion-MNIST",
    "fashion-mnist",
    "FashionMNIST/raw/",
    "MIT",
    "https://github.com/zalandoresearch/fashion-mnist",
    ("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",),
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    (9, 0, 0, 3, 0, 2, 7, 2, 5, 5),
)
DIGIT = Attribute("digit", "categorical", tuple("0123456789"), source="the digit that was asked for")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
GARMENT = Attribute("garment", "categorical", GARMENTS, source="the shop's catalogue")


class Pictures(NamedTuple):
    """One official part: ``images`` uint8 [N, 28, 28], ``labels`` uint8 [N], in the order of its files."""

    images: Bytes
    labels: Bytes


class MNIST:
    """MNIST: 70,000 handwritten digits of 28×28 pixels, binarised anew at each look.

    The official 10,000 test pictures are the test split; ``val`` of the 60,000 training pictures are the
    validation split. A hash of each picture's place in its file decides which, as it does the order of each
    split: a prefix is a fair sample, and the first training pictures are the same for each ``val``.
    """

    origin = DIGITS

    def __init__(self, *, val: Annotated[int, Ge(1), Le(30_000)] = 1000) -> None:
        self.val = val
        self.schema = Schema((1, SIDE, SIDE), "bernoulli", (DIGIT,))

    def locate(self) -> Sequence[Path]:
        """Return the four files: pictures and labels of the training part, then of the test part."""
        origin = self.origin
        return [find(origin.title, origin.folder, origin.names(name), origin.remedy) for name in FILES]

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the unpacked contents of the four files, and of the options."""
        digest = hashlib.sha256(json.dumps([VERSION, self.val]).encode())
        for values in (*self._parts["train"], *self._parts["t10k"]):
            digest.update(hashlib.sha256(values.data).digest())
        return digest.hexdigest()

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return the first pictures of one part, all of them unless ``limit`` says otherwise."""
        part: Part = "t10k" if name == "test" else "train"
        images, labels = self._parts[part]
        order = lasting_order(f"{self.origin.folder}/{part}", len(labels))
        places = {"train": order[: -self.val], "val": order[-self.val :], "test": order}
        chosen = places[name][:limit]
        return Split(
            torch.from_numpy(images[chosen, None]),
            torch.from_numpy(labels[chosen, None].astype(np.float32)),
            torch.from_numpy(chosen + FIRST[part]),
        )

    @cached_property
    def _parts(self) -> dict[Part, Pictures]:
        origin = self.origin
        for file in FILES:
            provide(origin.title, origin.folder, origin.names(file), origin.published(file))
        train_images, train_labels, test_images, test_labels = self.locate()
        train = _read(train_images, train_labels, origin)
        _refuse_another(train_labels, train.labels, origin)
        if len(train.labels) <= self.val:
            raise DataError(
                f"{train_images} holds {len(train.labels)} pictures: val = {self.val} leaves none to train on. "
                "Ask for less."
            )
        return {"train": train, "t10k": _read(test_images, test_labels, origin)}


class FashionMNIST(MNIST):
    """Fashion-MNIST: 70,000 garments of 28×28 pixels in 256 grey levels, which are read as such, not binarised.

    Splits and their order are made as those of MNIST.
    """

    origin = FASHION

    def __init__(self, *, val: Annotated[int, Ge(1), Le(30_000)] = 1000) -> None:
        self.val = val
        self.schema = Schema((1, SIDE, SIDE), "gaussian", (GARMENT,))


def _read(where: Path, named: Path, origin: Origin) -> Pictures:
    images = read_idx(where, (SIDE, SIDE), origin.remedy)
    labels = read_idx(named, (), origin.remedy)
    if len(images) != len(labels):
        raise DataError(
            f"{where} holds {len(images)} pictures, {named} {len(labels)} labels. {origin.remedy}"
        )
    if labels.max() >= CLASSES:
        place = int(labels.argmax())
        raise DataError(
            f"{named}: label {place} is {labels[place]}; {origin.title} has 0 to 9. {origin.remedy}"
        )
    return Pictures(images, labels)


def _refuse_another(path: Path, labels: Bytes, origin: Origin) -> None:
    """Refuse the files of another set, which bear the same names."""
    for other in (DIGITS, FASHION):
        if other is not origin and tuple(labels[: len(other.first)].tolist()) == other.first:
            raise DataError(
                f"{path} is of {other.title}, not of {origin.title}. Give each a folder of its own: "
                f"'{other.folder}' and '{origin.folder}'."
            )
