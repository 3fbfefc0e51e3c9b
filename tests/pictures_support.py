"""Picture files and tables as people have them, made anew by each test."""

import io
import zipfile

import numpy as np
from PIL import Image

from lvmbench_images.folder import Images

COUNT = 40
NAMES = [f"{i:03}.png" for i in range(COUNT)]
MANY = [f"{i:03}.png" for i in range(60)]


def noise(seed, side=16, channels=3):
    """Return a picture that no other seed gives: uint8 [side, side, channels], or [side, side]."""
    shape = (side, side, channels) if channels > 1 else (side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(picture, kind="PNG", **options):
    """Return a picture, or an array of one, as the bytes of a file."""
    file = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(file, kind, **options)
    return file.getvalue()


def png(seed, side=16):
    return encoded(noise(seed, side))


def write(folder, files):
    """Write files into a folder: name -> bytes or text."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def zipped(path, files, compression=zipfile.ZIP_DEFLATED):
    """Write a zip file: name -> bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def csv(rows, columns="file,smiling"):
    return "\n".join([columns, *(",".join(map(str, row)) for row in rows), ""])


def found(data, what):
    """Return the findings of a kind."""
    return [finding for finding in data.findings if finding.what == what]


def rows_by_name(data, parts=("train", "val", "test")):
    """Return the labels of each picture by its name in the archive, and its split."""
    album = data.album
    names = dict(zip(album.rows.tolist(), album.names, strict=True))
    splits = [(part, data.split(part)) for part in parts if (album.order(part) >= 0).any()]
    return {
        names[row]: (part, labels)
        for part, split in splits
        for row, labels in zip(split.rows.tolist(), split.labels.tolist(), strict=True)
    }


def pictures(names=NAMES):
    return {name: png(seed) for seed, name in enumerate(names)}


def faces(folder, names=NAMES, columns="file,smiling", row=lambda i, name: (name, i % 2), table="labels.csv"):
    """Write a folder of pictures with a table of them."""
    told = csv([row(i, name) for i, name in enumerate(names)], columns)
    return write(folder, pictures(names) | {table: told})


def images(root="faces", **options):
    return Images(**{"root": root, "size": 16, **options})


def split_of(i):
    return {20: "val", 21: "test"}.get(i, "train")


def trained(folder, changed=None, names=MANY, rows=None):
    """Write pictures and their table, some of them other than they should be: nearly all in one split."""
    told = csv(rows or [(name, split_of(i), i % 2) for i, name in enumerate(names)], "file,split,smiling")
    return write(
        folder, {name: png(i) for i, name in enumerate(names)} | {"labels.csv": told} | (changed or {})
    )
