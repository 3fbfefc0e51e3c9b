import contextlib
import io
import struct
import time
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lvmbench import DataError
from lvmbench_images import decode as rooms
from lvmbench_images.decode import Frame, decode
from pictures_support import encoded, noise, png

SIXTEEN = Frame(16)


def pixels(content, frame=SIXTEEN):
    """Return a picture as Pillow lays it out, uint8 [H, W, C], and what was changed."""
    picture, remarks = decode(content, frame)
    assert picture.shape == frame.shape
    assert picture.dtype == np.uint8
    return picture.transpose(1, 2, 0), remarks


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_file(width, height, depth, colour, raw, *more):
    """Return a PNG file built by hand: what Pillow cannot write, and what no one should."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + data + chunk(b"IEND", b"")


def deep_png(values, colour, *more):
    """Return a PNG file of 16-bit values: [H, W, channels] or [H, W]."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_file(values.shape[1], values.shape[0], 16, colour, rows, *more)


def test_a_picture_of_the_asked_size_is_its_file_without_a_remark():
    picture, remarks = pixels(png(1))
    assert (picture == noise(1)).all()
    assert not remarks


@pytest.mark.parametrize(("wide", "high"), [(20, 16), (16, 21), (17, 16)])
def test_the_largest_square_in_the_middle_is_cut(wide, high):
    whole = np.random.default_rng(0).integers(0, 256, (high, wide, 3), dtype=np.uint8)
    x, y = (wide - 16) // 2, (high - 16) // 2
    assert (pixels(encoded(whole))[0] == whole[y : y + 16, x : x + 16]).all()


def test_a_whole_picture_is_squeezed():
    whole = np.random.default_rng(0).integers(0, 256, (16, 32, 3), dtype=np.uint8)
    expected = Image.fromarray(whole).resize((16, 16), Image.Resampling.BILINEAR)
    assert (pixels(encoded(whole), Frame(16, cut="whole"))[0] == np.asarray(expected)).all()


def test_a_box_is_scaled_to_the_size_that_is_found_and_another_shape_is_refused():
    frame = Frame(8, cut=(4, 8, 12, 16), of=(32, 40))
    small = np.random.default_rng(0).integers(0, 256, (20, 16, 3), dtype=np.uint8)
    large = small.repeat(2, 0).repeat(2, 1)
    assert (pixels(encoded(large), frame)[0] == large[8:16, 4:12]).all()
    cut = Image.fromarray(small).crop((2, 4, 6, 8)).resize((8, 8), Image.Resampling.BILINEAR)
    inner = slice(1, -1)  # the outermost pixels are of what lies at the edge of the box
    assert (pixels(encoded(small), frame)[0][inner, inner] == np.asarray(cut)[inner, inner]).all()
    with pytest.raises(DataError, match="16 × 16 pixels, where 32 × 40 or a scaled copy"):
        decode(png(1), frame)


def test_grey_becomes_three_equal_channels_and_colours_grey_by_their_luma():
    grey = noise(1, channels=1)
    picture, remarks = pixels(encoded(grey))
    assert (picture == grey[:, :, None]).all()
    assert remarks == ["grey made RGB"]
    assert pixels(encoded(grey), Frame(16, 1))[1] == []
    picture, remarks = pixels(png(1), Frame(16, 1))
    luma = noise(1) @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert np.abs(picture[:, :, 0] - luma).max() <= 1
    assert remarks == ["colours made grey"]


def test_a_palette_becomes_its_colours():
    places, colours = noise(1, channels=1) % 7, noise(2)[0, :7]
    picture = Image.new("P", (16, 16))
    picture.putpalette(colours.tobytes())
    picture.putdata(places.reshape(-1).tolist())
    found, remarks = pixels(encoded(picture))
    assert (found == colours[places]).all()
    assert remarks == ["a palette made colours"]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind):
    cmyk = Image.fromarray(noise(1)).resize((4, 4)).resize((16, 16)).convert("CMYK")
    picture, remarks = pixels(encoded(cmyk, kind, **({"quality": 100} if kind == "JPEG" else {})))
    ink = np.asarray(cmyk).astype(int)
    expected = (255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255
    assert np.abs(picture - expected).max() <= (24 if kind == "JPEG" else 1)
    assert np.abs(picture - expected).mean() <= 4
    assert remarks == ["CMYK made RGB"]
    assert pixels(encoded(cmyk, kind), Frame(16, 1))[1] == ["CMYK made grey", "colours made grey"]


def test_transparency_is_laid_on_white_and_an_opaque_alpha_is_no_change():
    alpha = noise(2, channels=1)
    clear = np.dstack([noise(1), alpha])
    picture, remarks = pixels(encoded(clear))
    expected = (noise(1) * (alpha / 255)[:, :, None]) + 255 - alpha[:, :, None]
    assert np.abs(picture - expected).max() <= 1
    assert remarks == ["transparency laid on white"]
    opaque = np.dstack([noise(1), np.full((16, 16), 255, np.uint8)])
    picture, remarks = pixels(encoded(opaque))
    assert (picture == noise(1)).all()
    assert remarks == []


def test_a_transparent_colour_of_a_palette_or_of_rgb_is_white():
    flat = np.zeros((16, 16, 3), np.uint8)
    flat[:8] = 9, 8, 7
    picture, remarks = pixels(encoded(Image.fromarray(flat), transparency=(0, 0, 0)))
    assert (picture[8:] == 255).all()
    assert (picture[:8] == flat[:8]).all()
    assert remarks == ["transparency laid on white"]


def test_grey_with_alpha_stays_grey():
    grey, alpha = noise(1, channels=1), noise(2, channels=1)
    both = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)])
    picture, remarks = pixels(encoded(both), Frame(16, 1))
    expected = grey * (alpha / 255) + 255 - alpha
    assert np.abs(picture[:, :, 0] - expected).max() <= 1
    assert remarks == ["transparency laid on white"]


