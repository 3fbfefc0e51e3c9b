"""From the bytes of a file to the pixels of a picture, by stated rules; what was changed on the way is told.

A picture is turned as its EXIF says, of an animation the first frame is taken, transparency is laid on white, 16 bits
become 8, and what is not in the asked channels is converted. Then it is cut, and resized.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from lvmbench import DataError

Bytes = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Cut = Box | Literal["centre", "whole"]
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # none that runs another program
PHOTOGRAPHS = ("JPEG", "MPO")  # the latter is a JPEG that a camera put a preview or a depth map beside
MAX_PIXELS = 64_000_000
LARGE = 8_000_000  # pixels of a picture that is decoded while no other such is: memory stays bounded
DRAFT = (
    4  # a JPEG so many times as large as is asked is decoded at a half, a quarter or an eighth of its size
)
ORIENTATION = 0x0112
TURNED = range(2, 9)
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
GREY = ("1", "L", "LA")

_large = threading.Lock()


@dataclass(frozen=True)
class Frame:
    """How a file becomes a picture of ``size`` × ``size`` pixels in one channel or three.

    ``cut`` is the largest square in the middle, the whole picture squeezed, or a box in a picture of the size
    ``of`` (width, height), scaled to the size that is found. ``invert`` makes dark ink on light ground light on dark.
    """

    size: int
    channels: Literal[1, 3] = 3
    cut: Cut = "centre"
    of: tuple[int, int] | None = None
    filter: Image.Resampling = Image.Resampling.BILINEAR
    invert: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the shape of a picture: [C, H, W]."""
        return self.channels, self.size, self.size


def decode(content: bytes, frame: Frame) -> tuple[Bytes, list[str]]:
    """Return a picture, uint8 [C, size, size], and what was changed to have it.

    Raises:
        DataError: if it cannot be decoded, with the reason and without a name.
    """
    if not content:
        raise DataError("an empty file")
    try:
        return _decoded(content, frame)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes a decoder raise anything
        raise DataError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


def _decoded(content: bytes, frame: Frame) -> tuple[Bytes, list[str]]:
    file = _opened(content)
    if file.width * file.height > MAX_PIXELS:
        raise DataError(f"claims {file.width:,} × {file.height:,} pixels")
    _draft(file, frame)
    with _large if file.width * file.height > LARGE else contextlib.nullcontext():
        return _made(file, frame)


def _opened(content: bytes) -> ImageFile.ImageFile:
    """Return a file of a known kind; ``Image.open`` would warn of its pixels before they are counted here."""
    for kind in FORMATS:
        if kind not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN[kind]
        if accept is None or accept(content[:16]) is True:
            with contextlib.suppress(
                SyntaxError, IndexError, TypeError, struct.error
            ):  # another kind, after all
                return factory(io.BytesIO(content), "")
    raise DataError(f"no picture of a known kind: {', '.join(FORMATS)}")


def _made(file: ImageFile.ImageFile, frame: Frame) -> tuple[Bytes, list[str]]:
    deep = _is_deep(file)
    tag = getattr(file, "tag_v2", {}).get(ORIENTATION)  # of a TIFF, which Pillow turns as it loads it
    file.load()
    turned = "exif" in file.info and file.getexif().get(ORIENTATION) in TURNED
    picture = _eight_bits(ImageOps.exif_transpose(file) if turned else file, deep)
    remarks = [
        *["16 bits made 8"] * deep,
        *["the first frame of an animation"] * _is_animated(file),
        *["turned as its EXIF says"] * (turned or tag in TURNED),
        *_remarks(picture, frame),
    ]
    picture = _converted(picture, frame)
    picture, box = _cut(picture, _box(frame, picture.width, picture.height))
    if picture.size != (frame.size, frame.size) or box != (0, 0, *picture.size):
        picture = picture.resize((frame.size, frame.size), frame.filter, box=box)
    pixels = np.asarray(picture) ^ np.uint8(255 * frame.invert)
    return pixels.reshape(frame.size, frame.size, frame.channels).transpose(2, 0, 1), remarks


