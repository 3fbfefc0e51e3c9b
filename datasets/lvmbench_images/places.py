"""Where the files of data sets are looked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from lvmbench import DataError

OPTION = "and name its folder by --data-root or LVMBENCH_DATA."


def candidates(folder: str) -> list[Path]:
    """Return where files of a data set may lie: ``<root>/<folder>`` and ``<root>`` itself.

    The root is ``LVMBENCH_DATA`` (what ``--data-root`` sets), else ``datasets/data``.
    """
    root = Path(os.environ.get("LVMBENCH_DATA") or Path("datasets") / "data")
    return [root / folder, root]


def find(title: str, folder: str, names: Iterable[str], remedy: str) -> Path:
    """Return the first file or folder of these names, such as ``img/faces.zip``, in the places of a data set.

    Raises:
        DataError: if there is none; says where it was looked for, and the remedy.
    """
    names = list(names)
    found = look(folder, names)
    if found is None:
        where = " and ".join(str(place.resolve()) for place in candidates(folder))
        named = " or ".join(f"'{name}'" for name in names)
        raise DataError(f"{title}: no {named} in {where}. {remedy}")
    return found


def look(folder: str, names: Iterable[str]) -> Path | None:
    """Return the first file or folder of these names in the places of a data set, None if there is none."""
    names = list(names)
    paths = (place / name for place in candidates(folder) for name in names)
    return next((path for path in paths if is_there(path)), None)


def place(written: str, beside: Iterable[Path] = ()) -> Path | None:
    """Return the path that is meant: from here, from some folders, or from the data root; None if nothing is there."""
    path = Path(written)
    with contextlib.suppress(RuntimeError):  # ~nobody/x is a name as any other
        path = path.expanduser()
    paths = [path, *(folder / path for folder in beside), candidates("")[1] / path]
    return next((found for found in paths if is_there(found)), None)


def is_there(path: Path) -> bool:
    """Return whether a path leads to something.

    Raises:
        DataError: if that cannot be told, as a folder on the way may not be read.
    """
    try:
        path.stat()
    except PermissionError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except (OSError, ValueError):  # what no path can be, such as a name of 300 letters
        return False
    return True
