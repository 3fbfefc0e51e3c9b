import contextlib
import gzip
import hashlib
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvmbench import DataError, UsageError
from lvmbench.options import resolve
from lvmbench.testing import check_dataset
from lvmbench_images import lvmbench_datasets
from lvmbench_images.idx import parse_header, read_idx
from lvmbench_images.mnist import MNIST, FashionMNIST
from lvmbench_images.order import lasting_order

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
NAMES = [IMAGES, LABELS, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(values, magic=None, count=None):
    """Return the bytes of an idx file: uint8 [N, ...]."""
    sizes = [len(values) if count is None else count, *values.shape[1:]]
    head = struct.pack(f">{1 + len(sizes)}I", 0x0800 + values.ndim if magic is None else magic, *sizes)
    return head + values.astype(np.uint8).tobytes()


def part(count, seed=0):
    """Return pictures whose first pixel is their place in the file, and labels that follow from it."""
    images = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    images[:, 0, 0] = np.arange(count)
    return images, np.arange(count, dtype=np.uint8) % 10


def contents(train=60, test=20):
    """Return the four files: name -> bytes."""
    values = [*part(train), *part(test, seed=1)]
    return dict(zip(NAMES, map(idx, values), strict=True))


def write(home, files, packed=True):
    home.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if packed:
            (home / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (home / name).write_bytes(content)
    return home


def small():
    return MNIST(val=10)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LVMBENCH_DOWNLOAD", raising=False)
    return tmp_path / "data"


@pytest.fixture
def home(root):
    return write(root / "mnist", contents())


def same(one, other):
    return all(torch.equal(getattr(one, k), getattr(other, k)) for k in ("images", "labels", "rows"))


def test_it_is_registered_as_mnist_and_meets_the_contract_of_a_data_set(home):
    module, name = lvmbench_datasets()["mnist"].target.split(":")
    assert getattr(sys.modules[module], name) is MNIST
    check_dataset(MNIST, val=10)


def test_naming_the_reader_imports_neither_torch_nor_numpy():
    code = "import sys, lvmbench_images as i; i.lvmbench_datasets(); assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("name", "offset", "seed"), [("train", 0, 0), ("val", 0, 0), ("test", 1_000_000, 1)])
def test_a_row_is_the_place_in_the_official_file_and_picture_and_label_are_those_of_it(
    home, name, offset, seed
):
    split = small().split(name)
    places = split.rows.numpy() - offset
    images, labels = part(20 if name == "test" else 60, seed)
    assert (split.images[:, 0].numpy() == images[places]).all()
    assert (split.labels[:, 0].numpy() == labels[places]).all()


def test_official_test_pictures_are_the_test_split_and_validation_is_carved_from_training(home):
    parts = {name: small().split(name).rows.tolist() for name in ("train", "val", "test")}
    assert sorted(parts["test"]) == list(range(1_000_000, 1_000_020))
    assert sorted(parts["train"] + parts["val"]) == list(range(60))
    assert len(parts["val"]) == 10


def test_another_val_moves_pictures_to_train_and_changes_no_number_and_no_order(home):
    few, many = MNIST(val=10), MNIST(val=25)
    assert few.split("train").rows[:35].tolist() == many.split("train").rows.tolist()
    assert many.split("val").rows[-10:].tolist() == few.split("val").rows.tolist()
    assert same(few.split("test"), many.split("test"))


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_limit_gives_the_same_first_rows_not_in_the_order_of_the_file(home, name):
    whole = small().split(name)
    for limit in (1, 9, 10_000):
        assert same(small().split(name, limit), whole.head(limit))
    assert whole.rows.tolist() != sorted(whole.rows.tolist())


@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from(["mnist/train", "mnist/t10k"]))
def test_pictures_that_come_later_in_the_file_leave_the_order_of_the_others(few, more, which):
    order = lasting_order(which, few + more)
    assert order[order < few].tolist() == lasting_order(which, few).tolist()
    assert sorted(order.tolist()) == list(range(few + more))


def test_the_order_is_the_one_of_splitmix64_for_ever():
    def mixed(place):
        state, mask = int(hashlib.sha256(b"mnist/train").hexdigest()[:16], 16), 2**64 - 1
        z = (state + place * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    assert lasting_order("mnist/train", 500).tolist() == sorted(range(500), key=mixed)
    assert lasting_order("mnist/train", 500).tolist() != lasting_order("mnist/t10k", 500).tolist()


def test_a_prefix_of_a_split_is_a_fair_sample_of_it():
    places = lasting_order("mnist/train", 60_000)[:10_000] / 60_000
    assert np.histogram(places, 10, (0, 1))[0] == pytest.approx(
        [1000] * 10, abs=120
    )  # four standard deviations


def test_unpacked_files_read_as_the_packed_ones_do(home, root):
    expected, fingerprint = small().split("train"), small().fingerprint
    for path in home.iterdir():
        path.unlink()
    write(home, contents(), packed=False)
    assert same(small().split("train"), expected)
    assert small().fingerprint == fingerprint


@pytest.mark.parametrize("folder", [".", "mnist", "MNIST/raw", "mnist/MNIST/raw"])
def test_files_are_found_in_the_root_in_mnist_and_where_torchvision_keeps_them(root, folder):
    write(root / folder, contents())
    assert len(small().split("test")) == 20


def test_files_are_looked_for_in_datasets_data_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("LVMBENCH_DATA")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "datasets" / "data", contents())
    assert len(small().split("test")) == 20


def test_the_fingerprint_tells_pictures_labels_and_options_apart(home):
    seen = {small().fingerprint, MNIST(val=11).fingerprint}
    assert small().fingerprint in seen
    for name in NAMES:
        changed = bytearray(contents()[name])
        changed[-1] ^= 1
        write(home, contents() | {name: bytes(changed)})
        seen.add(small().fingerprint)
    assert len(seen) == 6


def test_making_the_object_reads_nothing_and_says_what_it_holds():
    schema = MNIST().schema
    assert (schema.shape, schema.pixels) == ((1, 28, 28), "bernoulli")
    (digit,) = schema.attributes
    assert (digit.name, digit.kind, digit.classes) == ("digit", "categorical", tuple("0123456789"))


@pytest.mark.parametrize("val", [0, 30_001, "many"])
def test_a_val_out_of_range_is_refused_by_the_option(val):
    with pytest.raises(UsageError, match="val"):
        resolve("mnist", MNIST, {"val": val})


def test_a_val_that_leaves_nothing_to_train_on_is_refused(home):
    with pytest.raises(
        DataError, match=r"train-images.*60 pictures: val = 60 leaves none to train on. Ask for less"
    ):
        MNIST(val=60).split("train")
    assert len(MNIST(val=59).split("train")) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_told_with_the_places_the_source_and_the_licence(home, root, name):
    (home / f"{name}.gz").unlink()
    with pytest.raises(DataError) as error:
        small().split("test")
    told = (
        f"'{name}'",
        f"'{name}.gz'",
        f"'MNIST/raw/{name}'",
        f"{home} and {root}.",
        "https://ossci-datasets",
        "CC BY-SA 3.0",
        "--data-root",
        "--download fetches it",
    )
    assert [text for text in told if text not in str(error.value)] == []


def test_what_is_missing_is_told_without_opening_a_file(home):
    (home / f"{IMAGES}.gz").write_bytes(b"")
    assert [path.name for path in small().locate()] == [f"{name}.gz" for name in NAMES]
    (home / f"{LABELS}.gz").unlink()
    with pytest.raises(DataError, match=LABELS):
        small().locate()


@pytest.mark.parametrize("folder", ["fashion-mnist", "FashionMNIST/raw"])
def test_fashion_mnist_is_the_same_form_with_grey_pixels_and_garments(root, folder):
    write(root / folder, contents())
    data = FashionMNIST(val=10)
    (garment,) = data.schema.attributes
    assert (data.schema.pixels, data.schema.shape) == ("gaussian", (1, 28, 28))
    assert (garment.classes[0], garment.classes[9], len(garment.classes)) == ("T-shirt/top", "Ankle boot", 10)
    images, labels = part(60)
    train = data.split("train")
    assert (train.images[:, 0].numpy() == images[train.rows.numpy()]).all()
    assert (train.labels[:, 0].numpy() == labels[train.rows.numpy()]).all()
    check_dataset(FashionMNIST, val=10)


FIRST = {MNIST: [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], FashionMNIST: [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]}


@pytest.mark.parametrize(("asked", "there"), [(MNIST, FashionMNIST), (FashionMNIST, MNIST)])
def test_files_of_the_other_set_which_bear_the_same_names_are_refused(root, asked, there):
    labels = np.array(FIRST[there] * 6)
    write(root, contents() | {LABELS: idx(labels)})
    with pytest.raises(DataError, match=r"is of .*MNIST, not of .*a folder of its own"):
        asked(val=10).split("train")
    assert len(there(val=10).split("train")) == 50


pictures, digits = part(60)
DAMAGED = [
    (IMAGES, b"", "ends within its header, after 0 bytes"),
    (IMAGES, idx(pictures)[:15], "ends within its header, after 15 bytes"),
    (IMAGES, idx(pictures, magic=2049), "starts with 2049; an idx file of its name starts with 2051"),
    (LABELS, idx(digits, magic=2051), "starts with 2051; an idx file of its name starts with 2049"),
    (IMAGES, idx(pictures[:, :, 1:]), "pictures of 28×27 pixels, not 28×28"),
    (IMAGES, idx(pictures, count=61), "announces 61 items, 47824 bytes; only 47040 follow"),
    (IMAGES, idx(pictures, count=59), "announces 59 items, 46256 bytes; more follow"),
    (LABELS, idx(digits) + b"\0", "announces 60 items, 60 bytes; more follow"),
    (IMAGES, idx(pictures[:0]), "announces 0 items; 1 to 100000"),
    (IMAGES, idx(pictures, count=100_001), "announces 100001 items; 1 to 100000"),
    (LABELS, idx(digits, count=2**32 - 1), "announces 4294967295 items; 1 to 100000"),
    (LABELS, idx(digits[:59]), "holds 60 pictures, .*train-labels.* 59 labels"),
    (LABELS, idx(np.where(np.arange(60) == 7, 10, digits)), "label 7 is 10; MNIST has 0 to 9"),
]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "content", "told"), DAMAGED)
def test_a_file_that_is_not_what_its_name_says_is_told_with_the_finding_and_the_remedy(
    root, name, content, told, packed
):
    where = write(root / "mnist", contents() | {name: content}, packed)
    with pytest.raises(DataError, match=told) as error:
        small().split("train")
    assert str(where / name) in str(error.value)
    assert "Get it from https" in str(error.value) or "Fetch it again" in str(error.value)


