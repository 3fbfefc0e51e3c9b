import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from lvmbench import DataError
from lvmbench.data import HasFactors, HasFiles
from lvmbench.testing import check_dataset
from lvmbench_images import grid
from lvmbench_images.dsprites import FILE, DSprites

VALUES = [
    [1],
    [1, 2, 3],
    [0.5, 1],
    [0, 2, 4, 2 * np.pi],
    [0, 0.5, 1],
    [0, 0.25, 1],
]  # colour first, y fastest
SIZES = tuple(map(len, VALUES))
COUNT = int(np.prod(SIZES))


class Bomb:
    def __reduce__(self):
        return print, ("unpickled",)


def latents():
    return np.stack(np.meshgrid(*VALUES, indexing="ij"), axis=-1).reshape(COUNT, 6).astype(np.float64)


def pictures(count=COUNT):
    """Return pictures whose first 16 pixels are the bits of their row: uint8 [N, 64, 64], 0 or 1."""
    images = np.zeros((count, 64, 64), dtype=np.uint8)
    images[:, 0, :16] = np.arange(count)[:, None] >> np.arange(16) & 1
    images[:, 40] = 1
    return images


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def write(home, **changed):
    """Write a file of the true format, its pickled metadata too."""
    metadata = np.array({"author": Bomb()}, dtype=object)
    members = {
        "metadata": array(metadata),
        "imgs": array(pictures()),
        "latents_classes": array(np.zeros((COUNT, 6), dtype=np.int64)),
        "latents_values": array(latents()),
    }
    home.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(home / FILE, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | changed).items():
            archive.writestr(f"{name}.npy", content)
    return home / FILE


def rows_of(images):
    """Return the rows that pictures are of: [..., 1, 64, 64] -> [...]."""
    bits = images[..., 0, 0, :16].long() // 255
    return (bits << torch.arange(16)).sum(-1)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data" / "dsprites"


def splits(data):
    return {name: data.split(name) for name in ("train", "val", "test")}


def test_pictures_are_of_their_rows_and_0_or_255(home):
    write(home)
    for split in splits(DSprites()).values():
        assert rows_of(split.images).tolist() == split.rows.tolist()
        assert split.images.unique().tolist() == [0, 255]


def test_labels_are_the_values_of_the_row_without_the_orientation(home):
    write(home)
    data = DSprites()
    assert [(a.name, a.kind, a.classes) for a in data.schema.attributes] == [
        ("shape", "categorical", ("square", "ellipse", "heart")),
        ("scale", "ordinal", ()),
        ("x", "ordinal", ()),
        ("y", "ordinal", ()),
    ]
    assert data.schema.pixels == "bernoulli"
    split = data.split("train")
    expected = latents()[split.rows][:, [1, 2, 4, 5]] - [1, 0, 0, 0]
    assert split.labels.numpy() == pytest.approx(expected)


def test_it_meets_the_contract_of_a_data_set_and_nothing_is_unpickled(home, capsys):
    with np.load(write(home), allow_pickle=True) as archive:
        assert archive["metadata"] is not None
    assert "unpickled" in capsys.readouterr().out
    check_dataset(DSprites)
    assert isinstance(DSprites(), HasFactors)
    assert isinstance(DSprites(), HasFiles)
    assert "unpickled" not in capsys.readouterr().out


def test_every_row_is_in_one_split_and_a_tenth_is_held_out_for_each(home):
    write(home)
    found = splits(DSprites())
    assert [len(found[name]) for name in found] == [COUNT - 42, 21, 21]
    assert sorted(row for split in found.values() for row in split.rows.tolist()) == list(range(COUNT))


def test_a_limit_gives_the_same_first_rows_and_another_seed_other_splits(home):
    write(home)
    whole, part = DSprites().split("train"), DSprites().split("train", 30)
    assert torch.equal(part.rows, whole.rows[:30])
    assert torch.equal(part.images, whole.images[:30])
    other = DSprites(seed=1)
    assert set(other.split("test").rows.tolist()) != set(DSprites().split("test").rows.tolist())
    assert other.fingerprint != DSprites().fingerprint


def test_the_fingerprint_is_of_the_content(home):
    write(home)
    before = DSprites().fingerprint
    assert DSprites().fingerprint == before
    changed = pictures()
    changed[7, 50, 50] = 1
    write(home, imgs=array(changed))
    data = DSprites()
    assert data.fingerprint != before
    split = data.split("train", 5), data.split("val"), data.split("test")
    assert all(rows_of(one.images).tolist() == one.rows.tolist() for one in split)


@pytest.mark.parametrize("factor", ["shape", "scale", "orientation", "x", "y"])
def test_pictures_to_order_share_one_factor_and_vary_in_the_others(home, factor):
    write(home)
    data = DSprites()
    assert data.factor_names == ("shape", "scale", "orientation", "x", "y")
    few, images = data.sharing(factor, 7, 30), data.sharing(factor, 40, 30)
    assert images.shape == (40, 30, 1, 64, 64)
    places = np.stack(np.unravel_index(rows_of(images).numpy(), SIZES)[1:], axis=-1)
    for column, name in enumerate(data.factor_names):
        each = [len(np.unique(group)) for group in places[..., column]]
        counts = np.bincount(places[..., column].ravel()) / (40 * 30)
        assert (max(each) == 1) == (name == factor)
        if name != factor:
            size = SIZES[column + 1]
            assert counts == pytest.approx([1 / size] * size, abs=0.06)  # over four standard deviations
    assert torch.equal(few, images[:7])


