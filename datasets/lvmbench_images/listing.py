"""The lists that come with CelebA: on each line the name of a picture and whole numbers, as text or as CSV."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lvmbench import DataError

MAX_BYTES = 200_000_000  # the longest of these lists has 27 million
WHOLE = re.compile(rb"[+-]?\d{1,9}")
REMEDY = "Fetch the file again."

Line = tuple[int, bytes]  # counted from 1


@dataclass(frozen=True)
class Listing:
    """Names of pictures [M], what is said of each as whole numbers [M, K], and the line that it stands on [M].

    ``columns`` names the K columns, () where the file does not; ``announced`` is the count in a line of its own at
    the start, None without one.
    """

    path: Path
    names: list[str]
    numbers: NDArray[np.int32]
    lines: list[int]
    columns: tuple[str, ...] = ()
    announced: int | None = None

    def where(self, row: int) -> str:
        """Tell the file and the line of a row."""
        return f"{self.path}, line {self.lines[row]}"


def read_listing(path: Path) -> Listing:
    """Return a list in either form: white space or commas, with or without a count, names of columns and CRLF.

    Raises:
        DataError: if the file cannot be read, or a line is not of its form; names the line.
    """
    lines = [(n, line) for n, line in enumerate(_content(path).splitlines(), 1) if line.strip()]
    announced = int(lines[0][1]) if lines and re.fullmatch(rb"\s*\d{1,9}\s*", lines[0][1]) else None
    rows = lines if announced is None else lines[1:]
    separator = next((mark for mark in (b",", b";") if rows and mark in rows[0][1]), None)
    header = _cells(rows[0][1], separator) if rows else []
    if header and not WHOLE.fullmatch(header[-1]):
        rows = rows[1:]
    else:
        header = []
    if not rows:
        raise DataError(f"{path} lists no picture. {REMEDY}")
    width = len(_cells(rows[0][1], separator))
    if header and len(header) not in (width - 1, width):
        raise DataError(
            f"{path}, line {rows[0][0]}: {width} cells below {len(header)} names of columns. {REMEDY}"
        )
    names, numbers = _parsed(path, rows, separator, width)
    columns = tuple(cell.decode("utf-8", "replace") for cell in header[len(header) - width + 1 :])
    return Listing(path, names, numbers, [n for n, _ in rows], columns, announced)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} holds more than {MAX_BYTES:,} bytes, more than any list of CelebA. {REMEDY}")
    return content.removeprefix(codecs.BOM_UTF8)


def _cells(line: bytes, separator: bytes | None) -> list[bytes]:
    return [cell.strip().strip(b'"') for cell in line.split(separator)]


def _parsed(
    path: Path, rows: Sequence[Line], separator: bytes | None, width: int
) -> tuple[list[str], NDArray[np.int32]]:
    """Return the first cells of all lines, and the others as whole numbers: [M], [M, width - 1]."""
    try:
        table = pd.read_csv(
            io.BytesIO(b"\n".join(line for _, line in rows)),
            sep=r"\s+" if separator is None else separator.decode(),
            header=None,
            names=list(range(width)),
            dtype={0: str, **dict.fromkeys(range(1, width), np.int32)},
            index_col=False,
            na_filter=False,
        )
    except ValueError as error:  # of pandas' parser too; it does not always know the line
        raise next(_wrong(path, rows, separator, width), DataError(f"{path}: {error}. {REMEDY}")) from error
    if len(table) != len(rows):
        raise DataError(f"{path}: a quotation mark opens and does not close on its line. {REMEDY}")
    return table[0].str.strip().tolist(), table.iloc[:, 1:].to_numpy(np.int32)


def _wrong(path: Path, rows: Sequence[Line], separator: bytes | None, width: int) -> Iterator[DataError]:
    """Yield the error of each line that is not a name and whole numbers."""
    for n, line in rows:
        cells = _cells(line, separator)
        if len(cells) != width:
            told = f"{len(cells)} cells, where the first row has {width}"
        elif word := next((cell for cell in cells[1:] if not WHOLE.fullmatch(cell)), None):
            told = f"'{word.decode('utf-8', 'replace')}' is not a whole number"
        elif not all(cells):
            told = "an empty cell"
        else:
            continue
        yield DataError(f"{path}, line {n}: {told}. {REMEDY}")
