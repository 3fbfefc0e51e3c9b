"""MNIST: handwritten digits (LeCun, Cortes & Burges), read from the idx files as they are published."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Le
from numpy.typing import NDArray

from lvmbench import Attribute, DataError, Schema, Split
from lvmbench_images.places import find

Bytes = NDArray[np.uint8]
Part = Literal["train", "t10k"]
SplitName = Literal["train", "val", "test"]

VERSION = 1  # of what this reader makes of the files
SIDE = 28
MAX_COUNT = 100_000  # items in a file: MNIST has 60,000, a gzip bomb claims more
FIRST: dict[Part, int] = {"train": 0, "t10k": 1_000_000}  # added to a place in a file to give its row
PLACES = ("", "MNIST/raw/")  # the second is where torchvision keeps the files
REMEDY = (
    "Get it from https://ossci-datasets.s3.amazonaws.com/mnist/ (licence CC BY-SA 3.0, as commonly stated) and "
    "name its folder by --data-root or LVMBENCH_DATA."
)
DIGIT = Attribute("digit", "categorical", tuple("0123456789"), source="the digit that was asked for")


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

    def __init__(self, *, val: Annotated[int, Ge(1), Le(30_000)] = 1000) -> None:
        self.val = val
        self.schema = Schema((1, SIDE, SIDE), "bernoulli", (DIGIT,))

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
        order = lasting_order(part, len(labels))
        places = {"train": order[: -self.val], "val": order[-self.val :], "test": order}
        chosen = places[name][:limit]
        return Split(
            torch.from_numpy(images[chosen, None]),
            torch.from_numpy(labels[chosen, None].astype(np.float32)),
            torch.from_numpy(chosen + FIRST[part]),
        )

    @cached_property
    def _parts(self) -> dict[Part, Pictures]:
        parts = {part: _read(part) for part in FIRST}
        count = len(parts["train"].labels)
        if count <= self.val:
            where = _find("train-images-idx3-ubyte")
            raise DataError(
                f"{where} holds {count} pictures: val = {self.val} leaves none to train on. Ask for less."
            )
        return parts


def lasting_order(part: Part, count: int) -> NDArray[np.int64]:
    """Return places 0 to count - 1 by the hash of each, which no other place has a say in: [count]."""
    salt = int.from_bytes(hashlib.sha256(f"mnist/{part}".encode()).digest()[:8], "big")
    z = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    # the finaliser of splitmix64, a bijection: there are no ties
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)))


def read_idx(path: Path, shape: tuple[int, ...]) -> Bytes:
    """Return the items of an idx file, gzipped where its name says so: uint8 [N, *shape].

    Raises:
        DataError: if the file is damaged, or its header announces something else than is there or is wanted.
    """
    try:
        with _open(path) as file:
            count = parse_header(file.read(8 + 4 * len(shape)), path, shape)
            size = count * math.prod(shape)
            content = file.read(size + 1)  # one more would be too many, and reaching the end checks the gzip
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Fetch it again.") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path} announces {count} items, {size} bytes; {found} follow. Fetch it again.")
    return np.frombuffer(content, np.uint8).reshape(count, *shape)


def parse_header(head: bytes, path: Path, shape: tuple[int, ...]) -> int:
    """Return how many items of this shape an idx header of 8 + 4·len(shape) bytes announces.

    Raises:
        DataError: if it is no such header.
    """
    if len(head) != 8 + 4 * len(shape):
        raise DataError(f"{path} ends within its header, after {len(head)} bytes. Fetch it again.")
    magic, count, *found = (int(number) for number in np.frombuffer(head, ">u4"))
    expected = 0x0801 + len(shape)  # unsigned bytes, and the number of axes
    if magic != expected:
        raise DataError(
            f"{path} starts with {magic}; an idx file of its name starts with {expected}. {REMEDY}"
        )
    if tuple(found) != shape:
        sides = "×".join(map(str, found))
        raise DataError(f"{path} holds pictures of {sides} pixels; MNIST has {SIDE}×{SIDE}. {REMEDY}")
    if not 1 <= count <= MAX_COUNT:
        raise DataError(f"{path} announces {count} items; 1 to {MAX_COUNT} are read. {REMEDY}")
    return count


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _read(part: Part) -> Pictures:
    where, named = _find(f"{part}-images-idx3-ubyte"), _find(f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(where, (SIDE, SIDE)), read_idx(named, ())
    if len(images) != len(labels):
        raise DataError(f"{where} holds {len(images)} pictures, {named} {len(labels)} labels. {REMEDY}")
    if labels.max() > 9:
        place = int(labels.argmax())
        raise DataError(f"{named}: label {place} is {labels[place]}; digits are 0 to 9. {REMEDY}")
    return Pictures(images, labels)


def _find(name: str) -> Path:
    names = [f"{place}{name}{ending}" for place in PLACES for ending in ("", ".gz")]
    return find("MNIST", "mnist", names, REMEDY)
