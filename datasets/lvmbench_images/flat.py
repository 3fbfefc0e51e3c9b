"""An archive whose pictures are known by their file names, whatever folders they lie in.

A set whose names are numbers or labels is then the same rows in the same order, zipped, unpacked, or in the folder
within a folder that some copies have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from lvmbench import DataError, Finding
from lvmbench_images.archive import Archive, Member, plain


class Flat:
    """The pictures of an archive whose file names match a pattern, told in words by ``form``."""

    def __init__(self, inner: Archive, pattern: re.Pattern[str], form: str) -> None:
        self.path = inner.path
        self._inner, self._pattern, self._form = inner, pattern, form

    @property
    def signature(self) -> str:
        """Tell the state of the files."""
        return f"flat {self._inner.signature}"

    def names(self) -> list[str]:
        """Return the file names, in their order."""
        return sorted(self._places)

    def members(self) -> list[Member]:
        """Return the pictures by their file names, in the order of these."""
        known = {full: name for name, full in self._places.items()}
        found = (replace(m, name=known[m.name]) for m in self._inner.members() if m.name in known)
        return sorted(found, key=lambda member: member.name)

    def findings(self) -> list[Finding]:
        """Return what is wrong with the names: of other forms, or in several folders."""
        return [*self._inner.findings(), *self._strays()]

    def read(self, name: str) -> bytes:
        """Return the contents of a file.

        Raises:
            DataError: if it cannot be read, or is there no more.
        """
        if name not in self._places:
            raise DataError(f"{self.path}: '{name}' is there no more.")
        return self._inner.read(self._places[name])

    @cached_property
    def _places(self) -> dict[str, str]:
        """Where each file name lies: of several places, the first."""
        places: dict[str, str] = {}
        for full in self._inner.names():
            if self._pattern.fullmatch(_file_name(full)):
                places.setdefault(_file_name(full), full)
        return places

    def _strays(self) -> Iterator[Finding]:
        for full in self._inner.names():
            where, name = f"{self.path}: '{full}'", _file_name(full)
            if name not in self._places:
                yield Finding("name of another form", where, "left out", f"not {self._form}")
            elif self._places[name] != full:
                yield Finding("name in two folders", where, "left out", f"'{self._places[name]}' is read")


def _file_name(name: str) -> str:
    return plain(name).rpartition("/")[2]
