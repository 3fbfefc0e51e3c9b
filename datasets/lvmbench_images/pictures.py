"""A data set that is made of picture files: what every reader shares."""

from __future__ import annotations

import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from lvmbench import DataError, Finding, Made, Remark, Schema, Split, kept
from lvmbench_images.album import Album, assemble
from lvmbench_images.archive import Archive, archive
from lvmbench_images.decode import Frame, decode
from lvmbench_images.remembered import remembered
from lvmbench_images.table import Table

SplitName = Literal["train", "val", "test"]
VERSION = 5  # of what is made of files: raised when the same files give other rows


class PictureSet(ABC):
    """A data set of picture files in a zip or a folder, and of a table that says what they show.

    A reader says where its files are (``locate``: the pictures first) and what its tables say (``table``). The
    order of each split is by a hash of the names, so that a prefix is a fair sample and a picture keeps its place when
    others come and go. Pictures are decoded once, into the cache.
    """

    def __init__(
        self,
        name: str,
        schema: Schema,
        frame: Frame,
        *,
        drop_duplicates: bool = False,
        asked: Sequence[Any] = (),
    ) -> None:
        """Take the name, what is known before files are read, and the options that change what is read."""
        self.name, self.frame = name, frame
        self._static, self._drop = schema, drop_duplicates
        self._asked = json.dumps([VERSION, name, drop_duplicates, list(asked)])
        self._read: dict[str, list[Finding]] = {}

    @abstractmethod
    def locate(self) -> Sequence[Path]:
        """Return the zip or folder of pictures, then the tables.

        Raises:
            DataError: if one is missing; says which, where it was looked for, and where to get it.
        """

    @abstractmethod
    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return what the files say of the pictures."""

    def opened(self, pictures: Path) -> Archive:
        """Return what lists and reads the pictures."""
        return archive(pictures)

    def provide(self) -> None:  # noqa: B027
        """Fetch the files that are missing, where that is allowed: a set whose licence forbids it does nothing."""

    @property
    def schema(self) -> Schema:
        """Return the shape of a picture, the family of its pixels, the attributes."""
        return self._static

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the pictures' names, sizes and checksums, of all that is said of them, and of the options."""
        asked = [VERSION, repr(self.frame), self.album.digest()]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    @property
    def findings(self) -> Sequence[Finding]:
        """Return what is wrong with the tables, and with the pictures that were decoded so far."""
        return (*self.album.findings, *(finding for found in self._read.values() for finding in found))

    def files_of_rows(self) -> Mapping[int, tuple[str, str]]:
        """Return by the number of each row the name of its picture, and what equal files have in common."""
        album = self.album
        contents = [f"{size} {crc}" for size, crc in zip(album.sizes, album.crcs, strict=True)]
        return dict(zip(album.rows.tolist(), zip(album.names, contents, strict=True), strict=True))

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return the first pictures of one part that can be read, all of them unless ``limit`` says otherwise.

        Raises:
            DataError: if it has pictures and none can be read.
        """
        album, order = self.album, self.album.order(name)
        count = len(order) if limit is None else min(limit, len(order))
        # another Pillow may decode in another way; the checksums of the cache tell of all else
        content = f"{VERSION} {PIL.__version__} {self.frame} {album.pictures_digest(name)}"
        found = kept(
            f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:16]}/{name}",
            count,
            len(order),
            lambda places: self._made(order, places),
            probes=0,
            parallel=True,
        )
        self._read[name] = self._findings(order, found.remarks, found.trouble)
        if count and not len(found.places):
            raise DataError(f"{self.name}: no picture of the {name} split can be read, of {len(order):,}.")
        chosen = order[found.places]
        groups = None if album.identities is None else torch.from_numpy(album.identities[chosen])
        images = found.images.reshape(len(chosen), *self.frame.shape)
        return Split(
            images, torch.from_numpy(album.labels[chosen]), torch.from_numpy(album.rows[chosen]), groups
        )

    @cached_property
    def album(self) -> Album:
        """The pictures and what is said of them, read once and remembered until a file changes."""
        files, tables = self._files, self.locate()[1:]
        times = [_time(path) for path in tables]

        def read() -> Album:
            return assemble(self.name, files, self.table(files, tables), drop_duplicates=self._drop)

        return remembered("\n".join([self._asked, files.signature, *times]), read)

    @cached_property
    def _files(self) -> Archive:
        self.provide()
        return self.opened(self.locate()[0])

    def _made(self, order: NDArray[np.int64], places: NDArray[np.int64]) -> Made:
        """Return the decoded pictures of some places of a split, without those that cannot be read."""
        pictures = np.empty((len(places), *self.frame.shape), dtype=np.uint8)
        sound: list[int] = []
        remarks: list[Remark] = []
        for place in places.tolist():
            content = self._content(int(order[place]))
            try:
                pixels, changed = decode(content, self.frame)
            except DataError as error:
                remarks.append((place, "picture that cannot be read", "left out", str(error)))
                continue
            pictures[len(sound)] = pixels
            sound.append(place)
            remarks += [(place, what, "changed", "") for what in changed]
        return Made(pictures[: len(sound)], np.array(sound, dtype=np.int64), remarks)

    def _content(self, i: int) -> bytes:
        """Return the bytes of a picture as the album knows it.

        Raises:
            DataError: if they cannot be read at this moment, or are others: what came of them is not to be kept.
        """
        album, name = self.album, self.album.names[i]
        content = self._files.read(name)
        if (len(content), zlib.crc32(content)) != (album.sizes[i], album.crcs[i]):
            raise DataError(f"{self._files.path}: '{name}' changed while it was read. Run it again.")
        return content

    def _findings(self, order: NDArray[np.int64], remarks: Sequence[Remark], trouble: str) -> list[Finding]:
        found = [
            Finding(what, f"{self._files.path}: '{self.album.names[order[place]]}'", effect, told)
            for place, what, effect, told in remarks
        ]
        return [*found, *([Finding("cache", trouble)] if trouble else [])]


def _time(path: Path) -> str:
    """Tell the state of a file: its place, its size, when it was written and when anything of it changed."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    return f"{path.resolve()} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
