"""Several archives read as one, where they hold the same files in part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from lvmbench import Finding
from lvmbench_images.archive import Archive, Member


class Joined:
    """The pictures of some archives by their names below the folder that is named as the archive is.

    A picture that is in several is read from the first.
    """

    def __init__(self, archives: Sequence[Archive]) -> None:
        self.archives = archives
        self.path = archives[0].path.parent

    @property
    def signature(self) -> str:
        """Tell the state of all archives."""
        return "\n".join(archive.signature for archive in self.archives)

    def names(self) -> list[str]:
        """Return the names of the pictures, in their order."""
        return sorted(self._first)

    def members(self) -> list[Member]:
        """Return the pictures, each once."""
        return [replace(self._first[name][1], name=name) for name in self.names()]

    def findings(self) -> list[Finding]:
        """Return what is wrong with names, and the pictures that are in several archives."""
        return [*(finding for archive in self.archives for finding in archive.findings()), *self._again()]

    def read(self, name: str) -> bytes:
        """Return the contents of a picture."""
        archive, member = self._first[name]
        return archive.read(member.name)

    @cached_property
    def _first(self) -> dict[str, tuple[Archive, Member]]:
        return {name: (archive, member) for name, archive, member in reversed(self._all)}

    @cached_property
    def _all(self) -> list[tuple[str, Archive, Member]]:
        return [
            (member.name.removeprefix(f"{archive.path.stem}/"), archive, member)
            for archive in self.archives
            for member in archive.members()
        ]

    def _again(self) -> Iterator[Finding]:
        for name, archive, member in self._all:
            first, kept = self._first[name]
            if first is archive:
                continue
            equal = (member.size, member.crc) == (kept.size, kept.crc)
            what = "picture in two archives" if equal else "two pictures of one name that differ"
            told = f"the one in {first.path.name} is read"
            yield Finding(what, f"{archive.path}: '{member.name}'", "left out", told)
