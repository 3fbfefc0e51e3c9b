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
HIDDEN = re.compile(r"(?:^|/)(?:__MACOSX|\.(?!\.?(?:/|\Z)))")  # a part that starts so, but for . and ..
OUTSIDE = re.compile(r"^[\\/]|^[A-Za-z]:[\\/]|(?:^|[\\/])\.\.(?:[\\/]|\Z)")


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
            if entry.is_dir(follow_symlinks=False) and _is_text(entry.name):
                if not entry.name.startswith(SKIPPED):
                    folders.append((entry.path, f"{above}{entry.name}/"))
            elif (what := _told(entry)) is not None:
                yield above + entry.name, what


def _told(entry: os.DirEntry[str]) -> os.stat_result | Finding | None:
    """Return the state of a picture file, what is wrong with an entry, or nothing for what is no picture."""
    if not _is_text(entry.name):
        return Finding("name that is not UTF-8", _shown(entry.path), "left out")
    if is_picture(entry.name):
        try:
            state = entry.stat()
        except OSError as error:
            return Finding("link that leads nowhere", entry.path, "left out", error.strerror or "")
        return state if stat.S_ISREG(state.st_mode) else None
    if entry.is_symlink() and Path(entry.path).is_dir() and not entry.name.startswith(SKIPPED):
        told = "links to folders are not followed: they may lead in a circle"
        return Finding("link to a folder", entry.path, "left out", told)
    return None


def _is_text(name: str) -> bool:
    return name.isascii() or _shown(name) == name


def _shown(name: str) -> str:
    """Return a name as it can be shown: bytes that are no text are marked."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_picture(name: str) -> bool:
    """Return whether a file is a picture by its name, and none of those that an operating system leaves."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name) and is_inside(name)


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder that it is in, is one that an operating system leaves."""
    return HIDDEN.search(name) is not None


def is_inside(name: str) -> bool:
    """Return whether a name stays in the folder that it is of."""
    return OUTSIDE.search(name) is None
