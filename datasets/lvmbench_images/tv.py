"""Data sets that torchvision reads: arrays of pictures with one class each.

Left out: CIFAR-10 and CIFAR-100, which are pickles; EMNIST, whose pictures are transposed; folders of picture files,
which are read from a table; and what has a reader of its own here. Fetching is torchvision's: some of its addresses
are http, and what comes is kept only if its checksum is right. Not tried on the published files.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lvmbench import Attribute, DataError, Schema, Split, cached
from lvmbench_images.fetch import HINT, is_allowed
from lvmbench_images.order import lasting_order
from lvmbench_images.places import OPTION, candidates, find

SplitName = Literal["train", "val", "test"]
Part = Literal["train", "test"]

VERSION = 1  # of what is made of the files
HELD_OUT = 10  # one training picture in so many is a validation picture
FIRST: dict[Part, int] = {"train": 0, "test": 1_000_000}  # added to a place in a file to give its row
DIGITS = tuple("0123456789")
BY_FLAG: Mapping[Part, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
BY_NAME: Mapping[Part, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}


@dataclass(frozen=True)
class Reader:
    """A class of torchvision: its name, how it is asked for a part, the files it reads, and what the pictures are."""

    kind: str
    parts: Mapping[Part, dict[str, Any]]
    files: tuple[str, ...]
    channels: Literal[1, 3]
    classes: tuple[str, ...]
    labels: str
    licence: str


READERS = {
    "kmnist": Reader(
        "KMNIST",
        BY_FLAG,
        tuple(
            f"KMNIST/raw/{part}-{what}"
            for part in ("train", "t10k")
            for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ),
        1,
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        "targets",
        "CC BY-SA 4.0",
    ),
    "svhn": Reader(
        "SVHN",
        BY_NAME,
        ("train_32x32.mat", "test_32x32.mat"),
        3,
        DIGITS,
        "labels",
        "for non-commercial use",
    ),
    "usps": Reader("USPS", BY_FLAG, ("usps.bz2", "usps.t.bz2"), 1, DIGITS, "targets", "none stated"),
    "stl10": Reader(
        "STL10",
        BY_NAME,
        tuple(
            f"stl10_binary/{name}.bin" for name in ("train_X", "train_y", "test_X", "test_y", "unlabeled_X")
        ),
        3,
        ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        "labels",
        "that of ImageNet, from which it comes",
    ),
}


class Pictures(NamedTuple):
    """An official part: images uint8 [N, C, H, W] as they are in the files, and labels int64 [N]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Torchvision:
    """One of torchvision's data sets by its name, at ``size`` pixels, in grey levels or colours.

    The official test pictures are the test split; a tenth of the training pictures, by a hash of their places, is the
    validation split. Unlabelled and extra pictures are not read.
    """

    def __init__(
        self, *, name: Literal["kmnist", "svhn", "usps", "stl10"], size: Literal[28, 32, 64, 96] = 32
    ) -> None:
        self.name, self.size, self.reader = name, size, READERS[name]
        self.title = f"{name}-{size}"
        what = "digit" if self.reader.classes == DIGITS else "class"
        attribute = Attribute(what, "categorical", self.reader.classes, source="the data set's own")
        self.schema = Schema((self.reader.channels, size, size), "gaussian", (attribute,))

    def locate(self) -> Sequence[Path]:
        """Return the files that torchvision reads."""
        kind = self.reader.kind
        remedy = (
            f"Get it as torchvision.datasets.{kind} does (licence: {self.reader.licence}) {OPTION} {HINT}"
        )
        return [find(kind, self.name, [file], remedy) for file in self.reader.files]

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of all pictures and labels, and of the options."""
        digest = hashlib.sha256(json.dumps([VERSION, self.name, self.size]).encode())
        for part in FIRST:
            for values in self._parts[part]:
                digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return the first pictures of one part, all of them unless ``limit`` says otherwise."""
        part: Part = "test" if name == "test" else "train"
        images, labels = self._parts[part]
        order = lasting_order(f"{self.name}/{part}", len(labels))
        held = max(1, len(order) // HELD_OUT)
        whole = {"val": order[:held], "train": order[held:], "test": order}[name]
        chosen = whole[:limit]
        pictures = cached(
            f"torchvision-{self.title}-{self.fingerprint[:16]}/{name}",
            len(chosen),
            lambda places: self._resized(images[whole[places]]),
        )
        return Split(
            pictures,
            torch.from_numpy(labels[chosen, None].astype(np.float32)),
            torch.from_numpy(chosen + FIRST[part]),
        )

    def _resized(self, images: NDArray[np.uint8]) -> Tensor:
        """Return pictures at the size that is asked for: [K, C, H, W] -> uint8 [K, C, size, size]."""
        made = np.empty((len(images), *self.schema.shape), dtype=np.uint8)
        for place, image in enumerate(images):
            for channel, values in enumerate(image):
                picture = Image.fromarray(np.ascontiguousarray(values))
                scaled = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
                made[place, channel] = np.asarray(scaled)
        return torch.from_numpy(made)

    @cached_property
    def _parts(self) -> dict[Part, Pictures]:
        self._provide()
        file, home = self.reader.files[0], self.locate()[0]
        root = home.parents[len(Path(file).parts) - 1]
        return {part: self._read(root, part) for part in FIRST}

    def _read(self, root: Path, part: Part) -> Pictures:
        if (root / self.reader.kind / "processed").exists():  # torchvision would unpickle what lies there
            raise DataError(
                f"{root / self.reader.kind / 'processed'}: holds pickles, which are never read. Remove it."
            )
        try:
            found = self._asked(root, part, download=False)
            images = np.asarray(found.data)
            labels = np.asarray(getattr(found, self.reader.labels), dtype=np.int64)
        except Exception as error:  # torchvision's readers check little: a damaged file raises anything
            told = str(error) or type(error).__name__
            raise DataError(
                f"{root}: torchvision cannot read {self.reader.kind} ({told}). Fetch it again."
            ) from error
        images = images[:, None] if images.ndim == 3 else images
        whole = images.ndim == 4 and images.shape[1] == self.reader.channels and images.dtype == np.uint8
        if not whole or len(images) != len(labels) or not len(labels):
            told = f"pictures {images.shape}, labels {labels.shape}"
            raise DataError(f"{root}: {self.reader.kind} is not as it is published: {told}. Fetch it again.")
        if labels.min() < 0 or labels.max() >= len(self.reader.classes):
            raise DataError(
                f"{root}: {self.reader.kind} has labels {labels.min()} to {labels.max()}. Fetch it again."
            )
        return Pictures(images, labels)

    def _asked(self, root: Path, part: Part, download: bool) -> Any:
        from torchvision import datasets

        return getattr(datasets, self.reader.kind)(root, download=download, **self.reader.parts[part])

    def _provide(self) -> None:
        """Have torchvision fetch what is missing, and check it, where that is allowed."""
        if not is_allowed():
            return
        try:
            self.locate()
        except DataError:
            self._download(candidates(self.name)[0])

    def _download(self, target: Path) -> None:
        """Put the files into a folder once all of them are there and whole."""
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".fetched-", dir=target) as home:
                for part in FIRST:
                    self._asked(Path(home), part, download=True)
                for item in Path(home).iterdir():
                    item.replace(target / item.name)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{self.reader.kind}: torchvision cannot fetch it into {target} ({error})."
            ) from error
