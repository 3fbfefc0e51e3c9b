import bz2
import hashlib
import struct

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torchvision import datasets
from torchvision.datasets import usps as usps_module

from lvmbench import DataError, UsageError
from lvmbench.options import resolve
from lvmbench.testing import check_dataset
from lvmbench_images.tv import READERS, Torchvision

COUNTS = {"train": 40, "test": 12}
SIDES = {"kmnist": 28, "usps": 16, "svhn": 32, "stl10": 96}


def part(name, which):
    """Return pictures [N, C, side, side] that differ, and labels."""
    count, side, channels = COUNTS[which], SIDES[name], READERS[name].channels
    images = np.random.default_rng(count).integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    return images, np.arange(count) % 10


def idx(values):
    return (
        struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
        + values.astype(np.uint8).tobytes()
    )


def kmnist(which):
    images, labels = part("kmnist", which)
    prefix = f"KMNIST/raw/{'train' if which == 'train' else 't10k'}"
    return {
        f"{prefix}-images-idx3-ubyte": idx(images[:, 0]),
        f"{prefix}-labels-idx1-ubyte": idx(labels),
    }


def usps(which):
    images, labels = part("usps", which)
    lines = [
        " ".join(
            [str(label + 1), *(f"{i + 1}:{(v + 0.5) / 127.5 - 1:.6f}" for i, v in enumerate(image.ravel()))]
        )
        for image, label in zip(images.astype(float), labels, strict=True)
    ]
    return {f"usps{'' if which == 'train' else '.t'}.bz2": bz2.compress("\n".join(lines).encode())}


def svhn(which, path):
    images, labels = part("svhn", which)
    labels = np.where(labels == 0, 10, labels)
    scipy.io.savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": labels[:, None].astype(np.uint8)})
    return {f"{which}_32x32.mat": path.read_bytes()}


