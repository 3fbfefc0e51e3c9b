"""dSprites: all positions, sizes and turns of three white shapes (Matthey, Higgins, Hassabis & Lerchner 2017).

Written after the published description, and not tried on the published file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import numpy as np
from annotated_types import Ge

from lvmbench import Attribute, DataError, Schema
from lvmbench_images.grid import MAX_ROWS, Bytes, Factor, FactorGrid, Rows, Values
from lvmbench_images.places import OPTION, find

SIDE = 64
BLOCK = 4096  # pictures that are unpacked at a time
FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
REMEDY = (
    f"Get it from https://github.com/google-deepmind/dsprites-dataset (licence Apache-2.0) {OPTION} It is not "
    "fetched by --download, for no checksum of it is known here."
)
SHAPE = Attribute("shape", "categorical", ("square", "ellipse", "heart"))
SCALE = Attribute("scale", "ordinal", unit="of the largest", note="0.5 to 1")
X = Attribute("x", "ordinal", unit="of the range", note="0 to 1")
Y = Attribute("y", "ordinal", unit="of the range", note="0 to 1")
FACTORS = (
    Factor("color", varies=False),
    Factor("shape", SHAPE, first=1),
    Factor("scale", SCALE),
    Factor("orientation"),
    Factor("x", X),
    Factor("y", Y),
)


class DSprites(FactorGrid):
    """dSprites: 737,280 pictures of 64×64 pixels, one for each shape, scale, orientation, x and y; 0 or 255.

    The orientation is a factor and no attribute: a square looks the same after a quarter of a turn and an ellipse
    after a half, the first and the last of its 40 values are the same, and it is an angle, of which 0 and 2π are
    neighbours. A probe of it as a number would be scored for none of this.
    """

    def __init__(self, *, seed: Annotated[int, Ge(0)] = 0) -> None:
        schema = Schema((1, SIDE, SIDE), "bernoulli", (SHAPE, SCALE, X, Y))
        super().__init__("dsprites", schema, FACTORS, seed)

    def locate(self) -> Sequence[Path]:
        """Return the npz file."""
        return [find("dSprites", "dsprites", [FILE], REMEDY)]

    def table(self, path: Path) -> Values:
        """Return ``latents_values``; the member ``metadata``, which is pickled, is never opened."""
        with _member(path, "latents_values.npy") as file:
            shape = _announced(file, path, np.dtype(np.float64))
            if len(shape) != 2 or shape[1] != len(FACTORS) or not 1 <= shape[0] <= MAX_ROWS:
                raise DataError(f"{path}: latents_values is {shape}, not (737280, {len(FACTORS)}). {REMEDY}")
            return np.frombuffer(_exactly(file, 8 * shape[0] * shape[1], path), np.float64).reshape(shape)

    def blocks(self, path: Path, rows: Rows) -> Iterator[Bytes]:
        """Yield the pictures of rows; ``imgs`` is unpacked to its end, where its checksum stands."""
        with _member(path, "imgs.npy") as file:
            shape = _announced(file, path, np.dtype(np.uint8))
            if shape[1:] != (SIDE, SIDE) or shape[0] != self.count:
                raise DataError(f"{path}: imgs is {shape}, not a picture of 64×64 a row. {REMEDY}")
            for first in range(0, shape[0], BLOCK):
                count = min(BLOCK, shape[0] - first)
                block = np.frombuffer(_exactly(file, count * SIDE * SIDE, path), np.uint8)
                if block.max() > 1:
                    raise DataError(f"{path}: imgs holds a {block.max()}; pixels are 0 or 1. {REMEDY}")
                chosen = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + count)] - first
                yield block.reshape(count, 1, SIDE, SIDE)[chosen] * np.uint8(255)
            if file.read(1):
                raise DataError(f"{path}: imgs holds more than its header says. {REMEDY}")


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open a member of the file; whatever is wrong with it is told by the name of the file."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # readers of zips, of lzma and of numpy's headers raise what they like
        told = str(error) or type(error).__name__
        raise DataError(f"{path}: '{name}' cannot be read ({told}). {REMEDY}") from error


def _announced(file: IO[bytes], path: Path, dtype: np.dtype[np.generic]) -> tuple[int, ...]:
    """Return the shape in the header of an array, which must be of one kind of number and in C order."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:
        raise DataError(f"{path}: an array of format {version}, which is not read. {REMEDY}")
    shape, fortran, found = read[version](file)
    if found != dtype or fortran:
        raise DataError(f"{path}: an array of {found}, not of {dtype}. {REMEDY}")
    return shape


def _exactly(file: IO[bytes], size: int, path: Path) -> bytes:
    content = file.read(size)
    if len(content) != size:
        raise DataError(f"{path} ends early. {REMEDY}")
    return content
