"""Codes and tables in files, which come from outside: read without running anything that they say."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError

from lvmbench.errors import DataError, UsageError

DELIMITERS = (",", ";", "\t", "|")
SNIFFED = 20  # lines that tell the delimiter
UNNAMED = ("", "Unnamed: 0")  # what pandas calls an index that it wrote, and one that it read again


def read_table(path: Path, content: bytes | None = None) -> pd.DataFrame:
    """Return the table in a CSV or Parquet file, the cells of a CSV as texts; ``content`` of one that lies in a zip.

    ``attrs["lines"]`` of a CSV's table are the lines of the file that its rows end in.

    Raises:
        DataError: if it cannot be read as one; names the file and the line.
        UsageError: if the kind of file is unknown, or its reader not installed.
    """
    csv_table, parquet = partial(_csv_table, content=content), partial(_parquet, content=content)
    return _read(path, {".csv": csv_table, ".tsv": csv_table, ".parquet": parquet})  # type: ignore[no-any-return]


def read_codes(path: Path) -> NDArray[Any]:
    """Return the array [N, D] in a .npy, .npz, .csv, .parquet or .safetensors file; nothing is unpickled.

    Raises:
        DataError: if it cannot be read, or holds more than one array.
        UsageError: if the kind of file is unknown, or its reader not installed.
    """
    readers = {
        ".npy": _npy,
        ".npz": _npz,
        ".safetensors": _safetensors,
        ".csv": _csv_codes,
        ".tsv": _csv_codes,
        ".parquet": lambda path: _parquet(path).to_numpy(),
    }
    return np.asarray(_read(path, readers))


def _read(path: Path, readers: dict[str, Callable[[Path], Any]]) -> Any:
    if path.suffix.lower() not in readers:
        raise UsageError(f"{path}: no file of a known kind: {', '.join(readers)}.")
    try:
        return readers[path.suffix.lower()](path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}.") from None
    except (ValueError, EOFError, KeyError, MemoryError, OverflowError, SafetensorError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error or type(error).__name__}.") from None


def _npy(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        return _loaded(path, file)


def _npz(path: Path) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            _require_one(path, archive.namelist())
            return _loaded(path, io.BytesIO(archive.read(archive.namelist()[0])))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a whole .npz file ({error}).") from None


def _loaded(path: Path, file: Any) -> NDArray[Any]:
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # numpy's reader of headers raises what a parser of Python may
        told = f"not a whole .npy file ({error or type(error).__name__})"
        if "allow_pickle" in str(error):
            told = (
                "holds Python objects, which are never unpickled. Save an array of numbers: "
                "np.save(path, np.asarray(codes, dtype='float32'))"
            )
        raise DataError(f"{path}: {told}.") from None


def _safetensors(path: Path) -> NDArray[Any]:
    from safetensors.torch import load

    tensors = load(path.read_bytes())
    _require_one(path, list(tensors))
    return tensors.popitem()[1].float().numpy()


def _require_one(path: Path, names: list[str]) -> None:
    if len(names) != 1:
        raise DataError(f"{path}: holds {len(names)} arrays ({', '.join(names) or 'none'}), one is needed.")


def _parquet(path: Path, content: bytes | None = None) -> pd.DataFrame:
    with path.open("rb") if content is None else io.BytesIO(content) as file:
        try:
            return pd.read_parquet(file)
        except ImportError:
            raise UsageError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow.") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: not a whole Parquet file ({error}).") from None


def _csv_table(path: Path, content: bytes | None = None) -> pd.DataFrame:
    rows, lines = _csv_rows(path, content)
    table = pd.DataFrame(rows[1:], columns=rows[0], dtype=object)
    table.attrs["lines"] = lines[1:]
    return table


def _csv_codes(path: Path) -> NDArray[np.float64]:
    """Return the numbers of a CSV file, with or without a line of names."""
    rows, _ = _csv_rows(path)
    named = any(_number(cell) is None for cell in rows[0])
    found = [[_number(cell) for cell in row] for row in rows[named:]]
    for r, row in enumerate(found):
        for column, value in enumerate(row):
            if value is None:
                cell = rows[r + named][column]
                raise DataError(f"{path}, row {r + 1}, column {column + 1}: '{cell}' is not a number.")
    codes = np.array(found, dtype=np.float64).reshape(len(found), len(rows[0]))
    if rows[0][0] in UNNAMED:
        _refuse_index(path, codes[:, 0])
    return codes


def _refuse_index(path: Path, column: NDArray[np.float64]) -> None:
    """Refuse a column that counts the rows, from 0 or from 1; a single row counts nothing."""
    places = np.arange(len(column))
    if len(column) > 1 and any(np.array_equal(column, places + start) for start in (0, 1)):
        raise DataError(
            f"{path}: the first column has no name and counts the rows, so it is an index and no code. Save the "
            "codes without it: to_csv(path, index=False)."
        )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _csv_rows(path: Path, content: bytes | None = None) -> tuple[list[list[str]], list[int]]:
    """Return the rows of a CSV file, the first one too, all equally long, and the line that each ends in.

    Blank lines are none.
    """
    text = _text(path, content)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    for row in reader:
        if not row:
            continue
        if rows and len(row) != len(rows[0]):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(row)} cells, where the first line has {len(rows[0])}."
            )
        rows.append([cell.strip() for cell in row])
        lines.append(reader.line_num)
    if not rows:
        raise DataError(f"{path}: the file is empty.")
    if delimiter == ";":
        rows = [[_point(cell) for cell in row] for row in rows]
    return rows, lines


def _text(path: Path, content: bytes | None) -> str:
    try:
        return (path.read_bytes() if content is None else content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8.") from None


def _delimiter(text: str) -> str:
    """Return what stands between cells: what splits the first lines alike, else what splits the first one most."""
    head = "\n".join(text.splitlines()[:SNIFFED])

    def fit(delimiter: str) -> tuple[bool, int]:
        widths = [len(row) for row in csv.reader(io.StringIO(head), delimiter=delimiter) if row] or [0]
        return len(set(widths)) == 1 and widths[0] > 1, widths[0]

    return max(DELIMITERS, key=fit)


def _point(cell: str) -> str:
    """Return a number that has a comma for its decimal point, as files with semicolons do, with a point."""
    changed = cell.replace(",", ".", 1)
    return changed if changed != cell and _number(changed) is not None else cell
