"""Pictures on disk: made once, mapped into memory by every process after that."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lvmbench.environment import cores
from lvmbench.shelf import Bytes, Made, Places, Remark, Shelf, State, size, write

Make = Callable[[Places], Made]
Heard = Callable[[int, int], None]
Sound = Callable[[State], bool]

PROBES = 16  # pictures made again to see whether a file still holds what its name says
CHUNK = 32  # pictures made in one go: what a kill may cost beside the unsaved seconds
DRAWN_AT_ONCE = 512  # where they are drawn together, by matrix operations
CHUNK_BYTES = 2**23  # and no more than these: of large pictures a few
FIRST = 16  # pictures made before their size is known
TRIES = 3  # at files that another process makes anew at this moment
SAVE_EVERY = 2.0  # seconds of work that a kill may cost

GONE = (OSError, ValueError)  # what mapping a file raises that another process makes anew

_watcher: ContextVar[Heard | None] = ContextVar("watcher", default=None)


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
class _How:
    """How pictures are made: by what, on how many threads, at most how many in one go."""

    make: Make
    threads: int
    at_once: int

    def step(self, shape: Sequence[int]) -> int:
        """Return how many pictures to make in one go, which their size decides once it is known."""
        return min(self.at_once, max(1, CHUNK_BYTES // size(shape)) if shape else FIRST)


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
    found = kept(
        name,
        count,
        count,
        lambda places: Made(make(places).numpy(), places),
        rounding=rounding,
        at_once=DRAWN_AT_ONCE,
    )
    return found.images


def kept(
    name: str,
    count: int,
    total: int,
    make: Make,
    *,
    rounding: int = 0,
    probes: int = PROBES,
    parallel: bool = False,
    at_once: int | None = None,
) -> Kept:
    """Return the first ``count`` pictures of a name that can be made from its ``total`` places.

    ``make`` is called for at most ``at_once`` places at a time, by as many threads as there are cores where it is
    ``parallel``. What the cache holds is mapped, after ``probes`` of it were made again and compared; what it lacks
    is added to it. One process makes, others wait. Where the folder cannot be written, pictures are held in memory.
    """
    shelf = Shelf(cache_dir() / name)
    how = _How(make, cores() if parallel else 1, at_once or CHUNK)

    def sound(state: State) -> bool:
        return _is_sound(shelf, state, make, rounding, probes)

    for _ in range(TRIES):
        trouble = shelf.trouble(sound)
        state = None if trouble else shelf.state()
        try:
            if state is None or not _has(state, count, total):
                state = _grown(shelf, sound, count, total, how)
        except OSError as error:
            told = f"cannot be written ({error.strerror or error}); each process makes its own"
            found = _in_memory(shelf, sound, count, total, how)
            return replace(found, trouble=f"{shelf.file}: {told}")
        with contextlib.suppress(*GONE):
            return _view(state, shelf.mapped(state), count, trouble)
    return _in_memory(shelf, sound, count, total, how)


@contextlib.contextmanager
def watching(heard: Heard) -> Iterator[None]:
    """Let a function hear how many pictures of how many are made, inside."""
    token = _watcher.set(heard)
    try:
        yield
    finally:
        _watcher.reset(token)


def _has(state: State, count: int, total: int) -> bool:
    return state.count >= count or state.seen >= total


def _view(state: State, pictures: Bytes, count: int, trouble: str = "") -> Kept:
    places = state.places[:count]
    end = places[-1] + 1 if len(places) == count and count else state.seen
    remarks = tuple(remark for remark in state.remarks if remark[0] < end)
    return Kept(torch.from_numpy(pictures[: len(places)]), places, remarks, trouble)


def _grown(shelf: Shelf, sound: Sound, count: int, total: int, how: _How) -> State:
    """Add pictures to a file until it has enough of them, and return its state."""
    with shelf.claimed():
        state = _sound_state(shelf, sound)
        with shelf.opened(state) as file:
            saved = time.monotonic()
            try:
                for made, after in _until(state, count, total, how):
                    write(file, made.pictures)
                    state = after
                    if time.monotonic() - saved > SAVE_EVERY:
                        shelf.save(file, state)
                        saved = time.monotonic()
            finally:
                if state.sums:
                    shelf.save(file, state)
    return state


def _in_memory(shelf: Shelf, sound: Sound, count: int, total: int, how: _How) -> Kept:
    """Return pictures that no file keeps, but for those that one does."""
    state = _sound_state(shelf, sound)
    pictures = np.empty((0, 1, 1, 1), dtype=np.uint8)
    if state.count:
        kept_on_disk = shelf.mapped(state)[:count]
        pictures = np.empty((count, *state.shape), dtype=np.uint8)
        pictures[: len(kept_on_disk)] = kept_on_disk
    for made, after in _until(state, count, total, how):
        if len(made.places):
            if not len(pictures):
                pictures = np.empty((count, *after.shape), dtype=np.uint8)
            pictures[state.count : after.count] = made.pictures
        state = after
    return _view(state, pictures, count)


def _sound_state(shelf: Shelf, sound: Sound) -> State:
    state = shelf.state()
    return state if state is not None and sound(state) else State()


def _until(state: State, count: int, total: int, how: _How) -> Iterator[tuple[Made, State]]:
    """Yield what came of places, in order, and the state after it, until there is enough or no more place."""
    heard, begun = _watcher.get(), state.count
    while not _has(state, count, total):
        end = min(total, state.seen + count - state.count)
        step = how.step(state.shape)
        if not state.shape:  # their size tells how many may be made at once
            end = min(end, state.seen + step)
        chunks = [np.arange(i, min(i + step, end)) for i in range(state.seen, end, step)]
        for asked, made in zip(chunks, _each(how, chunks), strict=True):
            state = state.after(asked, made)
            yield made, state
            if heard is not None:
                heard(state.count - begun, count - begun)


def _each(how: _How, chunks: Sequence[Places]) -> Iterator[Made]:
    """Yield what came of each chunk, in order, made by some threads that run a little ahead."""
    if how.threads == 1 or len(chunks) == 1:
        yield from map(how.make, chunks)
        return
    pool = ThreadPoolExecutor(how.threads)
    ahead: deque[Future[Made]] = deque()
    try:
        for chunk in chunks:
            ahead.append(pool.submit(how.make, chunk))
            if len(ahead) > 2 * how.threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _is_sound(shelf: Shelf, state: State, make: Make, rounding: int, probes: int) -> bool:
    """Return whether some chunks of a file have their checksums, and some pictures are what is made of them now."""
    try:
        pictures = shelf.mapped(state)
        if not shelf.agrees(state):
            return False
    except GONE:
        return False
    if not probes or not state.count:
        return True
    chosen = np.unique(np.linspace(0, state.count - 1, probes).astype(np.int64))
    made, found = make(state.places[chosen]), pictures[chosen].astype(np.int16)
    if made.pictures.shape != found.shape:
        return False
    return bool((np.abs(made.pictures.astype(np.int16) - found) <= rounding).all())
