"""Pictures joined with what is said of them: one row a picture, every stray counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvmbench import Attribute, DataError, Finding
from lvmbench_images.archive import Archive, Member, plain
from lvmbench_images.copies import copies
from lvmbench_images.splits import amiss, completed
from lvmbench_images.table import PARTS, UNDECIDED, Labels, Table


@dataclass(frozen=True)
class Album:
    """Pictures of a data set: names in the archive, sizes and checksums, labels [N, A], splits, lasting numbers [N].

    ``draws`` [N] in [0, 1) put the pictures of a split in their lasting order: a prefix is a fair sample, and a
    picture keeps its place when others come and go. ``identities`` [N] are numbers of people, where they are known.
    """

    attributes: tuple[Attribute, ...]
    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    crcs: NDArray[np.int64]
    labels: Labels
    parts: NDArray[np.int8]
    draws: NDArray[np.float64]
    rows: NDArray[np.int64]
    identities: NDArray[np.int64] | None
    findings: tuple[Finding, ...]

    def order(self, part: str) -> NDArray[np.int64]:
        """Return the pictures of a split in their lasting order: [n]."""
        here = np.flatnonzero(self.parts == PARTS.index(part))
        return here[np.argsort(self.draws[here], kind="stable")]

    def pictures_digest(self, part: str) -> str:
        """Name the files of a split and their order, whatever is said of them."""
        order = self.order(part)
        digest = hashlib.sha256("\0".join(self.names[i] for i in order).encode())
        digest.update(self.sizes[order].tobytes() + self.crcs[order].tobytes())
        return digest.hexdigest()

    def digest(self) -> str:
        """Name all that is known of the pictures."""
        digest = hashlib.sha256(json.dumps([asdict(a) for a in self.attributes]).encode())
        for part in PARTS:
            order = self.order(part)
            digest.update(self.pictures_digest(part).encode() + self.labels[order].tobytes())
            digest.update(self.rows[order].tobytes())
            digest.update(b"" if self.identities is None else self.identities[order].tobytes())
        return digest.hexdigest()


def assemble(title: str, files: Archive, table: Table, *, drop_duplicates: bool = False) -> Album:
    """Return the pictures of an archive that a table has rows of.

    Rows of one picture are one where they agree; where they do not, the labels in question are missing. A split that
    is given stays. Of the pictures without one, a tenth is drawn for each of val and test by a hash of their names, or
    of their people's, who stay whole; a val or test that no picture is given to is drawn from train.

    Raises:
        DataError: if no picture has a row.
    """
    named, found = _by_name(files)
    found += table.findings
    members = {name: member for name, member in named.items() if not member.fault}
    groups = {n: rows for n, rows in _rows_by_name(table).items() if n in members or n not in named}
    joined = [name for name in groups if name in members]
    if not joined:
        raise DataError(_nothing_joined(title, files, table, members))
    found += [
        Finding("row without a picture", _where(table, r[0]), "left out")
        for n, r in groups.items()
        if n not in members
    ]
    found += [
        Finding("picture without a row", f"{files.path}: '{member.name}'", "left out")
        for name, member in members.items()
        if name not in groups
    ]
    labels, disagreements = _merged(table, [groups[name] for name in joined])
    first = np.array([groups[name][0] for name in joined])
    album = _album(title, table, [members[name] for name in joined], first, labels)
    kept, told = copies(
        files, album.names, album.sizes, album.crcs, album.parts, album.draws, labels, drop_duplicates
    )
    rows = first[kept]
    people = None if table.identities is None else [table.identities[row] for row in rows]
    odd = amiss(str(files.path), _given(table, rows), album.parts[kept], people, table.drawn)
    return _only(album, kept, (*found, *disagreements, *told, *odd))


def draw(text: str) -> float:
    """Return the lasting random number of a text, in [0, 1)."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48