def _is_deep(file: ImageFile.ImageFile) -> bool:
    """Return whether a file has 16 bits a channel, before it is loaded.

    Raises:
        DataError: if it has more, or a sign.
    """
    if file.format == "TIFF" and file.mode == "I":
        raise DataError("pixels of 32 bits or with a sign, whose range is not known")
    greatest = [args[-1] for _, _, _, args in file.tile if file.format == "PPM" and isinstance(args, tuple)]
    return (
        file.mode in DEEP or any(";16" in str(tile) for tile in file.tile) or any(n > 255 for n in greatest)
    )


def _is_animated(file: ImageFile.ImageFile) -> bool:
    return getattr(file, "is_animated", False) and file.format not in PHOTOGRAPHS


def _eight_bits(picture: Image.Image, deep: bool) -> Image.Image:
    """Return a picture in channels of 8 bits, with the colour that it says is transparent."""
    clear = picture.info.get("transparency")
    if (
        deep and picture.mode == "RGB" and clear is not None
    ):  # Pillow keeps the first 8 bits, but of this colour 16
        picture.info["transparency"] = tuple(value >> 8 for value in clear)
    if picture.mode not in DEEP:
        return picture
    values = np.asarray(picture).astype(np.int64)
    grey = Image.fromarray((values.clip(0, 65535) // 257).astype(np.uint8))
    if clear is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _draft(picture: Image.Image, frame: Frame) -> None:
    """Have the decoder scale a large JPEG down, to at least twice of what is asked: it takes a fraction of the time."""
    scale = 2 * frame.size / min(picture.size)
    if picture.format in PHOTOGRAPHS and scale * DRAFT <= 2:
        picture.draft(None, (math.ceil(picture.width * scale), math.ceil(picture.height * scale)))


def _remarks(picture: Image.Image, frame: Frame) -> Iterator[str]:
    """Yield what will be changed."""
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        yield f"{picture.mode} made {'RGB' if frame.channels == 3 else 'grey'}"
    if picture.mode == "P":
        yield "a palette made colours"
    if picture.has_transparency_data and _alpha(picture).getextrema()[0] < 255:  # type: ignore[operator]
        yield "transparency laid on white"
    if (picture.mode in GREY) != (frame.channels == 1):
        yield "grey made RGB" if frame.channels == 3 else "colours made grey"


def _alpha(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA").getchannel("A")


def _converted(picture: Image.Image, frame: Frame) -> Image.Image:
    """Return a picture in the asked channels."""
    if picture.mode == "F":
        raise DataError("floating-point pixels, whose range is not known")
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        picture = Image.new("RGBA", whole.size, "white")
        picture.alpha_composite(whole)
    return picture.convert("RGB" if frame.channels == 3 else "L")


def _box(frame: Frame, width: int, height: int) -> Box:
    """Return what is cut out of a picture of this size."""
    if frame.cut == "whole":
        return 0, 0, width, height
    if frame.cut == "centre":
        side = min(width, height)
        x, y = (width - side) // 2, (height - side) // 2
        return x, y, x + side, y + side
    wide, high = frame.of or (width, height)
    if abs(width * high / (height * wide) - 1) > 0.02:
        raise DataError(f"{width} × {height} pixels, where {wide} × {high} or a scaled copy is needed")
    left, top, right, bottom = frame.cut
    return left * width / wide, top * height / high, right * width / wide, bottom * height / high


def _cut(picture: Image.Image, box: Box) -> tuple[Image.Image, Box]:
    """Return the part of a picture that a box touches, and the box in it: a filter is not to reach beyond."""
    left, top, right, bottom = box
    x, y = math.floor(left), math.floor(top)
    part = picture.crop((x, y, math.ceil(right), math.ceil(bottom)))
    return part, (left - x, top - y, right - x, bottom - y)
