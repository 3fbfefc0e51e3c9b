import numpy as np
import pytest
import torch

from lvmbench import cache
from lvmbench.cache import PROBES, cache_dir, cached

SHAPE = (3, 4, 4)


class Renderer:
    """Draws pictures of one colour, and counts them."""

    def __init__(self):
        self.drawn = 0

    def __call__(self, positions):
        self.drawn += len(positions)
        numbers = torch.from_numpy(positions) % 251
        return numbers.to(torch.uint8)[:, None, None, None].expand(-1, *SHAPE).contiguous()


def ask(folder, count=300, name="train"):
    render = Renderer()
    images = cached(f"{folder.name}/{name}", count, render)
    assert torch.equal(images, Renderer()(np.arange(count)))
    return render.drawn


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "set"


def test_pictures_are_drawn_once_and_mapped_after_that(folder):
    assert ask(folder) == 300
    assert ask(folder) <= PROBES


def test_a_larger_file_serves_a_smaller_question(folder):
    ask(folder, 300)
    assert ask(folder, 20) <= PROBES
    assert [path.name for path in folder.iterdir()] == ["train-300.npy"]


def test_a_smaller_file_does_not_serve_a_larger_question(folder):
    ask(folder, 20)
    assert ask(folder, 300) >= 300


def test_splits_do_not_mix(folder):
    ask(folder, name="train")
    assert ask(folder, name="test") == 300


@pytest.mark.parametrize("keep", [0, 50, 128, 5000])
def test_a_truncated_file_is_drawn_anew_and_mended(folder, keep):
    ask(folder)
    path = folder / "train-300.npy"
    path.write_bytes(path.read_bytes()[:keep])
    assert ask(folder) == 300
    assert ask(folder) <= PROBES


def test_a_file_with_other_pictures_is_drawn_anew(folder):
    ask(folder)
    np.save(folder / "train-300.npy", np.zeros((300, *SHAPE), dtype=np.uint8))
    assert ask(folder) > 300


def test_a_file_of_objects_is_never_unpickled(folder):
    folder.mkdir(parents=True)
    np.save(folder / "train-300.npy", np.array([{"a": 1}] * 300, dtype=object), allow_pickle=True)
    assert ask(folder) == 300


def test_a_folder_that_cannot_be_made_costs_only_the_work(folder):
    folder.parent.write_text("in the way")
    for _ in range(2):
        assert ask(folder) == 300


def test_a_full_disk_costs_only_the_work(folder, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    assert ask(folder) == 300
    assert list(folder.iterdir()) == []


def test_nothing_temporary_is_left(folder):
    ask(folder)
    assert [path.name for path in folder.iterdir()] == ["train-300.npy"]


def test_a_reader_never_sees_half_a_file(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(cache.os, "fsync", lambda handle: seen.extend(folder.glob("train-*.npy")))
    ask(folder)
    assert seen == []


def test_writing_into_mapped_pictures_leaves_the_file_alone(folder):
    ask(folder)
    cached(f"{folder.name}/train", 300, Renderer()).fill_(7)
    assert ask(folder) <= PROBES


def test_the_cache_lies_in_the_users_cache_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("LVMBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "lvmbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "lvmbench"


def test_what_two_machines_round_apart_is_the_same_picture(folder):
    ask(folder)
    np.save(folder / "train-300.npy", np.load(folder / "train-300.npy") + 1)
    near = Renderer()
    cached("set/train", 300, near, rounding=1)
    assert near.drawn <= PROBES
    assert ask(folder) > 300
