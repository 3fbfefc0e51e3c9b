"""Anybody's pictures: a folder or a zip, and a table that names them and says what they show."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import pandas as pd
from annotated_types import Ge, Le

from lvmbench import DataError, Finding, Schema, UsageError, read_table, table_of, texts
from lvmbench_images.archive import Archive, Zip, plain
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
LABELS = "labels"  # what a table is called that needs no other name
TABLE, FOLDERS = "the table", "the folders"  # sources of labels, whatever the files are called


class Images(PictureSet):
    """Any folder or zip of pictures with a CSV, TSV or Parquet table: ``images(faces)``.

    ``root`` is a path, from the working directory or from the data root. The table is ``labels``; by default
    labels.csv or the only table in the folder or zip, else the one beside it that is named as it is, or labels.csv.
    Without a table, the folder that a picture lies in is its class: ``cat/1.jpg``, ``train/cat/1.jpg``.

    ``file`` is the column of names, with or without folders and suffix; by default the likeliest that names pictures:
    numbers that may count the rows are never taken unasked. ``split`` says train, val or test; by default the column
    split, partition or subset. ``identity`` says who is on a picture; by default the column identity, person_id,
    subject_id, individual_id or celebrity, or person, subject or individual if it has more than 20 values. What no
    column decides is drawn by a hash of the names, a tenth each for val and test, by whole identities. All other
    columns, and those in ``kinds``, are attributes by the rules of ``lvmbench score``, which ``kinds`` overrides:
    ``kinds={'age': 'number'}``.
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
        asked = [labels, file, split, identity, sorted((kinds or {}).items())]
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
            best = _tables(root)
            return [root, *(_only(best, root) if root.is_dir() else best if len(best) == 1 else [])]
        table = place(self._labels, [root, root.parent])
        if table is None and root.is_file() and self._labels in Zip(root).others():
            return [root]
        if table is None:
            raise DataError(
                f"images: no table '{self._labels}' here, in {root} or beside it. Give its path: labels='path'."
            )
        return [root, table]

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return what the rows of the table say, each of the picture that it names."""
        names = [member.name for member in pictures.members()]
        index, inside = Index(names), self._inside(pictures)
        if inside is None and not tables:
            _only(_tables(pictures.path), pictures.path)  # several may lie beside a zip
            where, source, table = pictures.path, FOLDERS, _folders(pictures.path, names)
            lines = _rows_of(where, len(table))
        else:
            where, source = tables[0] if inside is None else pictures.path / inside, TABLE
            table, lines = _read(where, None if inside is None else pictures.read(inside))
        return _table(table, lines, str(where), source, index, self._roles, self._kinds)

    def _inside(self, pictures: Archive) -> str | None:
        """Return the table in a zip, where there is one and no other was asked for."""
        if not isinstance(pictures, Zip):
            return None
        there = [Path(name) for name in pictures.others() if name.lower().endswith(TABLES)]
        if self._labels is None:
            found = _only(_best(there), pictures.path)
            return found[0].as_posix() if found else None
        elsewhere = place(self._labels, [pictures.path.parent]) is not None
        return self._labels if self._labels in pictures.others() and not elsewhere else None


def _tables(root: Path) -> list[Path]:
    """Return what may be the table of a folder or zip: what lies in it, else what bears its name or this one beside it.

    Any other table beside it may be that of another set, with pictures of the same names.
    """
    whole = root.resolve()
    inside = _listed(root) if root.is_dir() else []
    beside = [] if inside else _listed(root.parent if root.name == whole.name else whole.parent)
    own = [path for path in beside if path.stem in (whole.name, whole.stem if root.is_file() else "")]
    return _best(inside) or own or [path for path in beside if path.stem.lower() == LABELS]


def _best(tables: Sequence[Path]) -> list[Path]:
    """Return the tables that are named labels, else all."""
    return [path for path in tables if path.stem.lower() == LABELS] or list(tables)


def _only(tables: list[Path], where: Path) -> list[Path]:
    """Return a table, or none.

    Raises:
        UsageError: if there are several.
    """
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise UsageError(f"images: {where}: several tables: {names}. Choose: labels={tables[0].name}.")
    return tables


def _listed(folder: Path) -> list[Path]:
    """Return the tables in a folder, which may hold very many pictures."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(TABLES)]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}).") from error
    return [folder / n for n in sorted(names) if not n.startswith(".") and (folder / n).is_file()]


