"""What a data set of CelebA's size and form costs to read: ``python tests/perf/celeba_sized.py [PICTURES]``.

Pictures of 178×218 that look like nothing, in a zip with a list of 40 labels, are made in a temporary folder (2 GB for
all 202,599), read twice, each time in a fresh process, and decoded by Pillow alone for comparison.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

CELEBA = 202_599
DIFFERENT = 1000
SAMPLE = 4000


def jpegs(count: int) -> list[bytes]:
    """Return smooth pictures with a little noise, some 10 kB each."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        low = Image.fromarray(rng.integers(0, 255, (14, 12, 3), dtype=np.uint8))
        smooth = np.asarray(low.resize((178, 218), Image.Resampling.BICUBIC), dtype=np.int64)
        pixels = (smooth + rng.normal(0, 2, smooth.shape)).clip(0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=90)
        found.append(file.getvalue())
    return found


def write(root: Path, pictures: list[bytes], count: int) -> None:
    """Write a set of CelebA's form; a number behind each picture makes no two files equal."""
    from lvmbench_images.celeba_labels import NAMES

    (root / "celeba").mkdir()
    with zipfile.ZipFile(root / "celeba" / "img_align_celeba.zip", "w", zipfile.ZIP_STORED) as archive:
        for i in range(count):
            content = pictures[i % len(pictures)] + i.to_bytes(4, "big")
            archive.writestr(f"img_align_celeba/{i + 1:06d}.jpg", content)
    labels = np.random.default_rng(1).integers(0, 2, (count, len(NAMES))) * 2 - 1
    rows = (f"{i + 1:06d}.jpg {' '.join(map(str, row))}" for i, row in enumerate(labels.tolist()))
    lines = [str(count), " ".join(NAMES) + " ", *rows]
    (root / "celeba" / "list_attr_celeba.txt").write_text("\r\n".join(lines) + "\r\n")


def read() -> None:
    """Read all splits, and tell how long it took and how much memory beyond the libraries."""
    from lvmbench_images.celeba import CelebA

    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    data = CelebA(size=64)
    fingerprint, named = data.fingerprint, time.perf_counter() - start
    counts = [len(data.split(name)) for name in ("train", "val", "test")]
    told = {"labels": round(named, 2), "all": round(time.perf_counter() - start, 2)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {"pictures": counts, "seconds": told, "MiB more": (peak - before) // 1024, "is": fingerprint[:8]}
        )
    )


def decode(pictures: list[bytes]) -> int:
    """Decode pictures with Pillow, cut and resize them: the least that can be done."""
    for content in pictures:
        cut = Image.open(io.BytesIO(content)).crop((15, 35, 163, 183))
        np.asarray(cut.resize((64, 64), Image.Resampling.BILINEAR))
    return len(pictures)


def main(count: int) -> None:
    """Make the set, read it twice, and print what it took."""
    pictures = jpegs(min(DIFFERENT, count))
    workers = len(os.sched_getaffinity(0))
    share = [(pictures * (1 + SAMPLE // len(pictures)))[:SAMPLE]] * workers
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(decode, [pictures[:10]] * workers))
        start = time.perf_counter()
        done = sum(pool.map(decode, share))
        print(f"Pillow alone, {workers} processes: {done / (time.perf_counter() - start):,.0f} pictures/s")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, pictures, count)
        own = {**os.environ, "LVMBENCH_DATA": str(root), "LVMBENCH_CACHE": str(root / "cache")}
        for when in ("first", "second"):
            print(f"{when} start: ", end="", flush=True)
            subprocess.run([sys.executable, __file__, "read"], env=own, check=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["read"]:
        read()
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else CELEBA)
