"""What reading the files of a data set came to, kept until one of them changes: the next start reads no table."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lvmbench import Attribute, Finding, cache_dir
from lvmbench_images.album import Album

ARRAYS = ("sizes", "crcs", "labels", "parts", "draws", "rows", "identities")
DAMAGE = (OSError, ValueError, KeyError, TypeError, SafetensorError)


def remembered(key: str, read: Callable[[], Album]) -> Album:
    """Return the album of a key, from the cache or as it is read now; without a cache it is read each time."""
    name = sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    path = cache_dir() / "albums" / f"{name}.safetensors"
    with contextlib.suppress(*DAMAGE):
        return _unpacked(path.read_bytes())
    album = read()
    with contextlib.suppress(OSError):
        _put(path, _packed(album))
    return album


def _packed(album: Album) -> bytes:
    told = {
        "attributes": [asdict(attribute) for attribute in album.attributes],
        "names": album.names,
        "findings": [asdict(finding) for finding in album.findings],
    }
    arrays = {name: getattr(album, name) for name in ARRAYS if getattr(album, name) is not None}
    return save({**arrays, "told": np.frombuffer(json.dumps(told).encode(), np.uint8)})


def _unpacked(blob: bytes) -> Album:
    arrays = load(blob)
    told = json.loads(arrays.pop("told").tobytes())
    attributes = tuple(Attribute(**{**raw, "classes": tuple(raw["classes"])}) for raw in told["attributes"])
    findings = tuple(Finding(**raw) for raw in told["findings"])
    needed = {name: arrays[name] for name in ARRAYS if name != "identities" or name in arrays}
    if {len(array) for array in needed.values()} != {len(told["names"])}:
        raise ValueError("columns of several lengths")
    return Album(attributes, tuple(told["names"]), findings=findings, **{"identities": None, **needed})  # type: ignore[arg-type]


def _put(path: Path, blob: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".album-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
