"""From the bytes of a JPEG to pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lvmbench import DataError

MAX_SIDE = 2048


def decode(content: bytes, name: str, side: int) -> NDArray[np.uint8]:
    """Return a square JPEG as RGB, resized with a Lanczos filter where its side differs: uint8 [3, H, W].

    Raises:
        DataError: if the picture is truncated, not a JPEG, not square or absurdly large; says its name.
    """
    try:
        picture = Image.open(io.BytesIO(content), formats=["JPEG"])
        if picture.width != picture.height or picture.width > MAX_SIDE:
            raise DataError(f"{name}: {picture.width}×{picture.height} pixels; a square picture is needed.")
        rgb = picture.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded ({error}). Fetch the file again.") from error
    if rgb.width != side:
        rgb = rgb.resize((side, side), Image.Resampling.LANCZOS)
    return np.asarray(rgb).transpose(2, 0, 1)


def halve(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pictures at half their side, four pixels to one: uint8 [N, C, 2H, 2W] -> [N, C, H, W]."""
    wide = images.astype(np.uint16)
    four = wide[..., ::2, ::2] + wide[..., 1::2, ::2] + wide[..., ::2, 1::2] + wide[..., 1::2, 1::2]
    return ((four + 2) // 4).astype(np.uint8)
