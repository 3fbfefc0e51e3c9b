"""The idx format of MNIST and its relatives: a big-endian header, then unsigned bytes; gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvmbench import DataError

Bytes = NDArray[np.uint8]

MAX_COUNT = 100_000  # items in a file: MNIST has 60,000, a gzip bomb claims more


def read_idx(path: Path, shape: tuple[int, ...], remedy: str) -> Bytes:
    """Return the items of an idx file, gzipped where its name says so: uint8 [N, *shape].

    Raises:
        DataError: if the file is damaged, or its header announces something else than is there or is wanted.
    """
    try:
        with _open(path) as file:
            count = parse_header(file.read(8 + 4 * len(shape)), path, shape, remedy)
            size = count * math.prod(shape)
            content = file.read(size + 1)  # one more would be too many, and reaching the end checks the gzip
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Fetch it again.") from error
    if len(content) != size:
        found = "more" if len(content) > size else f"only {len(content)}"
        raise DataError(f"{path} announces {count} items, {size} bytes; {found} follow. Fetch it again.")
    return np.frombuffer(content, np.uint8).reshape(count, *shape)


def parse_header(head: bytes, path: Path, shape: tuple[int, ...], remedy: str) -> int:
    """Return how many items of this shape an idx header of 8 + 4·len(shape) bytes announces.

    Raises:
        DataError: if it is no such header.
    """
    if len(head) != 8 + 4 * len(shape):
        raise DataError(f"{path} ends within its header, after {len(head)} bytes. Fetch it again.")
    magic, count, *found = (int(number) for number in np.frombuffer(head, ">u4"))
    expected = 0x0801 + len(shape)  # unsigned bytes, and the number of axes
    if magic != expected:
        raise DataError(
            f"{path} starts with {magic}; an idx file of its name starts with {expected}. {remedy}"
        )
    if tuple(found) != shape:
        there, wanted = ("×".join(map(str, sides)) for sides in (found, shape))
        raise DataError(f"{path} holds pictures of {there} pixels, not {wanted}. {remedy}")
    if not 1 <= count <= MAX_COUNT:
        raise DataError(f"{path} announces {count} items; 1 to {MAX_COUNT} are read. {remedy}")
    return count


def _open(path: Path) -> BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")
