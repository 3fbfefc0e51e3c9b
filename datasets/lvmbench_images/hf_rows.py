"""The rows of a Hugging Face data set as an archive of pictures and a table of what is said of them."""

from __future__ import annotations

import contextlib
import importlib
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from lvmbench import DataError, Finding, UsageError
from lvmbench_images.archive import MAX_BYTES, Folder, Member

NEEDED = "Data sets of Hugging Face need the package datasets: pip install 'lvmbench[hf]'."

Splits: TypeAlias = "Mapping[str, Any]"  # datasets.Dataset by the set's own names of splits


def library() -> Any:
    """Return the package ``datasets``, imported when it is first needed.

    Raises:
        UsageError: if it is not installed.
    """
    with contextlib.suppress(ImportError):
        found = importlib.import_module("datasets")
        if hasattr(found, "load_dataset"):  # a folder of this name is a package too
            return found
    raise UsageError(NEEDED)


class Rows:
    """The files in one column of pictures, named by split and row: ``train/0``. They are read encoded, as they are."""

    def __init__(self, path: Path, splits: Splits, image: str) -> None:
        encoded = library().Image(decode=False)
        self.path = path
        self._splits = {
            name: split.select_columns([image]).cast_column(image, encoded) for name, split in splits.items()
        }
        self._image = image

    @property
    def signature(self) -> str:
        """Tell the state of the data by the fingerprints that ``datasets`` gives them."""
        prints = {name: [split._fingerprint, len(split)] for name, split in self._splits.items()}
        return json.dumps([str(self.path), self._image, prints])

    @cached_property
    def _names(self) -> list[str]:
        return [f"{name}/{row}" for name, split in self._splits.items() for row in range(len(split))]

    def names(self) -> list[str]:
        """Return the names of all rows, split by split."""
        return list(self._names)

    def members(self) -> list[Member]:
        """Return all rows; each picture is read once for its checksum."""
        return [self._member(name) for name in self._names]

    def findings(self) -> list[Finding]:
        """Return nothing: rows have no names that could be wrong."""
        return []

    def read(self, name: str) -> bytes:
        """Return the encoded bytes of a picture; those of one that is a file beside the data are read from it.

        Raises:
            DataError: if there is none, or it is larger than any picture.
        """
        split, _, row = name.rpartition("/")
        try:
            cell = self._splits[split][int(row)][self._image]
        except (ValueError, TypeError, OSError) as error:
            raise DataError(f"{self.path}: '{name}' cannot be read ({error}).") from error
        if cell is None or not (cell.get("bytes") or cell.get("path")):
            raise DataError(f"{self.path}: '{name}' is empty.")
        content: bytes | None = cell.get("bytes")
        if content is None:
            file = Path(cell["path"])
            content = Folder(file.parent).read(file.name)
        if len(content) > MAX_BYTES:
            raise DataError(
                f"{self.path}: '{name}' holds more than {MAX_BYTES:,} bytes, more than any picture has."
            )
        return content

    def _member(self, name: str) -> Member:
        try:
            content = self.read(name)
        except DataError as error:
            return Member(name, 0, 0, str(error))
        return Member(name, len(content), zlib.crc32(content))


def image_column(path: str, splits: Splits, asked: str | None) -> str:
    """Return the column of pictures: the one that is asked for, else the only one there.

    Raises:
        DataError: if there is none, or several.
    """
    features = next(iter(splits.values())).features
    there: list[str] = [name for name, f in features.items() if isinstance(f, library().Image)]
    if asked is not None and asked in features:
        return asked
    if asked is not None or len(there) != 1:
        told = f"no column '{asked}'" if asked is not None else f"{len(there) or 'no'} columns of pictures"
        columns = ", ".join(there or features)
        raise DataError(f"{path}: {told}. There are: {columns}. Choose: image=column.")
    return there[0]


def labels(splits: Splits, image: str) -> tuple[pd.DataFrame, dict[str, str], dict[str, str]]:
    """Return the columns of numbers and words, why others are left out, and the kinds of those that name classes."""
    value, named = library().Value, library().ClassLabel
    features = {name: f for name, f in next(iter(splits.values())).features.items() if name != image}
    plain = [n for n, f in features.items() if isinstance(f, named) or _is_plain(f, value)]
    parts = [split.select_columns(plain).to_pandas() for split in splits.values()] if plain else []
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    kinds = {}
    for name in plain:
        if isinstance(features[name], named):
            classes = features[name].names
            table[name] = _worded(table[name], classes)
            if 2 < len(set(table[name].dropna())) <= 100:  # names such as "0" to "99" are no quantity
                kinds[name] = "categorical"
    return table, {name: "neither numbers nor words" for name in features if name not in plain}, kinds


def _is_plain(feature: Any, value: type) -> bool:
    return isinstance(feature, value) and "binary" not in str(getattr(feature, "dtype", ""))


def _worded(column: pd.Series[Any], classes: Sequence[str]) -> pd.Series[Any]:
    """Return the names of classes; a number that has none, such as -1, is missing."""
    return column.map(dict(enumerate(classes)))
