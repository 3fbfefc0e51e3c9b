"""Pictures in a zip or in a folder, told apart by nothing but speed.

Files come from outside: what is missing, damaged or absurdly large is a ``DataError`` that names it. A zip is never
unpacked to disk.
"""

from __future__ import annotations

import os
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from lvmbench import DataError, Finding
from lvmbench_images.walk import is_hidden, is_inside, is_picture, walk

MAX_BYTES = 100_000_000  # no picture comes near it; a bomb does
PIECE = 1 << 20  # bytes read at a time
LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # of a member: its mark, the lengths of its name and of the extra field
STORED, DEFLATED = 0, 8
ENCRYPTED = 0x1
UTF8 = 0x800  # set where the name of a member says that it is UTF-8


@dataclass(frozen=True)
class Member:
    """A picture file in an archive: equal pictures have equal sizes and checksums; ``fault`` says why it has none."""

    name: str
    size: int
    crc: int
    fault: str = ""


class Damaged(DataError):
    """A member of a zip that is not what the zip says, and will not be until the zip is another."""


class Archive(Protocol):
    """Named files that can be listed, and read by several threads at once."""

    path: Path

    @property
    def signature(self) -> str:
        """Tell the state of the files without reading them: their names, sizes and times."""
        ...

    def names(self) -> list[str]:
        """Return the names of the picture files in their order, without reading any."""
        ...

    def members(self) -> list[Member]:
        """Return the picture files, in the order of their names."""
        ...

    def findings(self) -> list[Finding]:
        """Return what is wrong with the names in it."""
        ...

    def read(self, name: str) -> bytes:
        """Return the contents of a file."""
        ...


def archive(path: Path) -> Archive:
    """Return what reads the pictures of a zip file or a folder."""
    return Folder(path) if path.is_dir() else Zip(path)


def plain(name: str) -> str:
    """Return a name as it is compared: two ways to write one letter, or one path, are one."""
    return unicodedata.normalize("NFC", name.replace("\\", "/")).removeprefix("./")


