"""Pictures on disk: made once, mapped into memory by every process after that.

<name>.pictures   uint8 pictures, one after another in the order of their places; only ever added to
<name>.json       how many places were seen, and which of them have a picture: written after the pictures, atomically
<name>.lock       held by the process that adds

A process that is killed leaves what its last state tells; the next goes on from there. A name stands for a
content: who makes other pictures, or makes them in another way, takes another name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvmbench.data import Effect
from lvmbench.environment import cores

Bytes: TypeAlias = "NDArray[np.uint8]"
Places: TypeAlias = "NDArray[np.int64]"
Remark = tuple[int, str, Effect, str]  # a place; what it is, what was done, and more
Make = Callable[[Places], "Made"]
Heard = Callable[[int, int], None]

FORMAT = 1
PROBES = 16  # pictures made again to see whether a file still holds what its name says
CHUNK = 256  # pictures made in one go
SAVE_EVERY = 2.0  # seconds of work that a kill may cost

Sound = Callable[["_State"], bool]

_watcher: ContextVar[Heard | None] = ContextVar("watcher", default=None)


@dataclass(frozen=True)
class Made:
    """What came of some places: pictures uint8 [S, C, H, W], the places that gave one [S], remarks on any of them."""

    pictures: Bytes
    places: Places
    remarks: Sequence[Remark] = ()


@dataclass(frozen=True)
class Kept:
    """The first pictures of a name: images uint8 [N, C, H, W], their places [N], remarks on the places up to there.

    ``trouble`` says why they could not be kept on disk, or had to be made again.
    """

    images: Tensor
    places: Places
    remarks: tuple[Remark, ...]
    trouble: str = ""


@dataclass(frozen=True)
class _State:
    """What stands in a file: of the places seen, all but those left out."""

    shape: tuple[int, ...] = ()
    seen: int = 0
    left: tuple[int, ...] = ()
    remarks: tuple[Remark, ...] = ()

    @property
    def count(self) -> int:
        return self.seen - len(self.left)

    @property
    def places(self) -> Places:
        return np.setdiff1d(np.arange(self.seen), np.array(self.left, dtype=np.int64), assume_unique=True)

    def after(self, asked: Places, made: Made) -> _State:
        """Return the state once these places have been seen too."""
        left = np.setdiff1d(asked, made.places, assume_unique=True).tolist()
        shape = made.pictures.shape[1:] if len(made.places) else self.shape
        return _State(
            shape,
            self.seen + len(asked),
            (*self.left, *left),
            (*self.remarks, *map(tuple, made.remarks)),  # type: ignore[arg-type]
        )


def cache_dir() -> Path:
    """Return the cache folder: ``LVMBENCH_CACHE``, else lvmbench in the user's own cache folder."""
    own = os.environ.get("LVMBENCH_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "lvmbench"


def cached(name: str, count: int, make: Callable[[Places], Tensor], rounding: int = 0) -> Tensor:
    """Return the first ``count`` pictures of a name, made where the cache lacks them: uint8 [count, C, H, W].

    ``make`` gives the picture of every place: [K] -> uint8 [K, C, H, W]; two machines' pictures may differ by
    ``rounding`` grey levels. A folder that cannot be written costs the work each time and nothing else.
    """
    return kept(
        name, count, count, lambda places: Made(make(places).numpy(), places), rounding=rounding
    ).images


def kept(
    name: str,
    count: int,
    total: int,
    make: Make,
    *,
    rounding: int = 0,
    probes: int = PROBES,
    parallel: bool = False,
) -> Kept:
    """Return the first ``count`` pictures of a name that can be made from its ``total`` places.

    ``make`` is called for some places at a time, by as many threads as there are cores where it is ``parallel``. What
    the cache holds is mapped, after ``probes`` of it were made again and compared; what it lacks is added to it. One
    process makes, others wait. Where the folder cannot be written, pictures are held in memory.
    """
    shelf = _Shelf(cache_dir() / name)
    threads = cores() if parallel else 1

    def sound(state: _State) -> bool:
        return _is_sound(shelf, state, make, rounding, probes)

    state, trouble = shelf.state(), ""
    if state is not None and not sound(state):
        state, trouble = None, f"{shelf.file}: not what it should hold, or of another version; made again"
    if state is None or not _has(state, count, total):
        try:
            state = _grown(shelf, sound, count, total, make, threads)
        except OSError as error:
            trouble = (
                f"{shelf.file}: cannot be written ({error.strerror or error}); each process makes its own"
            )
            return replace(_in_memory(shelf, sound, count, total, make, threads), trouble=trouble)
    return _view(state, shelf.mapped(state), count, trouble)


@contextlib.contextmanager
def watching(heard: Heard) -> Iterator[None]:
    """Let a function hear how many pictures of how many are made, inside."""
    token = _watcher.set(heard)
    try:
        yield
    finally:
        _watcher.reset(token)


def _has(state: _State, count: int, total: int) -> bool:
    return state.count >= count or state.seen >= total


def _view(state: _State, pictures: Bytes, count: int, trouble: str = "") -> Kept:
    places = state.places[:count]
    end = places[-1] + 1 if len(places) == count and count else state.seen
    remarks = tuple(remark for remark in state.remarks if remark[0] < end)
    return Kept(torch.from_numpy(pictures[: len(places)]), places, remarks, trouble)


class _Shelf:
    """The files of a name."""

    def __init__(self, base: Path) -> None:
        self.file, self.told, self.lock = (
            base.with_name(base.name + suffix) for suffix in (".pictures", ".json", ".lock")
        )

    def state(self) -> _State | None:
        """Return what stands in the file, None where nothing does or nothing that can be read."""
        try:
            raw = json.loads(self.told.read_text())
            if raw.pop("format") != FORMAT:
                return None
            remarks = tuple((int(p), str(w), e, str(t)) for p, w, e, t in raw["remarks"])
            left = tuple(int(place) for place in raw["left"])
            found = _State(tuple(int(side) for side in raw["shape"]), int(raw["seen"]), left, remarks)
            whole = self.file.stat().st_size >= found.count * _size(found.shape)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return found if whole and len(found.shape) == 3 and found.count > 0 else None

    def sound_state(self, sound: Sound) -> _State:
        """Return what stands in the file as far as it is sound."""
        state = self.state()
        return state if state is not None and sound(state) else _State()

    def mapped(self, state: _State) -> Bytes:
        """Return the file mapped copy-on-write, which torch takes without a warning."""
        shape = (state.count, *state.shape)
        if not state.count:  # nothing cannot be mapped
            return np.empty((0, *(state.shape or (1, 1, 1))), dtype=np.uint8)
        return np.memmap(self.file, dtype=np.uint8, mode="c", shape=shape)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the files for this process; another's turn is waited for."""
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def save(self, file: FileIO, state: _State) -> None:
        """Let the pictures reach the disk, then tell of them."""
        os.fsync(file.fileno())
        raw = {"format": FORMAT, "shape": state.shape, "seen": state.seen, "left": state.left}
        temporary = self.told.with_name(f".{self.told.name}")
        try:
            temporary.write_text(json.dumps({**raw, "remarks": state.remarks}))
            temporary.replace(self.told)
        finally:
            temporary.unlink(missing_ok=True)


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _grown(shelf: _Shelf, sound: Sound, count: int, total: int, make: Make, threads: int) -> _State:
    """Add pictures to a file until it has enough of them, and return its state."""
    with shelf.claimed():
        state = shelf.sound_state(sound)
        if not state.count:
            shelf.file.unlink(missing_ok=True)  # another process may have mapped it
        with shelf.file.open("r+b" if state.count else "xb", buffering=0) as file:
            file.truncate(state.count * _size(state.shape))
            file.seek(0, os.SEEK_END)
            saved = time.monotonic()
            try:
                for asked, made in _until(state, count, total, make, threads):
                    _write(file, made.pictures)
                    state = state.after(asked, made)
                    if time.monotonic() - saved > SAVE_EVERY:
                        shelf.save(file, state)
                        saved = time.monotonic()
            finally:
                shelf.save(file, state)
    return state


def _write(file: FileIO, pictures: Bytes) -> None:
    """Write all of some pictures: a disk that fills takes a part before it refuses."""
    rest = np.ascontiguousarray(pictures).reshape(-1).data
    while rest:
        rest = rest[file.write(rest) :]


def _in_memory(shelf: _Shelf, sound: Sound, count: int, total: int, make: Make, threads: int) -> Kept:
    """Return pictures that no file keeps, but for those that one does."""
    state = shelf.sound_state(sound)
    parts = [shelf.mapped(state)]
    for asked, made in _until(state, count, total, make, threads):
        parts.append(made.pictures)
        state = state.after(asked, made)
    return _view(state, np.concatenate([part for part in parts if len(part)] or parts), count)


def _until(state: _State, count: int, total: int, make: Make, threads: int) -> Iterator[tuple[Places, Made]]:
    """Yield places and what came of them, in order, until there are enough pictures or no more places."""
    heard, begun = _watcher.get(), state.count
    while not _has(state, count, total):
        end = min(total, state.seen + count - state.count)
        chunks = [np.arange(i, min(i + CHUNK, end)) for i in range(state.seen, end, CHUNK)]
        for asked, made in zip(chunks, _each(make, chunks, threads), strict=True):
            yield asked, made
            state = state.after(asked, made)
            if heard is not None:
                heard(state.count - begun, count - begun)


def _each(make: Make, chunks: Sequence[Places], threads: int) -> Iterator[Made]:
    """Yield what came of each chunk, in order, made by some threads that run a little ahead."""
    if threads == 1 or len(chunks) == 1:
        yield from map(make, chunks)
        return
    pool = ThreadPoolExecutor(threads)
    ahead: deque[Future[Made]] = deque()
    try:
        for chunk in chunks:
            ahead.append(pool.submit(make, chunk))
            if len(ahead) > 2 * threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_sound(shelf: _Shelf, state: _State, make: Make, rounding: int, probes: int) -> bool:
    """Return whether some pictures of a file are what is made of their places now."""
    if not probes:
        return True
    chosen = np.unique(np.linspace(0, state.count - 1, probes).astype(np.int64))
    made = make(state.places[chosen])
    found = shelf.mapped(state)[chosen].astype(np.int16)
    if made.pictures.shape != found.shape:
        return False
    return bool((np.abs(made.pictures.astype(np.int16) - found) <= rounding).all())
