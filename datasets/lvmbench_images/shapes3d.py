"""3D Shapes: all colours, sizes, forms and views of a solid in a room (Burgess & Kim 2018).

Written after the published description, and not tried on the published file. That gives hues and sizes from 0 to 1;
those in the file are said to run from 0 to 0.9 and from 0.75 to 1.25, and other hues are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge

from lvmbench import Attribute, DataError, Schema, UsageError
from lvmbench_images.grid import MAX_ROWS, Bytes, Factor, FactorGrid, Rows, Values
from lvmbench_images.places import OPTION, find

SIDE = 64
BLOCK = 64_000_000  # bytes of pictures that are unpacked at a time
MAX_CHUNK = 256_000_000  # bytes that the file makes one piece of
FILE = "3dshapes.h5"
REMEDY = (
    f"Get it from https://github.com/google-deepmind/3d-shapes (licence Apache-2.0) {OPTION} It is not fetched by "
    "--download, for no checksum of it is known here."
)
HUES = tuple(f"{hue / 10:.1f}" for hue in range(10))
FORMS = ("cube", "cylinder", "sphere", "pill")
NOTE = "a hue is a place on a circle, so that its ten values are classes"
FACTORS = (
    *(
        Factor(n, Attribute(n, "categorical", HUES, note=NOTE), step=0.1)
        for n in ("floor_hue", "wall_hue", "object_hue")
    ),
    Factor("scale", Attribute("scale", "ordinal", unit="of the middle size", note="0.75 to 1.25")),
    Factor("shape", Attribute("shape", "categorical", FORMS)),
    Factor(
        "orientation", Attribute("orientation", "ordinal", unit="degrees", note="-30 to 30, no full turn")
    ),
)


class Shapes3D(FactorGrid):
    """3D Shapes: 480,000 pictures of 64×64 pixels, one for each hue of floor, wall and solid, size, form and view."""

    def __init__(self, *, seed: Annotated[int, Ge(0)] = 0) -> None:
        attributes = tuple(factor.attribute for factor in FACTORS if factor.attribute)
        super().__init__("shapes3d", Schema((3, SIDE, SIDE), "gaussian", attributes), FACTORS, seed)

    def locate(self) -> Sequence[Path]:
        """Return the HDF5 file.

        Raises:
            UsageError: if it is there and h5py is not.
        """
        path = find("3D Shapes", "shapes3d", [FILE], REMEDY)
        if find_spec("h5py") is None:
            raise UsageError(f"{path}: reading HDF5 needs h5py: pip install 'lvmbench[h5]'.")
        return [path]

    def table(self, path: Path) -> Values:
        """Return ``labels``."""
        with _array(path, "labels") as labels:
            if labels.ndim != 2 or labels.shape[1] != len(FACTORS) or not 1 <= len(labels) <= MAX_ROWS:
                raise DataError(f"{path}: labels is {labels.shape}, not (480000, {len(FACTORS)}). {REMEDY}")
            if labels.dtype.kind != "f":
                raise DataError(f"{path}: labels are {labels.dtype}, not numbers with a point. {REMEDY}")
            return np.asarray(labels[:], dtype=np.float64)

    def blocks(self, path: Path, rows: Rows) -> Iterator[Bytes]:
        """Yield the pictures of rows, read in blocks of whole pieces of the file."""
        with _array(path, "images") as images:
            if images.shape[1:] != (SIDE, SIDE, 3) or images.dtype != np.uint8:
                told = f"{images.shape} of {images.dtype}"
                raise DataError(f"{path}: images is {told}, not a picture of 64×64×3 bytes a row. {REMEDY}")
            if len(images) != self.count:
                raise DataError(f"{path}: {len(images):,} images and {self.count:,} labels. {REMEDY}")
            step = _step(images)
            for first in range(0, len(images), step):
                chosen = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + step)] - first
                if len(chosen):
                    yield np.asarray(images[first : first + step])[chosen].transpose(0, 3, 1, 2)


def _step(images: Any) -> int:
    """Return how many rows are read at a time: whole pieces, unless a piece goes through too many pictures."""
    size = SIDE * SIDE * 3
    piece = images.chunks[0] if images.chunks else 1
    return int(piece * max(1, BLOCK // (piece * size)) if piece * size < MAX_CHUNK else BLOCK // size)


@contextmanager
def _array(path: Path, name: str) -> Iterator[Any]:
    """Open an array in the file that is stored in it, not elsewhere.

    Raises:
        DataError: if it cannot be read.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise DataError(f"{path} holds no '{name}'. {REMEDY}")
            array = file[name]
            _refuse_strange(path, name, array, h5py.Dataset)
            yield array
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"{path}: '{name}' cannot be read ({error}). {REMEDY}") from error


def _refuse_strange(path: Path, name: str, array: Any, kind: type[Any]) -> None:
    """Refuse what is no array, what leads to another file, and pieces that no memory holds."""
    if not issubclass(type(array), kind) or array.is_virtual or array.external:
        raise DataError(f"{path}: '{name}' is no array in this file. {REMEDY}")
    if array.chunks and math.prod(array.chunks) * array.dtype.itemsize > MAX_CHUNK:
        raise DataError(f"{path}: '{name}' is stored in pieces of more than {MAX_CHUNK:,} bytes. {REMEDY}")
