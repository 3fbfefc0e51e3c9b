"""The store: one folder a fit, one immutable file a record, nothing ever half-written.

<store>/store.json                        the format of the store
<store>/<ab>/<fit key>/fit/               weights, codes, learning curve: safetensors and JSON
<store>/<ab>/<fit key>/checkpoint.safetensors   of a fit that is being made, until it is stored
<store>/<ab>/<fit key>/<attempt>.json     a record; beside it its bootstrap replicates and its log
<store>/<ab>/<fit key>/lock               held by the process that works on the cell
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lvmbench.api import Record
from lvmbench.errors import StoreError

FORMAT = 1
TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Stored:
    """A record and where it lies; ``replicates`` beside it holds the bootstrap of its scores."""

    record: Record
    path: Path

    @property
    def replicates(self) -> Path:
        """Return the file of bootstrap replicates."""
        return self.path.with_suffix(".safetensors")

    @property
    def log(self) -> Path:
        """Return the file that holds what the cell printed."""
        return self.path.with_suffix(".log")


@dataclass(frozen=True)
class Reading:
    """The records that could be read, oldest first, and why others could not."""

    stored: tuple[Stored, ...] = ()
    problems: tuple[str, ...] = field(default=())


class Store:
    """A folder of results. Any number of processes may use it at once, and any may be killed at any moment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Store:
        """Return the store in a folder, which is made if it does not exist.

        Raises:
            StoreError: if the folder cannot be written, or was written by a newer lvmbench.
        """
        store = cls(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            store._sweep()
            if not (path / "store.json").exists():
                put({path / "store.json": json.dumps({"format": FORMAT}).encode()})
            (probe := temporary_beside(path / "probe")).touch()
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"{path}: results cannot be written here ({error.strerror or error}). "
                "Free space or choose another folder with --results."
            ) from error
        store._check_format()
        return store

    @classmethod
    def existing(cls, path: Path) -> Store:
        """Return the store in a folder that need not be writable.

        Raises:
            StoreError: if there is none, or it was written by a newer lvmbench.
        """
        store = cls(path)
        if not path.is_dir():
            raise StoreError(f"{path}: no results here. Run `lvmbench run`, or name a folder with --results.")
        store._check_format()
        return store

    def _check_format(self) -> None:
        path = self.path / "store.json"
        if not path.exists():
            return
        try:
            found = int(json.loads(path.read_text())["format"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path}: not an lvmbench store ({error}). Choose another folder with --results."
            ) from None
        if found > FORMAT:
            raise StoreError(
                f"{path}: format {found} is newer than this lvmbench knows ({FORMAT}). Upgrade lvmbench, or choose "
                "another folder with --results."
            )

    def folder(self, fit_key: str) -> Path:
        """Return the folder of a fit."""
        return self.path / fit_key[:2] / fit_key

    def attempt(self, fit_key: str) -> Path:
        """Return the path of a new record of a fit; no two calls return the same."""
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        return self.folder(fit_key) / f"{now}-{_owner()}-{uuid.uuid4().hex[:8]}.json"

    def write(self, path: Path, record: Record, replicates: Mapping[str, Any] | None = None) -> None:
        """Write a record and the bootstrap replicates of its scores; the record last, so that it stands for both.

        Raises:
            StoreError: if it cannot be written; nothing is left of it then.
        """
        from safetensors.torch import save

        stored = Stored(record, path)
        try:
            boots = {stored.replicates: save(dict(replicates))} if replicates else {}
            put({**boots, path: to_json(record)})
        except OSError as error:
            with contextlib.suppress(OSError):
                stored.replicates.unlink(missing_ok=True)
            raise StoreError(f"{path}: the record cannot be written ({error.strerror or error}).") from error

    def one(self, path: Path) -> Stored:
        """Return the record of an attempt.

        Raises:
            StoreError: if it is gone, or is not whole.
        """
        try:
            return Stored(from_json(path.read_bytes(), path), path)
        except OSError as error:
            raise StoreError(
                f"{path}: the record cannot be read ({error.strerror or error}). Run the same command again."
            ) from error

    def read(self, fit_key: str | None = None) -> Reading:
        """Return all records, or those of one fit; unreadable ones are told, not raised."""
        pattern = "*/*/*.json" if fit_key is None else f"{fit_key[:2]}/{fit_key}/*.json"
        stored, problems = [], []
        for path in sorted(self.path.glob(pattern), key=lambda p: p.name):
            if path.name.startswith(TEMPORARY):
                continue
            try:
                stored.append(self.one(path))
            except StoreError as error:
                problems.append(str(error))
        return Reading(tuple(stored), tuple(problems))

    def keep_fit(self, fit_key: str, write: Callable[[Path], None]) -> None:
        """Store what training left: ``write`` fills a folder, which appears whole or not at all.

        Raises:
            StoreError: if it cannot be written.
        """
        target = self.folder(fit_key) / "fit"
        temporary = temporary_beside(target)
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            for file in temporary.iterdir():
                _sync(file)
            _sync(temporary)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            _sync(target.parent)
        except OSError as error:
            raise StoreError(f"{target}: the fit cannot be written ({error.strerror or error}).") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def fit(self, fit_key: str) -> Path | None:
        """Return the folder that training left, if it did."""
        folder = self.folder(fit_key) / "fit"
        return folder if folder.is_dir() else None

    def checkpoint(self, fit_key: str) -> Path:
        """Return the path of what a fit goes on from when its process was killed."""
        return self.folder(fit_key) / "checkpoint.safetensors"

    @contextlib.contextmanager
    def claim(self, fit_key: str) -> Iterator[bool]:
        """Hold a fit for this process; yields False when another process holds it. Death lets go of it."""
        folder = self.folder(fit_key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise StoreError(
                f"{folder}: results cannot be written here ({error.strerror or error})."
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                yield False
            else:
                yield True

    def _sweep(self) -> None:
        sweep([*self.path.glob(f"{TEMPORARY}*"), *self.path.glob(f"*/*/{TEMPORARY}*")])


def put(blobs: Mapping[Path, bytes]) -> None:
    """Write files of one folder, each whole or not at all, the last one last."""
    temporaries = {path: temporary_beside(path) for path in blobs}
    folder = next(iter(blobs)).parent
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for path, blob in blobs.items():
            with temporaries[path].open("xb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in temporaries.items():
            temporary.replace(path)
        _sync(folder)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def sweep(paths: Iterable[Path]) -> None:
    """Remove, of some temporary files and folders, what processes of this host left when they were killed."""
    for path in paths:
        host, _, pid = path.name.removeprefix(TEMPORARY).rpartition("-")[0].rpartition("-")
        if host == _host() and pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return a name in the same folder that no other process takes, and that tells whose it is."""
    return path.with_name(f"{TEMPORARY}{_owner()}-{uuid.uuid4().hex}")


def _host() -> str:
    return socket.gethostname().replace("-", "_") or "host"


def _owner() -> str:
    return f"{_host()}-{os.getpid()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(record: Record) -> bytes:
    """Return a record as it is stored: sorted keys, one fact a line, no NaN."""
    raw = {"format": FORMAT, **asdict(record)}
    return (json.dumps(raw, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def from_json(blob: bytes, path: Path) -> Record:
    """Return the record in a file.

    Raises:
        StoreError: if the file is cut, damaged, or of a newer format.
    """
    try:
        raw = json.loads(blob)
        found = raw.pop("format")
        if found > FORMAT:
            raise StoreError(
                f"{path}: format {found} is newer than this lvmbench knows ({FORMAT}). Upgrade lvmbench."
            )
        return _adapter().validate_python(raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise StoreError(
            f"{path}: not a whole record ({told}). Delete it, and run the same command again."
        ) from None


@cache
def _adapter() -> TypeAdapter[Record]:
    return TypeAdapter(Record)