def number(text: str) -> int:
    """Return the lasting number of a text, which no other text is likely to have."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _by_name(files: Archive) -> tuple[dict[str, Member], list[Finding]]:
    """Return the pictures by the names that are compared, and what is wrong there: of two alike the first stays."""
    members: dict[str, Member] = {}
    found = files.findings()
    for member in files.members():
        where = f"{files.path}: '{member.name}'"
        if member.fault:
            found.append(Finding("picture that cannot be read", where, "left out", member.fault))
        first = members.setdefault(plain(member.name), member)
        if first is not member:
            told = f"the same as '{first.name}', written in another way"
            found.append(Finding("name written in two ways", where, "left out", told))
    return members, found


def _rows_by_name(table: Table) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(table.names):
        groups.setdefault(plain(name), []).append(row)
    return groups


def _where(table: Table, row: int) -> str:
    return f"{table.lines[row]}: '{table.names[row]}'"


def _nothing_joined(title: str, files: Archive, table: Table, members: dict[str, Member]) -> str:
    there = f"the first there: '{next(iter(members))}'" if members else "there is none"
    wanted = f"{_where(table, 0)} is the first" if len(table.names) else "there are no rows"
    return f"{title}: no picture of {files.path} ({there}) is named in its labels ({wanted})."


def _merged(table: Table, groups: Sequence[list[int]]) -> tuple[Labels, list[Finding]]:
    """Return the labels of each group of rows, missing where they disagree, and each row that is not the first."""
    labels = table.labels[[group[0] for group in groups]].copy()
    facts, found = _facts(table), []
    for place, group in enumerate(groups):
        if len(group) == 1:
            continue
        rows = table.labels[group]
        apart = np.array([len(np.unique(column)) > 1 for column in rows.T])  # NaN is one value
        labels[place, apart] = np.nan
        told = [f"{table.attributes[a].name}: missing" for a in np.flatnonzero(apart)]
        told += [f"{name}: of the first" for name, values in facts if len({values[r] for r in group}) > 1]
        what = "rows of one picture that disagree" if told else "row twice"
        more = ", ".join(told) or "read once"
        found += [
            Finding(what, _where(table, row), "changed" if told else "noted", more) for row in group[1:]
        ]
    return labels, found


def _facts(table: Table) -> list[tuple[str, Sequence[Any]]]:
    """Return what the rows say besides labels."""
    facts = {"split": table.parts, "identity": table.identities}
    return [(name, list(values)) for name, values in facts.items() if values is not None]


def _album(
    title: str, table: Table, members: Sequence[Member], first: NDArray[np.int64], labels: Labels
) -> Album:
    keys = [plain(member.name) for member in members]
    identities = None if table.identities is None else [table.identities[row] for row in first]
    people = [
        f"person {i}" if i else key for key, i in zip(keys, identities or [""] * len(keys), strict=True)
    ]
    numbers = _numbered(people)
    draws = np.array([draw(f"{title}/{person}") for person in people])
    rows = [number(f"{title}/{key}") for key in keys] if table.rows is None else table.rows[first]
    return Album(
        table.attributes,
        tuple(member.name for member in members),
        np.array([member.size for member in members], dtype=np.int64),
        np.array([member.crc for member in members], dtype=np.int64),
        labels,
        completed(_given(table, first), numbers, draws),
        np.array([draw(f"{title}/{key}") for key in keys]),
        np.array(rows, dtype=np.int64),
        None if identities is None else numbers,
        (),
    )


def _given(table: Table, rows: NDArray[np.int64]) -> NDArray[np.int8]:
    """Return the splits that rows say."""
    return np.full(len(rows), UNDECIDED, np.int8) if table.parts is None else table.parts[rows]


def _numbered(people: Sequence[str]) -> NDArray[np.int64]:
    numbers = {person: place for place, person in enumerate(sorted(set(people)))}
    return np.array([numbers[person] for person in people], dtype=np.int64)


def _only(album: Album, kept: NDArray[np.bool_], findings: Sequence[Finding]) -> Album:
    """Return the pictures that are kept, with all that was found."""
    arrays: dict[str, Any] = {n: a[kept] for n, a in vars(album).items() if isinstance(a, np.ndarray)}
    names = tuple(name for name, keep in zip(album.names, kept, strict=True) if keep)
    short = replace(album, names=names, **arrays)
    return replace(short, findings=(*findings, *_empty_classes(short)))


def _empty_classes(album: Album) -> Iterator[Finding]:
    for place, attribute in enumerate(album.attributes):
        there = set(album.labels[:, place][~np.isnan(album.labels[:, place])].astype(int).tolist())
        names = attribute.classes or (("no", "yes") if attribute.kind == "binary" else ())
        for value, name in enumerate(names):
            if value not in there:
                yield Finding("class without a picture", f"{attribute.name}: '{name}'")
