"""Files fetched from where they are published: only on --download, and kept only if their checksum is right."""

from __future__ import annotations

import hashlib
import os
import urllib.request
import uuid
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, BinaryIO
from urllib.error import HTTPError, URLError

from lvmbench import DataError
from lvmbench_images.places import candidates, look

LIMIT = 100_000_000  # bytes: the largest of the files that are fetched has 27 million
CHUNK = 1 << 16
TIMEOUT = 60.0  # seconds in which nothing comes
HINT = "--download fetches it."


@dataclass(frozen=True)
class Published:
    """A file as it is published: its name, the addresses that have it, and its checksum, such as ``md5:f68b...``."""

    name: str
    urls: tuple[str, ...]
    checksum: str


class _Failed(Exception):
    """Why an address did not give the file."""


class _Onward(urllib.request.HTTPRedirectHandler):
    """Follows where an address points to, but never from https to what is not."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise _Failed(f"points to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_allowed() -> bool:
    """Return whether files may be fetched: ``LVMBENCH_DOWNLOAD`` is 1, what ``--download`` sets."""
    return os.environ.get("LVMBENCH_DOWNLOAD") == "1"


def provide(title: str, folder: str, names: Iterable[str], published: Published) -> None:
    """Fetch a file into ``<root>/<folder>`` where none of these names is there yet and fetching is allowed.

    Raises:
        DataError: if it is allowed and fails; says why, for each address.
    """
    if is_allowed() and look(folder, names) is None:
        fetch(title, published, candidates(folder)[0])


def fetch(title: str, published: Published, folder: Path) -> Path:
    """Return a published file, fetched into a folder from the first of its addresses that gives it whole.

    Raises:
        DataError: if none does, or the folder cannot be written; nothing is left of what came.
    """
    reasons = []
    for url in published.urls:
        try:
            return _fetched(url, published, folder)
        except _Failed as reason:
            reasons.append(f"{url}: {reason}")
        except OSError as error:
            told = error.strerror or error
            raise DataError(f"{title}: {folder / published.name} cannot be written ({told}).") from error
    raise DataError(
        f"{title}: '{published.name}' cannot be fetched. {'; '.join(reasons)}. Try again, or put the file into "
        f"{folder} yourself."
    )


def _fetched(url: str, published: Published, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    target, temporary = folder / published.name, folder / f".{published.name}-{uuid.uuid4().hex}"
    algorithm, _, expected = published.checksum.partition(":")
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with temporary.open("xb") as file, closing(_chunks(url)) as chunks:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            _reach_disk(file)
        if digest.hexdigest() != expected:
            raise _Failed(
                f"what came has the {algorithm} {digest.hexdigest()}, the published file {expected}"
            )
        temporary.replace(target)
        _sync(folder)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _chunks(url: str) -> Generator[bytes]:
    """Yield what an address gives, all of it or an error that says why not."""
    seen = 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "lvmbench"})
        with urllib.request.build_opener(_Onward).open(request, timeout=TIMEOUT) as response:
            announced = int(response.headers.get("Content-Length") or -1)
            while chunk := response.read(CHUNK):
                seen += len(chunk)
                if seen > LIMIT:
                    raise _Failed(f"gives more than {LIMIT:,} bytes")
                yield chunk
    except HTTPError as error:
        error.close()
        raise _Failed(f"answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise _Failed(f"breaks off after {seen:,} bytes ({reason})" if seen else str(reason)) from error
    if announced >= 0 and seen != announced:
        raise _Failed(f"breaks off after {seen:,} of {announced:,} bytes")


def _reach_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
