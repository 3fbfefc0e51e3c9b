"""Pictures on disk: rendered once, mapped into memory by every process after that."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]
Render = Callable[[NDArray[np.int64]], Tensor]
PROBES = 16  # rows drawn again to see whether a file holds what its name says
ROUNDING = 1  # grey level by which the same picture may differ between two makes of processor


def root() -> Path:
    """Return the cache folder: ``LVMBENCH_CACHE``, else lvmbench in the user's own cache folder."""
    own = os.environ.get("LVMBENCH_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own) if own else Path(shared) / "lvmbench"


def cached(folder: Path, name: str, count: int, shape: tuple[int, ...], render: Render) -> Tensor:
    """Return the first ``count`` pictures of a name, mapped from disk when they have been drawn before.

    ``render`` draws the pictures of some positions: [K] -> uint8 [K, C, H, W]. A folder that cannot be written
    costs the rendering each time and nothing else. The result is uint8 [count, C, H, W].
    """
    images = find(folder, name, count, shape, render)
    if images is not None:
        return images
    drawn = render(np.arange(count))
    with contextlib.suppress(OSError):
        path = folder / f"{name}-{count}.npy"
        save(path, drawn.numpy())
        mapped = _map(path, (count, *shape))
        return drawn if mapped is None else torch.from_numpy(mapped)
    return drawn


def find(folder: Path, name: str, count: int, shape: tuple[int, ...], render: Render) -> Tensor | None:
    """Return the first ``count`` pictures from the smallest sound file that has them: uint8 [count, C, H, W]."""
    for length, path in sorted(_files(folder, name)):
        if length >= count:
            mapped = _map(path, (length, *shape))
            if mapped is not None and _is_sound(mapped, render):
                return torch.from_numpy(mapped[:count])
    return None


def save(path: Path, images: Bytes) -> None:
    """Write pictures so that a reader sees all of the file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.lib.format.write_array(file, images, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _files(folder: Path, name: str) -> list[tuple[int, Path]]:
    paths = ((path.stem.removeprefix(f"{name}-"), path) for path in folder.glob(f"{name}-*.npy"))
    return [(int(count), path) for count, path in paths if count.isdigit()]


def _map(path: Path, shape: tuple[int, ...]) -> Bytes | None:
    """Return a file mapped copy-on-write, which torch takes without a warning; None where it is damaged."""
    try:
        mapped = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return mapped if mapped.shape == shape and mapped.dtype == np.uint8 else None


def _is_sound(mapped: Bytes, render: Render) -> bool:
    positions = np.unique(np.linspace(0, len(mapped) - 1, PROBES).astype(np.int64))
    expected = render(positions).numpy().astype(np.int16)
    return bool((np.abs(expected - mapped[positions]) <= ROUNDING).all())
