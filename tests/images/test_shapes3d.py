import sys

import numpy as np
import pytest

from lvmbench import DataError, UsageError
from lvmbench.data import HasFactors, HasFiles
from lvmbench.testing import check_dataset
from lvmbench_images import shapes3d
from lvmbench_images.shapes3d import FILE, Shapes3D

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'lvmbench[h5]'")

HUES = [0.0, 0.1, 0.9]
VALUES = [HUES, HUES[:2], HUES, [0.75, 1.25], [0, 1, 2, 3], [-30, 0, 30]]
NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SIZES = tuple(map(len, VALUES))
COUNT = int(np.prod(SIZES))


def labels():
    return np.stack(np.meshgrid(*VALUES, indexing="ij"), axis=-1).reshape(COUNT, 6).astype(np.float64)


def pictures():
    """Return pictures whose first two bytes are their row, and which tell the axes apart: uint8 [N, 64, 64, 3]."""
    images = np.zeros((COUNT, 64, 64, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(COUNT) // 256, np.arange(COUNT) % 256
    images[:, 5, 9, 2] = 77
    return images


def write(home, chunks=(100, 16, 16, 3), **changed):
    """Write a file of the true format; an array that is changed to None is left out."""
    home.mkdir(parents=True, exist_ok=True)
    with h5py.File(home / FILE, "w") as file:
        arrays = {"images": pictures(), "labels": labels()} | changed
        for name, values in arrays.items():
            if values is not None:
                options = {"chunks": chunks, "compression": "gzip"} if values.ndim == 4 and chunks else {}
                file.create_dataset(name, data=values, **options)
    return home / FILE


def rows_of(images):
    return images[..., 0, 0, 0].long() * 256 + images[..., 1, 0, 0].long()


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data" / "shapes3d"


@pytest.mark.parametrize("chunks", [(100, 16, 16, 3), (1, 64, 64, 3), (COUNT, 4, 4, 1), None])
@pytest.mark.parametrize("block", [1, 150 * 64 * 64 * 3, 64_000_000])
def test_pictures_are_of_their_rows_however_the_file_is_cut_into_pieces(home, monkeypatch, chunks, block):
    monkeypatch.setattr(shapes3d, "BLOCK", block)
    write(home, chunks)
    data = Shapes3D()
    split = data.split("train", 50)
    assert rows_of(split.images).tolist() == split.rows.tolist()
    assert (split.images[:, 2, 5, 9] == 77).all()
    assert len(data.split("test")) == COUNT // 10


def test_pieces_through_too_many_pictures_are_read_in_part(home, monkeypatch):
    monkeypatch.setattr(shapes3d, "MAX_CHUNK", 100 * 64 * 64 * 3)
    monkeypatch.setattr(shapes3d, "BLOCK", 60 * 64 * 64 * 3)
    with h5py.File(write(home, (COUNT, 4, 4, 1)), "r") as file:
        assert shapes3d._step(file["images"]) == 60
    split = Shapes3D().split("val")
    assert rows_of(split.images).tolist() == split.rows.tolist()


def test_labels_are_hues_as_classes_and_true_sizes_and_angles(home):
    write(home)
    data = Shapes3D()
    attributes = {a.name: a for a in data.schema.attributes}
    assert (tuple(attributes), data.schema.pixels) == (NAMES, "gaussian")
    assert attributes["shape"].classes == ("cube", "cylinder", "sphere", "pill")
    assert attributes["wall_hue"].classes == tuple(f"0.{i}" for i in range(10))
    assert (attributes["orientation"].is_number, attributes["orientation"].unit) == (True, "degrees")
    split = data.split("train")
    expected = labels()[split.rows] * [10, 10, 10, 1, 1, 1]
    assert split.labels.numpy() == pytest.approx(expected)
    assert (split.labels[:, :3] == split.labels[:, :3].round()).all()


def test_it_meets_the_contract_of_a_data_set(home):
    write(home)
    check_dataset(Shapes3D)
    assert isinstance(Shapes3D(), HasFactors)
    assert isinstance(Shapes3D(), HasFiles)


@pytest.mark.parametrize("factor", NAMES)
def test_pictures_to_order_share_one_factor(home, factor):
    write(home)
    data = Shapes3D()
    assert data.factor_names == NAMES
    images = data.sharing(factor, 6, 40)
    assert images.shape == (6, 40, 3, 64, 64)
    places = np.stack(np.unravel_index(rows_of(images).numpy(), SIZES), axis=-1)
    varied = [len(np.unique(group)) for column in range(6) for group in places[..., column]]
    of_factor = NAMES.index(factor) * 6
    assert varied[of_factor : of_factor + 6] == [1] * 6
    assert min(varied[:of_factor] + varied[of_factor + 6 :]) > 1


DAMAGED = [
    ({"images": None}, "holds no 'images'"),
    ({"labels": None}, "holds no 'labels'"),
    ({"images": pictures()[:-1]}, "431 images and 432 labels"),
    ({"images": pictures()[:, :, :, :2]}, r"images is \(432, 64, 64, 2\) of uint8"),
    ({"images": pictures().astype(np.float32)}, "of float32, not a picture"),
    ({"labels": labels()[:, :5]}, r"labels is \(432, 5\)"),
    ({"labels": labels().astype(np.int64)}, "labels are int64"),
    ({"labels": labels()[::-1]}, "are not all combinations of 3 × 2 × 3 × 2 × 4 × 3 values"),
    ({"labels": labels() + np.array([0, 0, 0, 0, 1, 0])}, "shape has other values"),
    ({"labels": labels() + np.array([0.05, 0, 0, 0, 0, 0])}, "floor_hue has other values"),
]


@pytest.mark.parametrize(("changed", "told"), DAMAGED)
def test_a_file_that_is_not_what_it_should_be_is_told_by_name(home, changed, told):
    path = write(home, None, **changed)
    with pytest.raises(DataError, match=told) as error:
        Shapes3D().split("test")
    assert str(path) in str(error.value)


def test_a_damaged_file_is_told_by_name(home):
    path = write(home)
    content = path.read_bytes()
    for damaged in (b"", b"no HDF5 at all", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{path}: 'labels' cannot be read"):
            Shapes3D().split("test")


def test_arrays_that_lead_out_of_the_file_are_refused(home, tmp_path):
    path = write(home)
    outside = path.rename(tmp_path / "outside.h5")
    (tmp_path / "raw").write_bytes(pictures().tobytes())
    layout = h5py.VirtualLayout((COUNT, 64, 64, 3), np.uint8)
    layout[:] = h5py.VirtualSource(outside, "images", (COUNT, 64, 64, 3))
    makers = {
        "link": lambda file: file.__setitem__("images", h5py.ExternalLink(outside, "images")),
        "virtual": lambda file: file.create_virtual_dataset("images", layout),
        "raw": lambda file: file.create_dataset(
            "images",
            (COUNT, 64, 64, 3),
            np.uint8,
            external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)],
        ),
    }
    for make in makers.values():
        with h5py.File(write(home, images=None), "a") as file:
            make(file)
        with pytest.raises(DataError, match="holds no 'images'|no array in this file"):
            Shapes3D().split("test")


def test_pieces_that_no_memory_holds_are_refused(home, monkeypatch):
    monkeypatch.setattr(shapes3d, "MAX_CHUNK", 1000)
    write(home, (100, 16, 16, 3))
    with pytest.raises(DataError, match="in pieces of more than 1,000 bytes"):
        Shapes3D().split("test")


def test_without_h5py_the_error_names_the_extra(home, monkeypatch):
    write(home)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"needs h5py: pip install 'lvmbench\[h5\]'"):
        Shapes3D().locate()


def test_a_missing_file_is_told_with_its_source_and_that_it_is_not_fetched(home, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    with pytest.raises(DataError) as error:
        Shapes3D().split("test")
    told = (FILE, str(home), "google-deepmind/3d-shapes", "Apache-2.0", "not fetched by --download")
    assert [text for text in told if text not in str(error.value)] == []
