"""Which picture a cell of a table means: with folders or without, with the suffix or without."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from lvmbench_images.archive import plain
from lvmbench_images.walk import SUFFIXES

Same = Callable[["_Name"], object]


@dataclass(frozen=True)
class _Name:
    """A name as it is written, and in parts: without its suffix, in small letters."""

    written: str
    parts: tuple[str, ...]
    suffix: str

    @classmethod
    def of(cls, written: str) -> _Name:
        path = PurePosixPath(plain(written))
        suffix = path.suffix.lower() if path.suffix.lower() in SUFFIXES else ""
        *folders, last = [part for part in path.parts if part != "/"] or [""]
        last = last[: -len(suffix)] if suffix else last
        return cls(str(path), tuple(part.casefold() for part in (*folders, last)), suffix)

    def fits(self, other: _Name) -> bool:
        """Return whether one of two paths is the end of the other."""
        shared = min(len(self.parts), len(other.parts))
        return self.parts[-shared:] == other.parts[-shared:]


class Index:
    """The pictures of an archive, to be found by what tables call them.

    A cell means the pictures whose path ends as the cell does, or that the cell's own path ends with: a table may
    name folders that the archive lacks, or lack those that it has. Suffixes and capitals only decide between several.
    """

    def __init__(self, pictures: Iterable[str]) -> None:
        self._by_last: dict[str, list[_Name]] = {}
        self._whole: dict[str, str] = {}
        self._found: dict[str, list[str]] = {"": []}
        for picture in pictures:
            name = _Name.of(picture)
            self._by_last.setdefault(name.parts[-1], []).append(name)
            self._whole.setdefault(name.written, picture)

    def find(self, cell: str) -> list[str]:
        """Return the pictures that a cell fits best: one, none, or several that it does not tell apart."""
        if cell not in self._found:
            self._found[cell] = self._fitting(_Name.of(cell))
        return self._found[cell]

    def _fitting(self, wanted: _Name) -> list[str]:
        fit = [name for name in self._by_last.get(wanted.parts[-1], ()) if name.fits(wanted)]
        for same in _criteria(wanted, fit) if len(fit) > 1 else ():
            fit = [name for name in fit if same(name)] or fit
        return sorted({self._whole[name.written] for name in fit})


def _criteria(wanted: _Name, fit: list[_Name]) -> list[Same]:
    """Return what decides between several pictures, the strictest first."""
    shared = max((min(len(name.parts), len(wanted.parts)) for name in fit), default=0)
    return [
        lambda name: name.written == wanted.written,
        lambda name: name.parts == wanted.parts,
        lambda name: len(name.parts) >= shared,
        lambda name: name.suffix == wanted.suffix,
        lambda name: PurePosixPath(name.written).name == PurePosixPath(wanted.written).name,
    ]
