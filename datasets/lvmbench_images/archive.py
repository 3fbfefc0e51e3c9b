"""Pictures in a zip or in a folder, told apart by nothing but speed.

Files come from outside: what is missing, damaged or absurdly large is a ``DataError`` that names it.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lvmbench import DataError

MAX_BYTES = 5_000_000  # no picture of a face data set comes near it; a zip bomb does


@dataclass(frozen=True)
class Member:
    """A file in an archive: equal pictures have equal sizes and checksums."""

    name: str
    size: int
    crc: int


class Archive(Protocol):
    """Named files that can be listed and read."""

    path: Path

    def members(self) -> list[Member]:
        """Return the JPEG files, in the order of their names."""
        ...

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the contents of some files."""
        ...


def candidates(folder: str) -> list[Path]:
    """Return where files of a data set may lie: ``<root>/<folder>`` and ``<root>`` itself.

    The root is ``LVMBENCH_DATA`` (what ``--data-root`` sets), else ``datasets/data``.
    """
    root = Path(os.environ.get("LVMBENCH_DATA") or Path("datasets") / "data")
    return [root / folder, root]


class Zip:
    """A zip file; its members are never unpacked to disk, its directory is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> list[Member]:
        """Return the JPEG files from the central directory: nothing is decompressed."""
        infos = (info for info in self._file.infolist() if _is_jpeg(info.filename))
        return sorted((Member(i.filename, i.file_size, i.CRC) for i in infos), key=lambda member: member.name)

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the contents of some files, their checksums verified."""
        return [self._member(name) for name in names]

    @cached_property
    def _file(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} is not a readable zip file ({error}). Fetch it again.") from error

    def _member(self, name: str) -> bytes:
        if self._file.getinfo(name).file_size > MAX_BYTES:
            raise DataError(f"{self.path}: '{name}' claims more than {MAX_BYTES} bytes: no face is so large.")
        try:
            return self._file.read(name)
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{self.path}: '{name}' is damaged ({error}). Fetch the file again.") from error


class Folder:
    """A folder of unpacked files, with the same names that they had in the zip."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> list[Member]:
        """Return the JPEG files below the folder; each is read once for its checksum."""
        names = sorted(p.relative_to(self.path).as_posix() for p in self.path.glob("*/*") if _is_jpeg(p.name))
        contents = ((name, self._member(name)) for name in names)
        return [Member(name, len(content), zlib.crc32(content)) for name, content in contents]

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the contents of some files."""
        return [self._member(name) for name in names]

    def _member(self, name: str) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise DataError(f"{self.path / name} cannot be read ({error.strerror}).") from error
        if len(content) > MAX_BYTES:
            raise DataError(f"{self.path / name} holds more than {MAX_BYTES} bytes: no face is so large.")
        return content


def _is_jpeg(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg"))