TURNED = {  # where row 0 and column 0 of the file lie in the picture, by the EXIF standard
    1: lambda p: p,  # top left
    2: lambda p: p[:, ::-1],  # top right
    3: lambda p: p[::-1, ::-1],  # bottom right
    4: lambda p: p[::-1],  # bottom left
    5: lambda p: p.transpose(1, 0, 2),  # left top
    6: lambda p: p[::-1].transpose(1, 0, 2),  # right top
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),  # right bottom
    8: lambda p: p[:, ::-1].transpose(1, 0, 2),  # left bottom
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_picture_is_turned_as_its_exif_says(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    stored = encoded(noise(1), kind, exif=exif, **options)
    plain = np.asarray(Image.open(io.BytesIO(encoded(noise(1), kind, **options))).convert("RGB"))
    picture, remarks = pixels(stored)
    assert (picture == TURNED[orientation](plain)).all()
    assert remarks == (["turned as its EXIF says"] if orientation > 1 else [])


def test_an_orientation_that_means_nothing_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 9
    picture, remarks = pixels(encoded(noise(1), exif=exif))
    assert (picture == noise(1)).all()
    assert remarks == []


@pytest.mark.parametrize(
    "junk",
    [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MMxx", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"],
)
def test_a_damaged_exif_costs_no_picture(junk):
    plain = encoded(noise(1), "JPEG", quality=95)
    marked = plain[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(junk)) + junk + plain[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture, _ = pixels(marked)
    assert (picture == pixels(plain)[0]).all()


def test_sixteen_bits_of_grey_become_eight():
    values = np.random.default_rng(0).integers(0, 65536, (16, 16))
    picture, remarks = pixels(deep_png(values, 0), Frame(16, 1))
    assert np.abs(picture[:, :, 0] - values / 257).max() <= 1
    assert picture.max() > 250
    assert remarks == ["16 bits made 8"]
    assert pixels(deep_png(values, 0))[1] == ["16 bits made 8", "grey made RGB"]


def test_sixteen_bits_of_rgb_become_eight():
    values = np.random.default_rng(0).integers(0, 65536, (16, 16, 3))
    picture, remarks = pixels(deep_png(values, 2))
    assert np.abs(picture - values / 257).max() <= 1
    assert remarks == ["16 bits made 8"]


def test_sixteen_bits_with_a_transparent_colour_are_read():
    values = np.full((16, 16), 40_000)
    picture, remarks = pixels(deep_png(values, 0, chunk(b"tRNS", struct.pack(">H", 7))))
    assert (picture == 40_000 // 257).all()
    assert remarks == ["16 bits made 8", "grey made RGB"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_grey_of_sixteen_bits_is_white_and_no_other(channels):
    values = np.random.default_rng(0).integers(0, 65000, (16, 16))
    values[:, :8], values[0, 8] = 30_000, 30_001
    picture, remarks = pixels(
        deep_png(values, 0, chunk(b"tRNS", struct.pack(">H", 30_000))), Frame(16, channels)
    )
    expected = np.where(values == 30_000, 255, values // 257)
    assert (picture == expected[:, :, None]).all()
    assert (
        remarks
        == ["16 bits made 8", "transparency laid on white", "grey made RGB"][: channels + 1 - channels // 3]
    )


def test_a_transparent_colour_of_sixteen_bits_is_white():
    values = np.random.default_rng(0).integers(0, 65536, (16, 16, 3))
    values[:, :8] = 30_000, 40_000, 257
    picture, remarks = pixels(deep_png(values, 2, chunk(b"tRNS", struct.pack(">3H", 30_000, 40_000, 257))))
    assert (picture[:, :8] == 255).all()
    assert np.abs(picture[:, 8:] - values[:, 8:] / 257).max() <= 1
    assert remarks == ["16 bits made 8", "transparency laid on white"]


@pytest.mark.parametrize("sort", [np.int32, np.uint32, np.int16])
def test_pixels_of_32_bits_or_with_a_sign_are_refused(sort):
    size, depth = (16, 16), np.dtype(sort).itemsize * 8
    tags = {
        256: 16,
        257: 16,
        258: depth,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: 16,
        279: 32 * depth,
        339: 1 + (sort != np.uint32),
    }
    raw = np.full(size, 1000, sort).tobytes()
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    file = (
        b"II*\0" + struct.pack("<I", 8 + len(raw)) + raw + struct.pack("<H", len(tags)) + entries + bytes(4)
    )
    with pytest.raises(DataError, match="pixels of 32 bits or with a sign, whose range is not known"):
        decode(file, SIXTEEN)


@pytest.mark.parametrize(("mark", "channels"), [(b"P6", 3), (b"P5", 1), (b"P3", 3)])
@pytest.mark.parametrize("greatest", [65535, 4095, 255, 100])
def test_a_pnm_of_more_than_eight_bits_is_told(mark, channels, greatest):
    values = np.random.default_rng(0).integers(0, greatest + 1, 256 * channels)
    raw = values.astype(">u2" if greatest > 255 else np.uint8).tobytes()
    body = " ".join(map(str, values)).encode() if mark == b"P3" else raw
    picture, remarks = pixels(mark + b" 16 16 %d\n" % greatest + body, Frame(16, channels))
    assert np.abs(picture.reshape(-1) - values * 255 / greatest).max() <= 1
    assert remarks == ["16 bits made 8"] * (greatest > 255)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_tiff_that_is_turned_is_told(orientation, compression):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, remarks = pixels(encoded(noise(1), "TIFF", exif=exif, compression=compression))
    assert (picture == TURNED[orientation](noise(1))).all()
    assert remarks == (["turned as its EXIF says"] if orientation > 1 else [])


def test_floating_point_pixels_are_refused():
    picture = Image.fromarray(np.ones((16, 16), np.float32))
    with pytest.raises(DataError, match="floating-point pixels, whose range is not known"):
        decode(encoded(picture, "TIFF"), SIXTEEN)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_is_taken(kind):
    frames = [Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (50, 120, 200)]
    options = {"lossless": True} if kind == "WEBP" else {}
    picture, remarks = pixels(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    assert (picture == 50).all()
    assert "the first frame of an animation" in remarks


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_to_the_same_picture():
    smooth = Image.fromarray(noise(1, 8)).resize((1024, 512), Image.Resampling.BICUBIC)
    expected = smooth.crop((256, 0, 768, 512)).resize((16, 16), Image.Resampling.BILINEAR)
    picture, remarks = pixels(encoded(smooth, "JPEG", quality=95))
    assert np.abs(picture.astype(int) - np.asarray(expected)).mean() < 3
    assert remarks == []


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"not a picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_picture_is_told(content):
    with pytest.raises(DataError, match="^an empty file$|^no picture of a known kind: JPEG, PNG"):
        decode(content, SIXTEEN)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_truncated_file_is_told_and_gives_no_half_picture(kind):
    content = encoded(noise(1, 64), kind)
    for end in (len(content) // 2, len(content) // 4, 30):
        with pytest.raises(DataError):
            decode(content[:end], SIXTEEN)


@pytest.mark.parametrize(("side", "depth"), [(50_000, 8), (9_000, 8), (10_000, 8), (65_535, 1)])
def test_a_picture_that_claims_too_many_pixels_is_refused_before_memory_is_taken(side, depth):
    bomb = png_file(side, side, depth, 0, b"\0" * 1_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"^claims \d+,\d+ × \d+,\d+ pixels$"):
        decode(bomb, SIXTEEN)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_text_that_inflates_in_a_png_is_refused():
    bomb = png_file(
        16, 16, 8, 0, b"\0" * 17 * 16, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000)))
    )
    with pytest.raises(DataError, match="too large"):
        decode(bomb, SIXTEEN)


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    inside, seen, made = [], [], rooms._made

    def watched(picture, frame):
        inside.append(picture)
        seen.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return made(picture, frame)

    monkeypatch.setattr(rooms, "LARGE", 255)
    monkeypatch.setattr(rooms, "_made", watched)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda seed: decode(png(seed), SIXTEEN), range(12)))
    assert seen == [1] * 12


whole = [encoded(noise(1), kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")]


@given(st.sampled_from(whole), st.integers(0, 900), st.binary(min_size=1, max_size=12))
@settings(deadline=None)
def test_no_damage_raises_anything_but_a_data_error(content, place, damage):
    place %= len(content)
    damaged = content[:place] + damage + content[place + len(damage) :]
    with contextlib.suppress(DataError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode(damaged, SIXTEEN)[0].shape == (3, 16, 16)


@given(st.sampled_from([b"", *(content[:24] for content in whole)]), st.binary(max_size=60))
@settings(deadline=None)
def test_no_bytes_raise_anything_but_a_data_error(start, rest):
    with contextlib.suppress(DataError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decode(start + rest, SIXTEEN)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]), st.sampled_from(["centre", "whole"]))
@settings(deadline=None)
def test_any_size_gives_the_asked_shape(wide, high, channels, cut):
    picture = Image.new("RGB", (wide, high), (7, 7, 7))
    found, _ = pixels(encoded(picture), Frame(12, channels, cut))
    assert (found == 7).all()