class Zip:
    """A zip file; its directory is read once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: zipfile.ZipFile | None = None
        self._opening = threading.Lock()

    @property
    def signature(self) -> str:
        """Tell the size and the time of the file."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror}).") from error
        return f"{self.path.resolve()} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"

    def names(self) -> list[str]:
        """Return the names of the pictures, in their order."""
        return sorted(self._infos)

    def members(self) -> list[Member]:
        """Return the pictures; each is read once, to see whether it is what the directory says."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._member, self.names()))

    def findings(self) -> list[Finding]:
        """Return the names that would lie outside of a folder, and those that stand in the file twice."""
        names = [_name(info) for info in self._file.infolist()]
        outside = [
            Finding("name that leaves the folder", self._where(n), "left out")
            for n in names
            if not is_inside(n)
        ]
        twice = (name for name, count in Counter(names).items() if count > 1 and is_picture(name))
        told = "the last one is read"
        return outside + [Finding("name twice in a zip", self._where(n), "left out", told) for n in twice]

    def others(self) -> list[str]:
        """Return the names of the files that are no pictures, such as tables."""
        return sorted(self._others)

    def read(self, name: str) -> bytes:
        """Return the contents of a file, its checksum verified.

        Raises:
            Damaged: if it is encrypted, of an uncommon compression, larger than any picture, or not what the directory
                says.
            DataError: if the file cannot be read at this moment.
        """
        info = self._infos[name] if name in self._infos else self._others[name]
        if fault := _fault(info):
            raise self._damaged(name, fault)
        content = self._inflated(info, self._raw(info))
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise self._damaged(name, "does not agree with its checksum")
        return content

    @property
    def _file(self) -> zipfile.ZipFile:
        with self._opening:  # two threads must not open two, of which one would be closed again
            if self._opened is None:
                try:
                    self._opened = zipfile.ZipFile(self.path)
                except Exception as error:  # a damaged directory makes zipfile raise anything
                    told = f"is not a readable zip file ({error})"
                    raise DataError(f"{self.path} {told}. Fetch it again.") from error
            return self._opened

    @cached_property
    def _infos(self) -> dict[str, zipfile.ZipInfo]:
        return {name: i for i in self._file.infolist() if is_picture(name := _name(i))}

    @cached_property
    def _others(self) -> dict[str, zipfile.ZipInfo]:
        infos = {_name(info): info for info in self._file.infolist()}
        return {n: i for n, i in infos.items() if is_inside(n) and not is_picture(n) and not is_hidden(n)}

    def _raw(self, info: zipfile.ZipInfo) -> bytes:
        """Return the bytes of a member as they are stored; no position in the file is shared between threads."""
        header = self._bytes(info, LOCAL_HEADER.size, info.header_offset)
        if len(header) < LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise self._damaged(_name(info), "is not where the directory of the file says")
        _, name, extra = LOCAL_HEADER.unpack(header)
        start = info.header_offset + LOCAL_HEADER.size + name + extra
        return self._bytes(info, info.compress_size, start)

    def _bytes(self, info: zipfile.ZipInfo, count: int, start: int) -> bytes:
        assert self._file.fp is not None
        try:
            return os.pread(self._file.fp.fileno(), count, start)
        except OSError as error:
            raise DataError(f"{self._where(_name(info))} cannot be read ({error.strerror}).") from error

    def _member(self, name: str) -> Member:
        info, fault = self._infos[name], ""
        try:
            self.read(name)
        except Damaged as error:
            fault = str(error)
        return Member(name, info.file_size, info.CRC, fault)

    def _inflated(self, info: zipfile.ZipInfo, raw: bytes) -> bytes:
        if info.compress_type == STORED:
            return raw
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, info.file_size + 1)
        except zlib.error as error:
            raise self._damaged(_name(info), f"is damaged ({error})") from error

    def _damaged(self, name: str, told: str) -> Damaged:
        return Damaged(f"{self._where(name)} {told}. Fetch the file again.")

    def _where(self, name: str) -> str:
        return f"{self.path}: '{name}'"


class Folder:
    """A folder of files, with the same names that they would have in a zip."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def signature(self) -> str:
        """Tell names, sizes and times of all pictures below the folder."""
        lines = (
            f"{name} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"  # the last: who may read it
            for name, found in sorted(self._files.items())
        )
        found = (f"{finding.what} {finding.where}" for finding in self.findings())
        return "\n".join([str(self.path.resolve()), *lines, *found])

    def names(self) -> list[str]:
        """Return the names of the pictures, in their order."""
        return sorted(self._files)

    def members(self) -> list[Member]:
        """Return the pictures below the folder; each is read once for its checksum, whole or not at all."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(self._member, self.names()))

    def findings(self) -> list[Finding]:
        """Return the folders and links in it that cannot be followed."""
        return list(self._walked[1])

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Raises:
            DataError: if it cannot be read, or is larger than any picture.
        """
        try:
            with (self.path / name).open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise DataError(f"{self.path / name} cannot be read ({error.strerror}).") from error
        if len(content) > MAX_BYTES:
            raise DataError(
                f"{self.path / name} holds more than {MAX_BYTES:,} bytes, more than any picture has."
            )
        return content

    @property
    def _files(self) -> dict[str, os.stat_result]:
        return self._walked[0]

    @cached_property
    def _walked(self) -> tuple[dict[str, os.stat_result], list[Finding]]:
        files: dict[str, os.stat_result] = {}
        found: list[Finding] = []
        try:
            os.scandir(self.path).close()
        except OSError as error:
            raise DataError(f"{self.path} cannot be read ({error.strerror}).") from error
        for name, what in walk(self.path, ""):
            if isinstance(what, os.stat_result):
                files[name] = what
            else:
                found.append(what)
        return files, found

    def _member(self, name: str) -> Member:
        """Return a picture with its checksum, for which it is read in pieces.

        Raises:
            DataError: if it cannot be read at this moment: it may be another time.
        """
        size, crc = self._files[name].st_size, 0
        if size > MAX_BYTES:
            return Member(name, size, 0, f"holds {size:,} bytes, more than any picture has")
        try:
            with (self.path / name).open("rb") as file:
                while piece := file.read(PIECE):
                    crc = zlib.crc32(piece, crc)
        except PermissionError as error:
            return Member(name, size, 0, f"cannot be read ({error.strerror})")
        except OSError as error:
            raise DataError(f"{self.path / name} cannot be read ({error.strerror}).") from error
        return Member(name, size, crc)


def _fault(info: zipfile.ZipInfo) -> str:
    """Return why a member is not read, whatever its bytes are; nothing where it is."""
    if (claimed := max(info.file_size, info.compress_size)) > MAX_BYTES:
        return f"claims {claimed:,} bytes, more than any picture has"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in (STORED, DEFLATED):
        return f"is compressed in an uncommon way ({info.compress_type})"
    return ""


def _name(info: zipfile.ZipInfo) -> str:
    """Return the name of a member: UTF-8 where its bytes are that, even if it does not say so, as of a Mac."""
    if info.flag_bits & UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename
