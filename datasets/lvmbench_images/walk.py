"""Which files are pictures, by their names, and where they lie."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from lvmbench import Finding

PNM = (".pnm", ".pbm", ".pgm", ".ppm")
READ = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", *PNM)
UNREAD = (".heic", ".heif", ".avif", ".jp2", ".jxl")  # pictures all the same: decoding tells
SUFFIXES = (*READ, *UNREAD)
SKIPPED = ("__MACOSX", ".")  # folders and files that an operating system leaves beside pictures
DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result | Finding]]:
    """Yield the picture files below a folder, and what cannot be followed there.

    Links to folders are not followed: one may lead in a circle.
    """
    folders = [(os.fspath(folder), prefix)]  # a list, as a folder may be deeper than calls can be
    while folders:
        path, above = folders.pop()
        try:
            with os.scandir(path) as entries:
                found = list(entries)
        except OSError as error:
            yield above, Finding("folder that cannot be read", _shown(path), "left out", error.strerror or "")
            continue
        for entry in found:
            if entry.is_dir(follow_symlinks=False) and _shown(entry.name) == entry.name:
                if not entry.name.startswith(SKIPPED):
                    folders.append((entry.path, f"{above}{entry.name}/"))
            else:
                yield from _entry(entry, above + entry.name)


def _entry(entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, os.stat_result | Finding]]:
    if _shown(entry.name) != entry.name:
        yield name, Finding("name that is not UTF-8", _shown(entry.path), "left out")
    elif is_picture(entry.name):
        yield from _file(entry, name)
    elif entry.is_symlink() and Path(entry.path).is_dir() and not entry.name.startswith(SKIPPED):
        told = "links to folders are not followed: they may lead in a circle"
        yield name, Finding("link to a folder", entry.path, "left out", told)


def _shown(name: str) -> str:
    """Return a name as it can be shown: bytes that are no text are marked."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _file(entry: os.DirEntry[str], name: str) -> Iterator[tuple[str, os.stat_result | Finding]]:
    try:
        state = entry.stat()
    except OSError as error:
        yield name, Finding("link that leads nowhere", entry.path, "left out", error.strerror or "")
        return
    if stat.S_ISREG(state.st_mode):
        yield name, state


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its name, and none of those that an operating system leaves."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name) and is_inside(name)


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder that it is in, is one that an operating system leaves."""
    return any(part.startswith(SKIPPED) and part not in (".", "..") for part in name.split("/"))


def is_inside(name: str) -> bool:
    """Return whether a name stays in the folder that it is of."""
    path = name.replace("\\", "/")
    return not path.startswith("/") and ".." not in path.split("/") and not DRIVE.match(name)
