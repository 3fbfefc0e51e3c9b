"""Decoded pictures on disk: decoded once, mapped into memory by every process after that."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Bytes = NDArray[np.uint8]
SAMPLED = 16  # pictures decoded again to see whether a cached file still holds what its name says


def cached(name: str, count: int, make: Callable[[Sequence[int]], Bytes]) -> Tensor:
    """Return the first ``count`` pictures of a name, made where no sound file has them: uint8 [N, C, H, W].

    ``make`` gives the pictures at some positions. A folder that cannot be written costs the work each time
    and nothing else. Files are ``<name>-<count>.npy`` under ``LVMBENCH_CACHE``, else in the user's cache.
    """
    base = _root() / name
    for length, path in sorted(_lengths(base)):
        images = _map(path) if length >= count else None
        if images is not None and len(images) == length and _is_sound(images, make):
            return torch.from_numpy(images[:count])
    made = make(range(count))
    with contextlib.suppress(OSError):
        _save(base.with_name(f"{base.name}-{count}.npy"), made)
    return torch.from_numpy(made)


def _root() -> Path:
    own, shared = os.environ.get("LVMBENCH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "lvmbench"


def _lengths(base: Path) -> list[tuple[int, Path]]:
    paths = (
        (path.stem.removeprefix(f"{base.name}-"), path) for path in base.parent.glob(f"{base.name}-*.npy")
    )
    return [(int(length), path) for length, path in paths if length.isdigit()]


def _map(path: Path) -> Bytes | None:
    try:
        mapped = np.load(
            path, mmap_mode="c", allow_pickle=False
        )  # "c": torch warns of arrays that are read-only
    except (OSError, ValueError, EOFError):
        return None
    return mapped if mapped.dtype == np.uint8 and mapped.ndim == 4 else None


def _is_sound(images: Bytes, make: Callable[[Sequence[int]], Bytes]) -> bool:
    positions = np.unique(np.linspace(0, len(images) - 1, SAMPLED).astype(int)).tolist()
    return np.array_equal(images[positions], make(positions))


def _save(path: Path, images: Bytes) -> None:
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
