"""Anybody's pictures: a folder or a zip, and a table that names them and says what they show."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import pandas as pd
from annotated_types import Ge, Le

from lvmbench import DataError, Finding, Schema, UsageError, read_table, table_of, texts
from lvmbench_images.archive import Archive
from lvmbench_images.columns import (
    Named,
    Roles,
    attributes_of,
    identity_column,
    named_pictures,
    part,
    parts,
    split_column,
)
from lvmbench_images.decode import Frame
from lvmbench_images.match import Index
from lvmbench_images.pictures import PictureSet
from lvmbench_images.places import candidates, place
from lvmbench_images.table import Table

TABLES = (".csv", ".tsv", ".parquet")


class Images(PictureSet):
    """Any folder or zip of pictures with a CSV, TSV or Parquet table: ``images(faces)``.

    ``root`` is a path, from the working directory or from the data root. The table is ``labels``; by default
    labels.csv or the only table in the folder, else the one that is named as the folder, labels.csv or the only table
    beside it. Without a table, the folder that a picture lies in is its class.

    ``file`` is the column of names, with or without folders and suffix; by default the one that names the most
    pictures. ``split`` says train, val or test; by default the column split, partition or subset. ``identity`` says
    who is on a picture; by default the column identity, person, subject, individual or celebrity. What no column
    decides is drawn by a hash of the names, a tenth each for val and test, by whole identities. All other columns are
    attributes by the rules of ``lvmbench score``, which ``kinds`` overrides: ``kinds={'age': 'number'}``.
    """

    def __init__(
        self,
        *,
        root: str,
        labels: str | None = None,
        file: str | None = None,
        split: str | None = None,
        identity: str | None = None,
        kinds: Mapping[str, Any] | None = None,
        size: Annotated[int, Ge(4), Le(1024)] = 64,
        channels: Literal[1, 3] = 3,
        crop: Literal["centre", "whole"] = "centre",
        pixels: Literal["gaussian", "bernoulli"] = "gaussian",
        drop_duplicates: bool = False,
    ) -> None:
        frame = Frame(size, channels, crop)
        asked = [file, split, identity, sorted((kinds or {}).items())]
        schema = Schema(frame.shape, pixels)
        super().__init__("images", schema, frame, drop_duplicates=drop_duplicates, asked=asked)
        self._root, self._labels = root, labels
        self._roles, self._kinds = Roles(file, split, identity), dict(kinds or {})

    @property
    def schema(self) -> Schema:
        """Return the shape of a picture, the family of its pixels, and what the table says are its attributes."""
        album, known = self.album, self._static
        return Schema(known.shape, known.pixels, album.attributes, identities=album.identities is not None)

    def locate(self) -> Sequence[Path]:
        """Return the folder or zip of pictures, then its table where there is one."""
        root = place(self._root) or place(f"{self._root}.zip")
        if root is None:
            where = " or ".join(str(folder) for folder in (Path.cwd(), candidates("")[1].resolve()))
            raise DataError(
                f"images: no folder or zip '{self._root}' in {where}. Give its path: root='path'."
            )
        if self._labels is None:
            return [root, *_tables(root)]
        table = place(self._labels, [root, root.parent])
        if table is None:
            raise DataError(
                f"images: no table '{self._labels}' here, in {root} or beside it. Give its path: labels='path'."
            )
        return [root, table]

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return what the rows of the table say, each of the picture that it names."""
        names = [member.name for member in pictures.members()]
        path = tables[0] if tables else pictures.path
        table = _read(path) if tables else _folders(path, names)
        return _table(table, str(path), Index(names), self._roles, self._kinds)


def _tables(root: Path) -> list[Path]:
    """Return the table of a folder or zip where there is no doubt which one it is.

    Raises:
        UsageError: if there are several.
    """
    whole = root.resolve()
    inside = _listed(root) if root.is_dir() else []
    beside = [] if inside else _listed(root.parent if root.name == whole.name else whole.parent)
    own = [path for path in beside if path.stem in (whole.name, whole.stem)]
    found = inside or own or beside
    best = [path for path in found if path.stem.lower() == "labels"] or found
    if len(best) > 1:
        names = ", ".join(path.name for path in best)
        raise UsageError(
            f"images: {best[0].parent} has several tables: {names}. Choose: labels={best[0].name}."
        )
    return best


def _listed(folder: Path) -> list[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    return [p for p in paths if p.suffix.lower() in TABLES and not p.name.startswith(".") and p.is_file()]


def _read(path: Path) -> pd.DataFrame:
    """Return a table with its index as a column, where it has one: pandas may have put the names there."""
    table = read_table(path)
    return table_of(table if isinstance(table.index, pd.RangeIndex) else table.reset_index(), str(path))


def _folders(root: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the table that folders of classes are: ``cat/1.jpg``, or ``train/cat/1.jpg``.

    Raises:
        DataError: if there are not two classes.
    """
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    classes = [path.parent.name or os.curdir for path in paths]
    if len(set(classes)) < 2 or all(part(name, "") is not None for name in classes):
        raise DataError(
            f"images: no table in {root} or beside it, and no folders of classes in it. Give a CSV or Parquet file "
            "with a row a picture: labels='path'."
        )
    table = {"file": names, "class": classes}
    tops = [path.parts[0] for path in paths if len(path.parts) > 2]
    if len(tops) == len(paths) and all(part(top, "") is not None for top in tops):
        table["split"] = tops
    return pd.DataFrame(table)


def _table(table: pd.DataFrame, where: str, index: Index, roles: Roles, kinds: Mapping[str, Any]) -> Table:
    named = named_pictures(table, index, where, roles.file)
    split = split_column(table, where, roles.split)
    identity = identity_column(table, where, roles.identity)
    lines = [f"{where}, row {row}" for row in range(1, len(table) + 1)]
    others = [c for c in table.columns if c not in (named.file, split, identity)]
    decided, found = (None, []) if split is None else parts(table, split, lines)
    attributes, labels, left = attributes_of(table[others], where, Path(where).name, kinds)
    people = None if identity is None else texts(table[identity])
    rows = [row for row, cell in enumerate(named.cells) if cell and not named.several[row]]
    return Table(
        attributes,
        [named.pictures[row] or named.cells[row] for row in rows],
        labels[rows],
        [lines[row] for row in rows],
        parts=None if decided is None else decided[rows],
        identities=None if people is None else [people[row] for row in rows],
        findings=[*left, *found, *_unusable(named, lines)],
    )


def _unusable(named: Named, lines: Sequence[str]) -> Iterator[Finding]:
    """Yield the rows that name no picture, or several."""
    for cell, several, line in zip(named.cells, named.several, lines, strict=True):
        if not cell:
            yield Finding("row without a name", line, "left out", f"column '{named.file}' is empty")
        elif several:
            yield Finding("row that fits several pictures", f"{line}: '{cell}'", "left out", several)