def stl10(which):
    images, labels = part("stl10", which)
    files = {f"{which}_X": images.transpose(0, 1, 3, 2), f"{which}_y": (labels + 1).astype(np.uint8)}
    files |= {"unlabeled_X": np.zeros((2, 3, 96, 96), np.uint8)} if which == "train" else {}
    return {f"stl10_binary/{name}.bin": values.tobytes() for name, values in files.items()}


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a set of the true format, and let torchvision expect the checksums of it."""

    def written(name, home):
        files = {}
        for which in COUNTS:
            if name == "svhn":
                files |= svhn(which, tmp_path / "one.mat")
            else:
                files |= {"kmnist": kmnist, "usps": usps, "stl10": stl10}[name](which)
        for file, content in files.items():
            (home / file).parent.mkdir(parents=True, exist_ok=True)
            (home / file).write_bytes(content)
        if name == "svhn":
            known = {w: ["", f"{w}_32x32.mat", md5(files[f"{w}_32x32.mat"])] for w in COUNTS}
            monkeypatch.setattr(datasets.SVHN, "split_list", known)
        if name == "stl10":
            for which, names in {
                "train": ("train_X", "train_y", "unlabeled_X"),
                "test": ("test_X", "test_y"),
            }.items():
                known = [[f"{n}.bin", md5(files[f"stl10_binary/{n}.bin"])] for n in names]
                monkeypatch.setattr(datasets.STL10, f"{which}_list", known)
        return home

    return written


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LVMBENCH_DOWNLOAD", raising=False)
    return tmp_path / "data"


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("folder", [True, False])
def test_pictures_and_labels_are_those_of_the_official_part(root, write, name, folder):
    write(name, root / name if folder else root)
    data = Torchvision(name=name, size=32)
    assert [len(data.split(s)) for s in ("train", "val", "test")] == [36, 4, 12]
    for split, which, first in (("train", "train", 0), ("val", "train", 0), ("test", "test", 1_000_000)):
        images, labels = part(name, which)
        found = data.split(split)
        for image, label, row in zip(found.images, found.labels[:, 0], found.rows.tolist(), strict=True):
            assert int(label) == labels[row - first]
            original = images[row - first]
            picture = Image.fromarray(original.transpose(1, 2, 0).squeeze()).resize(
                (32, 32), Image.Resampling.BILINEAR
            )
            expected = torch.from_numpy(np.array(picture).reshape(32, 32, -1)).permute(2, 0, 1)
            assert (image.int() - expected.int()).abs().max() <= (name == "usps")  # a level, of its rounding


def test_it_meets_the_contract_of_a_data_set(root, write):
    write("usps", root)
    check_dataset(Torchvision, name="usps", size=28)
    assert Torchvision(name="usps", size=28).title == "usps-28"
    assert Torchvision(name="usps", size=28).fingerprint != Torchvision(name="usps", size=32).fingerprint


def test_class_names_are_those_that_torchvision_has():
    assert list(READERS["kmnist"].classes) == datasets.KMNIST.classes


def test_a_changed_picture_changes_the_fingerprint(root, write):
    write("kmnist", root)
    before = Torchvision(name="kmnist").fingerprint
    path = root / "KMNIST/raw/t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert Torchvision(name="kmnist").fingerprint != before


@pytest.mark.parametrize("name", READERS)
def test_a_missing_file_is_told_without_reading_any(root, write, name):
    write(name, root)
    last = READERS[name].files[-1]
    assert len(Torchvision(name=name).locate()) == len(READERS[name].files)
    (root / last).unlink()
    with pytest.raises(DataError, match="--download fetches it") as error:
        Torchvision(name=name).locate()
    assert f"'{last}'" in str(error.value)


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_told_by_its_folder(root, write, name):
    write(name, root)
    path = root / READERS[name].files[0]
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError, match=rf"{root}: .*{READERS[name].kind}.*Fetch it again"):
        Torchvision(name=name).split("test")


def test_labels_out_of_range_are_told(root, write):
    write("kmnist", root)
    (root / "KMNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.full(40, 10)))
    with pytest.raises(DataError, match="labels 10 to 10"):
        Torchvision(name="kmnist").split("test")


def test_pickles_beside_the_files_are_refused(root, write):
    write("kmnist", root)
    (root / "KMNIST/processed").mkdir()
    (root / "KMNIST/processed/training.pt").write_bytes(b"a pickle")
    with pytest.raises(DataError, match="pickles, which are never read"):
        Torchvision(name="kmnist").split("test")


@pytest.mark.parametrize("name", ["cifar10", "emnist", "mnist"])
def test_a_set_that_is_not_read_is_refused_by_the_option(name):
    with pytest.raises(UsageError, match="kmnist"):
        resolve("torchvision", Torchvision, {"name": name})


@pytest.fixture
def served(tmp_path, write, monkeypatch):
    """Let torchvision fetch USPS from a folder; return the files that it asked for."""
    source, asked = write("usps", tmp_path / "source"), []

    def download_url(_url, root, filename, md5):
        asked.append(filename)
        if not (source / filename).exists():
            raise RuntimeError("File not found or corrupted.")
        (root / filename).write_bytes((source / filename).read_bytes())

    monkeypatch.setattr(usps_module, "download_url", download_url)
    return asked


def test_torchvision_fetches_only_on_download_and_only_what_is_not_there(root, served, monkeypatch):
    with pytest.raises(DataError, match="no 'usps.bz2'"):
        Torchvision(name="usps").split("test")
    assert served == []
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    for _ in range(2):
        assert len(Torchvision(name="usps").split("test")) == 12
    assert served == ["usps.bz2", "usps.t.bz2"]
    assert sorted(path.name for path in (root / "usps").iterdir()) == served


def test_a_fetch_that_fails_half_way_leaves_nothing(root, served, tmp_path, monkeypatch):
    (tmp_path / "source" / "usps.t.bz2").unlink()
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    with pytest.raises(DataError, match="USPS: torchvision cannot fetch it into .*corrupted"):
        Torchvision(name="usps").split("test")
    assert list((root / "usps").iterdir()) == []