def _read(path: Path, content: bytes | None) -> tuple[pd.DataFrame, list[str]]:
    """Return a table, and where its rows stand; an index of Parquet is a column: pandas may have put names there."""
    table = read_table(path, content)
    if lines := table.attrs.get("lines"):
        return table_of(table, str(path)), [f"{path}, line {number}" for number in lines]
    whole = table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
    return table_of(whole, str(path)), _rows_of(path, len(whole))


def _rows_of(path: Path, count: int) -> list[str]:
    return [f"{path}, row {row}" for row in range(1, count + 1)]


def _folders(root: Path, names: Sequence[str]) -> pd.DataFrame:
    """Return the table that folders of classes are: ``cat/1.jpg``, or ``train/cat/1.jpg``, below any others.

    Pictures that lie beside these folders have no row.

    Raises:
        DataError: if there are not two classes, or some of the folders are splits and some are not.
    """
    folders = {name: PurePosixPath(plain(name)).parent.parts for name in names}
    folders = {name: path for name, path in folders.items() if path}
    while len({path[0] for path in folders.values()}) == 1 and any(len(p) > 1 for p in folders.values()):
        folders = {name: path[1:] for name, path in folders.items() if len(path) > 1}
    tops = sorted({path[0] for path in folders.values() if len(path) > 1})
    splits = [top for top in tops if part(top) is not None]
    if splits and splits != tops:
        other = next(top for top in tops if top not in splits)
        raise DataError(
            f"images: {root}: the folder '{splits[0]}' is a split, the folder '{other}' beside it is not. Move one of "
            "them away, or give a table: labels='path'."
        )
    if splits:
        folders = {name: path for name, path in folders.items() if len(path) > 1}
    # where some lie deeper than others, the top is what they have in common
    leaf = int(bool(splits)) if len({len(path) for path in folders.values()}) > 1 else -1
    classes = [path[leaf] for path in folders.values()]
    if len(set(classes)) < 2 or all(part(name) is not None for name in classes):
        raise DataError(
            f"images: no table in {root}, none of its name or called labels beside it, and no folders of classes in "
            "it. Give a CSV or Parquet file with a row a picture: labels='path'."
        )
    table = {"file": list(folders), "class": classes}
    return pd.DataFrame(table | {"split": [path[0] for path in folders.values()]} if splits else table)


def _table(
    table: pd.DataFrame,
    lines: Sequence[str],
    where: str,
    source: str,
    index: Index,
    roles: Roles,
    kinds: Mapping[str, Any],
) -> Table:
    named = named_pictures(table, index, where, roles.file)
    free = table.drop(columns=[c for c in table.columns if c == named.file or c in kinds])
    split = split_column(table if roles.split else free, where, roles.split)
    identity, doubts = identity_column(table if roles.identity else free, where, roles.identity)
    others = [c for c in table.columns if c not in (named.file, split, identity)]
    decided, found = (
        (None, []) if split is None else parts(table, split, lines, asked=roles.split is not None)
    )
    attributes, labels, left = attributes_of(table[others], where, source, kinds)
    people = None if identity is None else texts(table[identity])
    rows = [row for row, cell in enumerate(named.cells) if cell and not named.several[row]]
    return Table(
        attributes,
        [named.pictures[row] or named.cells[row] for row in rows],
        labels[rows],
        [lines[row] for row in rows],
        parts=None if decided is None else decided[rows],
        identities=None if people is None else [people[row] for row in rows],
        findings=[*left, *doubts, *found, *_unusable(named, lines)],
    )


def _unusable(named: Named, lines: Sequence[str]) -> Iterator[Finding]:
    """Yield the rows that name no picture, or several."""
    for cell, several, line in zip(named.cells, named.several, lines, strict=True):
        if not cell:
            yield Finding("row without a name", line, "left out", f"column '{named.file}' is empty")
        elif several:
            yield Finding("row that fits several pictures", f"{line}: '{cell}'", "left out", several)
