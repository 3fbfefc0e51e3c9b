"""FairFace: photographs of faces, balanced in race (Kärkkäinen & Joo 2021, arXiv 1908.04913)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvmbench import DataError, Schema, Split, cached
from lvmbench_images.archive import Archive, Folder, Member, Zip, candidates
from lvmbench_images.decode import decode, halve
from lvmbench_images.fairface_labels import ATTRIBUTES, Row, read_labels

VERSION = 1  # of what this reader makes of the files
SIDE = 64
VAL_SHARE = 0.1  # of the training pictures, about 2,000 of 20,000
ARCHIVES = ("fairface_64_q92.zip", "fairface-img-margin025-trainval.zip")
LABELS = {
    part: (f"fairface_label_{part}_subset.csv", f"fairface_label_{part}.csv") for part in ("train", "val")
}
REMEDY = (
    "Get it from https://github.com/joojs/fairface (licence CC BY 4.0) and name its folder by --data-root or "
    "LVMBENCH_DATA."
)
FIRST = {"train": 0, "val": 1_000_000}  # added to a picture's number to give its row

SplitName = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Picture:
    """A labelled picture: its name in the archive, its row, its labels."""

    name: str
    row: int
    labels: Row


class FairFace:
    """FairFace at ``size`` pixels: the 25,000-picture subset at 64×64, or the original files.

    The official validation pictures are the test split. Our validation split is a tenth of the training
    pictures, chosen by a hash of their names, as is the order of each split: a prefix is a fair sample. A
    training picture that equals a test picture byte for byte is left out, and so is a second copy within the
    training pictures; ``dropped`` counts them. Pictures of another size are resized to 64 with a Lanczos
    filter; 32 averages four pixels.
    """

    def __init__(self, *, size: Literal[32, 64] = 64) -> None:
        self.size = size
        self.schema = Schema((3, size, size), "gaussian", ATTRIBUTES)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the labels, of every picture's name, size and checksum, and of the options."""
        digest = hashlib.sha256(json.dumps([VERSION, self.size]).encode())
        for path in self._label_files.values():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        for member in self._members:
            digest.update(f"{member.name}\0{member.size}\0{member.crc}\n".encode())
        return digest.hexdigest()

    @property
    def dropped(self) -> int:
        """How many training pictures are left out as copies of others."""
        return len(self._copies)

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return the first pictures of one part, all of them unless ``limit`` says otherwise."""
        pictures = self._pictures[name]

        def make(positions: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(self._decoded([pictures[i].name for i in positions]))

        count = len(pictures) if limit is None else min(limit, len(pictures))
        images = cached(f"fairface-{self.fingerprint[:16]}/{name}", count, make)
        labels = torch.tensor([p.labels for p in pictures[:count]], dtype=torch.float32)
        rows = torch.tensor([p.row for p in pictures[:count]], dtype=torch.int64)
        return Split(images, labels.reshape(count, len(ATTRIBUTES)), rows)

    @cached_property
    def _archive(self) -> Archive:
        places = candidates("fairface")
        for folder in places:
            for name in ARCHIVES:
                if (folder / name).is_file():
                    return Zip(folder / name)
            if (folder / "train").is_dir() and (folder / "val").is_dir():
                return Folder(folder)
        raise _missing(ARCHIVES[0], places)

    @cached_property
    def _label_files(self) -> Mapping[str, Path]:
        return {part: _first_file(names) for part, names in LABELS.items()}

    @cached_property
    def _members(self) -> list[Member]:
        return self._archive.members()

    @cached_property
    def _copies(self) -> frozenset[str]:
        """The training pictures that a test picture or an earlier training picture equals byte for byte."""
        alike: dict[tuple[int, int], list[str]] = {}
        for member in self._members:
            alike.setdefault((member.size, member.crc), []).append(member.name)
        suspects = [name for names in alike.values() if len(names) > 1 for name in names]
        suspects.sort(key=lambda name: (name.startswith("train/"), _number(name)))
        seen: set[bytes] = set()
        copies: set[str] = set()
        for name, content in zip(suspects, self._archive.read(suspects), strict=True):
            if content in seen and name.startswith("train/"):
                copies.add(name)
            seen.add(content)
        return frozenset(copies)

    @cached_property
    def _pictures(self) -> Mapping[SplitName, list[Picture]]:
        """The pictures of each split that have both a label and a file, in their lasting order."""
        present = {member.name for member in self._members} - self._copies
        labelled = {
            part: _in_order(part, {n: row for n, row in read_labels(path).items() if n in present})
            for part, path in self._label_files.items()
        }
        for part, pictures in labelled.items():
            if not pictures:
                raise DataError(
                    f"no picture of {self._archive.path} is labelled in {self._label_files[part]}."
                )
        val = [p for p in labelled["train"] if _draw(p.name) < VAL_SHARE]
        return {"train": labelled["train"][len(val) :], "val": val, "test": labelled["val"]}

    def _decoded(self, names: Sequence[str]) -> NDArray[np.uint8]:
        images = np.empty((len(names), 3, SIDE, SIDE), dtype=np.uint8)
        for i, (name, content) in enumerate(zip(names, self._archive.read(names), strict=True)):
            images[i] = decode(content, f"{self._archive.path}: '{name}'", SIDE)
        return images if self.size == SIDE else halve(images)


def _in_order(part: str, labels: Mapping[str, Row]) -> list[Picture]:
    return [Picture(name, FIRST[part] + _number(name), labels[name]) for name in sorted(labels, key=_draw)]


def _draw(name: str) -> float:
    """Return the lasting random number of a picture in [0, 1): it decides its split and its place there."""
    return int.from_bytes(hashlib.sha256(f"fairface/{name}".encode()).digest()[:6], "big") / 2**48


def _number(name: str) -> int:
    found = re.fullmatch(r"(?:train|val)/(\d{1,6})\.jpe?g", name)
    if found is None:
        raise DataError(f"FairFace: '{name}' is not a name like 'train/1.jpg' or 'val/1.jpg'.")
    return int(found[1])


def _first_file(names: Iterable[str]) -> Path:
    names, places = list(names), candidates("fairface")
    for path in (folder / name for folder in places for name in names):
        if path.is_file():
            return path
    raise _missing(names[0], places)


def _missing(name: str, places: Iterable[Path]) -> DataError:
    where = " and ".join(str(place.resolve()) for place in places)
    return DataError(f"FairFace: no file '{name}' in {where}. {REMEDY}")
