"""The rows of a Hugging Face data set as an archive of pictures and a table of what is said of them."""

from __future__ import annotations

import contextlib
import importlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from lvmbench import DataError, Finding, UsageError, texts
from lvmbench_images.archive import MAX_BYTES, Damaged, Folder, Member

MAX_CLASSES = 100  # more are left out by the rules
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
        self.path = path
        self._splits = {name: _pictures(path, split, name, image) for name, split in splits.items()}
        self._image = image

    @cached_property
    def signature(self) -> str:
        """Tell the state of the data by the fingerprints of ``datasets``, and of files beside it by size and time."""
        prints = {name: [split._fingerprint, len(split)] for name, split in self._splits.items()}
        files = [
            _state(cell) for split in self._splits.values() for cell in _paths(split.data.column(self._image))
        ]
        return json.dumps([str(self.path), self._image, prints, files])

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
            raise Damaged(f"{self.path}: '{name}' is empty.")
        content: bytes | None = cell.get("bytes")
        if content is None:
            file = Path(cell["path"])
            if not file.exists():
                raise Damaged(f"{self.path}: '{name}' is a file that is not there, {file}.")
            content = Folder(file.parent).read(file.name)
        if len(content) > MAX_BYTES:
            raise Damaged(
                f"{self.path}: '{name}' holds more than {MAX_BYTES:,} bytes, more than any picture has."
            )
        return content

    def _member(self, name: str) -> Member:
        try:
            content = self.read(name)
        except Damaged as error:
            return Member(name, 0, 0, str(error))
        return Member(name, len(content), zlib.crc32(content))


def _pictures(path: Path, split: Any, name: str, image: str) -> Any:
    try:
        return split.select_columns([image]).cast_column(image, library().Image(decode=False))
    except Exception as error:  # whatever the libraries raise
        raise DataError(f"{path}: column '{image}' of '{name}' holds no pictures ({error}).") from error


def _paths(column: Any) -> Iterator[str]:
    """Yield the paths in a column of pictures whose bytes lie elsewhere, without reading any bytes."""
    for chunk in column.chunks:
        beside = chunk.field("bytes").is_null()
        yield from filter(None, chunk.field("path").filter(beside).to_pylist())


def _state(path: str) -> list[str | int]:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return [path]  # reading it will tell
    return [path, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def image_column(path: str, splits: Splits, asked: str | None) -> str:
    """Return the column of pictures: the one that is asked for, else the only one there.

    Raises:
        DataError: if there is none, or several, or a split lacks it.
    """
    features = next(iter(splits.values())).features
    there: list[str] = [name for name, f in features.items() if isinstance(f, library().Image)]
    chosen = there if asked is None else [name for name in features if name == asked]
    if len(chosen) != 1:
        told = f"no column '{asked}'" if asked is not None else f"{len(there) or 'no'} columns of pictures"
        columns = ", ".join(there or features)
        raise DataError(f"{path}: {told}. There are: {columns}. Choose: image=column.")
    for name, split in splits.items():
        if chosen[0] not in split.features:
            columns = ", ".join(split.features)
            raise DataError(f"{path}: split '{name}' has no column '{chosen[0]}'. There are: {columns}.")
    return chosen[0]


@dataclass(frozen=True)
class Said:
    """The columns of numbers and words, the kinds of those that name classes, and what is wrong with columns."""

    table: pd.DataFrame
    kinds: Mapping[str, str]
    findings: Sequence[Finding]


def labels(path: str, splits: Splits, image: str) -> Said:
    """Return what the columns say, split by split: a class is known by its name, however a split numbers it.

    Raises:
        DataError: if a column is of classes in one split and of no classes in another.
    """
    value, named = library().Value, library().ClassLabel
    columns = dict.fromkeys(name for split in splits.values() for name in split.features if name != image)
    features = {name: [s.features[name] for s in splits.values() if name in s.features] for name in columns}
    plain = [
        n for n, each in features.items() if all(isinstance(f, named) or _is_plain(f, value) for f in each)
    ]
    classes = [name for name in plain if any(isinstance(f, named) for f in features[name])]
    for name in classes:
        if not all(isinstance(f, named) for f in features[name]):
            raise DataError(
                f"{path}: column '{name}' has named classes in some splits only. Give it one type in all of them."
            )
    table = pd.concat([_worded(split, plain, classes) for split in splits.values()], ignore_index=True)
    kinds: dict[str, str] = {}
    for name in classes:
        table[name], kind = _as_classes(table[name])
        kinds |= {name: kind} if kind else {}
    findings = [
        Finding("column left out", f"{path}: '{name}'", "left out", "neither numbers nor words")
        for name in columns
        if name not in plain
    ]
    findings += [
        Finding("column that a split lacks", f"{path}, {split}: '{name}'", told="missing there")
        for name in plain
        for split, rows in splits.items()
        if name not in rows.features
    ]
    return Said(table, kinds, findings)


def _worded(split: Any, plain: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Return the columns of a split, with the names of classes; a number that has none, such as -1, is missing."""
    here = [name for name in plain if name in split.features]
    table: pd.DataFrame = (
        split.select_columns(here).to_pandas() if here else pd.DataFrame(index=range(len(split)))
    )
    for name in here:
        if name in classes:
            table[name] = table[name].map(dict(enumerate(split.features[name].names))).astype(object)
    return table.reindex(columns=list(plain))


def _as_classes(column: pd.Series[Any]) -> tuple[pd.Series[Any], str | None]:
    """Return the names of classes so that each is read as one, and the kind that says so where it is needed."""
    words = sorted(set(column.dropna()), key=lambda word: (word.casefold(), word))
    if not 2 <= len(words) <= MAX_CLASSES:
        return column, None
    kind = "categorical" if len(words) > 2 else "binary"  # names such as "0" to "99" are no quantity
    if all(texts(pd.Series(words))):
        return column, kind
    return column.astype(
        pd.CategoricalDtype(words, ordered=True)
    ), kind  # NA is a class here, no missing cell


def _is_plain(feature: Any, value: type) -> bool:
    return isinstance(feature, value) and "binary" not in str(getattr(feature, "dtype", ""))