def test_many_pictures_are_read_in_several_passes_and_are_the_same(home, monkeypatch):
    write(home)
    expected = DSprites().split("train")
    monkeypatch.setenv("LVMBENCH_CACHE", str(home / "other"))
    monkeypatch.setattr(grid, "MEMORY", 50 * 64 * 64)
    monkeypatch.setattr("lvmbench.cache.CHUNK", 20)
    monkeypatch.setattr("lvmbench_images.dsprites.BLOCK", 13)
    passes = []
    blocks = DSprites.blocks
    monkeypatch.setattr(DSprites, "blocks", lambda *given: passes.append(1) or blocks(*given))
    assert torch.equal(DSprites().split("train").images, expected.images)
    assert len(passes) == 5  # 174 pictures: 50 are held, chunks of 20 of them are used up at 40
    DSprites().split("train")
    assert len(passes) == 5  # the second time the cache has them


def test_the_member_is_never_whole_in_memory(home, monkeypatch):
    write(home)
    monkeypatch.setattr("lvmbench_images.dsprites.BLOCK", 8)
    data = DSprites()
    assert data.count == COUNT
    tracemalloc.start()
    data.split("test", 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < COUNT * 64 * 64 / 2


DAMAGED = [
    ({"imgs": array(pictures() * 2)}, "imgs holds a 2; pixels are 0 or 1"),
    ({"imgs": array(pictures(COUNT - 1))}, r"imgs is \(215, 64, 64\), not a picture"),
    ({"imgs": array(pictures()[:, :32])}, r"imgs is \(216, 32, 64\)"),
    ({"imgs": array(pictures().astype(np.float32))}, "an array of float32, not of uint8"),
    ({"imgs": array(pictures())[:-100]}, "ends early"),
    ({"imgs": array(pictures()) + b"x"}, "more than its header says"),
    ({"imgs": b"no array"}, "'imgs.npy' cannot be read"),
    ({"imgs": array(np.asfortranarray(pictures()))}, "an array of uint8"),
    ({"latents_values": array(latents()[:, :5])}, r"latents_values is \(216, 5\)"),
    (
        {"latents_values": array(latents()[::-1])},
        "216 rows are not all combinations of 1 × 3 × 2 × 4 × 3 × 3",
    ),
    ({"latents_values": array(latents()[:-1])}, "215 rows are not all combinations"),
    (
        {"latents_values": array(latents() + np.array([0, 3, 0, 0, 0, 0]))},
        "shape has other values than it should",
    ),
    ({"latents_values": array(latents() * np.nan)}, "other values than it should"),
    ({"latents_values": array(np.array([Bomb()], dtype=object))}, "an array of object, not of float64"),
]


@pytest.mark.parametrize(("changed", "told"), DAMAGED)
def test_a_file_that_is_not_what_it_should_be_is_told_by_name(home, changed, told):
    path = write(home, **changed)
    with pytest.raises(DataError, match=told) as error:
        DSprites().split("test")
    assert str(path) in str(error.value)


def test_a_changed_byte_a_cut_file_and_a_missing_member_are_told(home):
    path = write(home)
    content = path.read_bytes()
    at = content.index(b"imgs.npy") + 200
    for damaged in (content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :], content[:1000], b""):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{path}.* cannot be read"):
            DSprites().split("test")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("latents_values.npy", array(latents()))
    with pytest.raises(DataError, match=r"'imgs.npy' cannot be read"):
        DSprites().split("test")


HEADERS = ["{'descr': '<f8', 'shape': (", "{'descr': '<f8', ", "(" * 300, "{'shape': 1}", "\0"]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_none_is_told(home, header):
    text = header.encode()
    path = write(home, latents_values=b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(DataError, match=r"'latents_values.npy' cannot be read \(.+\)") as error:
        DSprites().split("test")
    assert str(path) in str(error.value)


def test_a_damaged_member_of_another_compression_is_told(home):
    path = write(home)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("latents_values.npy", array(latents()))
    content = bytearray(path.read_bytes())
    content[60:400] = bytes(340)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'latents_values.npy' cannot be read \(.+\)"):
        DSprites().split("test")


def test_a_missing_file_is_told_with_its_source_and_that_it_is_not_fetched(home, monkeypatch):
    monkeypatch.setenv("LVMBENCH_DOWNLOAD", "1")
    with pytest.raises(DataError) as error:
        DSprites().split("test")
    told = (FILE, str(home), "google-deepmind/dsprites-dataset", "Apache-2.0", "not fetched by --download")
    assert [text for text in told if text not in str(error.value)] == []
