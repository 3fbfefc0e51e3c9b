"""The files in which pictures are kept: written as they are made, mapped into memory when they are read.

<name>.pictures   uint8 pictures, one after another in the order of their places; only ever added to
<name>.json       how many places were seen, which of them have a picture, and checksums: written after the pictures,
                  atomically
<name>.lock       held by the process that adds

A process that is killed leaves what its last state tells; the next goes on from there. A name stands for a
content: who makes other pictures, or makes them in another way, takes another name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lvmbench.data import Effect

Bytes: TypeAlias = "NDArray[np.uint8]"
Places: TypeAlias = "NDArray[np.int64]"
Remark = tuple[int, str, Effect, str]  # a place; what it is, what was done, and more

FORMAT = 1
SUMS = 64  # chunks whose checksum is looked at to see whether a file still holds what its name says


@dataclass(frozen=True)
class Made:
    """What came of some places: pictures uint8 [S, C, H, W], the places that gave one [S], remarks on any of them."""

    pictures: Bytes
    places: Places
    remarks: Sequence[Remark] = ()


@dataclass(frozen=True)
class State:
    """What stands in a file: of the places seen, all but those left out; pictures and checksum of each chunk."""

    shape: tuple[int, ...] = ()
    seen: int = 0
    left: tuple[int, ...] = ()
    remarks: tuple[Remark, ...] = ()
    sums: tuple[tuple[int, int], ...] = ()

    @property
    def count(self) -> int:
        """The number of pictures in the file."""
        return self.seen - len(self.left)

    @property
    def places(self) -> Places:
        """The place of each picture in the file: [count]."""
        return np.setdiff1d(np.arange(self.seen), np.array(self.left, dtype=np.int64), assume_unique=True)

    def after(self, asked: Places, made: Made) -> State:
        """Return the state once these places have been seen too."""
        left = np.setdiff1d(asked, made.places, assume_unique=True).tolist()
        return State(
            made.pictures.shape[1:] if len(made.places) else self.shape,
            self.seen + len(asked),
            (*self.left, *left),
            (*self.remarks, *made.remarks),
            (*self.sums, (len(made.places), zlib.crc32(flat(made.pictures)))),
        )


class Shelf:
    """The files of a name."""

    def __init__(self, base: Path) -> None:
        self.file, self.told, self.lock = (
            base.with_name(base.name + suffix) for suffix in (".pictures", ".json", ".lock")
        )

    def state(self) -> State | None:
        """Return what stands in the file, None where nothing does or nothing that can be read."""
        try:
            raw = json.loads(self.told.read_text())
            if raw.pop("format") != FORMAT:
                return None
            remarks = tuple((int(p), str(w), e, str(t)) for p, w, e, t in raw["remarks"])
            left = tuple(int(place) for place in raw["left"])
            sums = tuple((int(count), int(crc)) for count, crc in raw["sums"])
            found = State(tuple(int(side) for side in raw["shape"]), int(raw["seen"]), left, remarks, sums)
            whole = self.file.stat().st_size >= found.count * size(found.shape)
            whole &= sum(count for count, _ in sums) == found.count
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found if whole and len(found.shape) == (3 if found.count else len(found.shape)) else None

    def trouble(self, sound: Callable[[State], bool]) -> str:
        """Return why what stands in the file cannot be used, nothing where it can or nothing stands there."""
        state = self.state()
        if self.told.exists() if state is None else not sound(state):
            return f"{self.file}: not what it should hold, or of another version; made again"
        return ""

    def mapped(self, state: State) -> Bytes:
        """Return the file mapped copy-on-write, which torch takes without a warning."""
        shape = (state.count, *state.shape)
        if not state.count:  # nothing cannot be mapped
            return np.empty((0, *(state.shape or (1, 1, 1))), dtype=np.uint8)
        return np.memmap(self.file, dtype=np.uint8, mode="c", shape=shape)

    def agrees(self, state: State) -> bool:
        """Return whether the first, the last and some other chunks have their checksums."""
        if not state.sums:
            return True
        pictures, starts = self.mapped(state), np.cumsum([0, *(count for count, _ in state.sums)])
        looked_at = np.unique(np.linspace(0, len(state.sums) - 1, SUMS).astype(np.int64)).tolist()
        return all(
            zlib.crc32(flat(pictures[starts[i] : starts[i + 1]])) == state.sums[i][1] for i in looked_at
        )

    @contextlib.contextmanager
    def opened(self, state: State) -> Iterator[FileIO]:
        """Open the pictures to add to them, without what an end in mid-write left; of none, a file of its own."""
        if not state.count:  # whoever has mapped the file that is there keeps it
            self.told.unlink(missing_ok=True)
            self.file.unlink(missing_ok=True)
        with self.file.open("r+b" if state.count else "xb", buffering=0) as file:
            file.truncate(state.count * size(state.shape))
            file.seek(0, os.SEEK_END)
            yield file

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the files for this process; another's turn is waited for."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def save(self, file: FileIO, state: State) -> None:
        """Let the pictures reach the disk, then tell of them."""
        os.fsync(file.fileno())
        temporary = self.told.with_name(f".{self.told.name}")
        try:
            temporary.write_text(json.dumps({"format": FORMAT, **vars(state)}))
            temporary.replace(self.told)
        finally:
            temporary.unlink(missing_ok=True)


def write(file: FileIO, pictures: Bytes) -> None:
    """Write all of some pictures: a disk that fills takes a part before it refuses."""
    rest = flat(pictures)
    while rest:
        rest = rest[file.write(rest) :]


def size(shape: Sequence[int]) -> int:
    """Return the bytes of one picture."""
    return int(np.prod(shape, dtype=np.int64))


def flat(pictures: Bytes) -> memoryview:
    """Return the bytes of some pictures in their order."""
    return np.ascontiguousarray(pictures).reshape(-1).data