def flipped(content):
    return content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]  # within the checksum


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-9], lambda b: b[:100], lambda b: b"", flipped, lambda b: b + b"more", gzip.decompress],
)
def test_a_damaged_gzip_is_told_by_name(home, damage):
    path = home / f"{IMAGES}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"{path} .*Fetch it again"):
        small().split("train")


def test_a_gzip_bomb_is_not_unpacked_beyond_what_its_header_announces(home):
    path = home / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(contents()[IMAGES] + bytes(20_000_000), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="more follow"):
        small().split("train")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_a_file_that_cannot_be_read_is_told_by_name(home):
    path = home / IMAGES
    with pytest.raises(DataError, match=rf"{path} cannot be read"):
        read_idx(path, (28, 28), "")


starts = st.sampled_from(
    [
        b"",
        struct.pack(">I", 2051),
        struct.pack(">IIII", 2051, 2, 28, 28),
        struct.pack(">II", 2049, 2),
        b"\x1f\x8b\x08\0",
    ]
)


@given(start=starts, rest=st.binary(max_size=40), name=st.sampled_from(["some", "some.gz"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_at_all_raise_anything_but_a_data_error(tmp_path, start, rest, name):
    path = tmp_path / name
    path.write_bytes(start + rest)
    for shape in ((28, 28), ()):
        with contextlib.suppress(DataError):
            assert read_idx(path, shape, "").shape[1:] == shape


@given(
    st.lists(st.integers(0, 2**32 - 1) | st.sampled_from([28, 2051]), min_size=4, max_size=4),
    st.integers(0, 16),
)
def test_a_header_gives_a_count_within_bounds_or_a_data_error(numbers, length):
    head = struct.pack(">IIII", *numbers)[:length]
    try:
        count = parse_header(head, Path("some"), (28, 28), "")
    except DataError:
        return
    assert [2051, count, 28, 28] == numbers
    assert 1 <= count <= 100_000


REAL = [p for p in (os.environ.get("LVMBENCH_DATA"), Path(__file__).parents[3] / "shared" / "data") if p]
FOUND = [Path(p) for p in REAL if (Path(p) / "mnist" / f"{IMAGES}.gz").is_file()]
needs_files = pytest.mark.skipif(
    not FOUND, reason="the MNIST files are neither under LVMBENCH_DATA nor in ../shared/data"
)
MD5 = [
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
]


@pytest.fixture
def real(monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(FOUND[0]))
    return MNIST()


@needs_files
def test_the_real_files_read_to_the_bytes_of_the_published_checksums(real):
    values = [array for name in ("train", "t10k") for array in real._parts[name]]
    found = [hashlib.md5(idx(v), usedforsecurity=False).hexdigest() for v in values]
    assert found == MD5


@needs_files
def test_the_real_files_have_their_published_counts_and_first_labels(real):
    train, val, test = (real.split(name) for name in ("train", "val", "test"))
    assert [len(s) for s in (train, val, test)] == [59_000, 1_000, 10_000]
    labels, rows = torch.cat([train.labels, val.labels])[:, 0].long(), torch.cat([train.rows, val.rows])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert labels.bincount().tolist() == counts
    assert test.labels[:, 0].long().bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert labels[rows.argsort()][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[test.rows.argsort(), 0][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    pixels = torch.cat([train.images, val.images]).float() / 255
    assert [float(pixels.mean()), float(pixels.std())] == pytest.approx([0.13066, 0.30811], abs=1e-5)
