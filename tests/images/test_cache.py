import numpy as np
import pytest
import torch

from lvmbench_images.cache import cached


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "set"


class Maker:
    def __init__(self):
        self.made = 0

    def __call__(self, positions):
        self.made += len(positions)
        return np.stack([np.full((1, 2, 2), p % 256, dtype=np.uint8) for p in positions])


def test_pictures_are_made_once_and_then_only_sampled(folder):
    first, again = Maker(), Maker()
    images = cached("set/train", 500, first)
    assert first.made == 500
    assert torch.equal(cached("set/train", 500, again), images)
    assert again.made <= 16


def test_a_longer_file_serves_a_shorter_question(folder):
    cached("set/train", 500, Maker())
    again = Maker()
    assert cached("set/train", 40, again)[:, 0, 0, 0].tolist() == list(range(40))
    assert again.made <= 16
    longer = Maker()
    assert len(cached("set/train", 501, longer)) == 501
    assert longer.made >= 501


@pytest.mark.parametrize(
    "damage", [lambda b: b[:60], lambda b: b[:-9], lambda b: b[:200] + bytes(len(b) - 200), lambda b: b""]
)
def test_a_damaged_file_is_made_again(folder, damage):
    expected = cached("set/train", 50, Maker())
    (path,) = folder.glob("*.npy")
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(cached("set/train", 50, Maker()), expected)
    again = Maker()
    cached("set/train", 50, again)
    assert again.made <= 16


def test_a_file_that_holds_fewer_pictures_than_its_name_says_is_made_again(folder):
    cached("set/train", 50, Maker())
    (path,) = folder.glob("*.npy")
    path.rename(path.with_name("train-60.npy"))
    assert len(cached("set/train", 60, Maker())) == 60


def test_nothing_is_left_of_a_file_that_could_not_be_written(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert len(cached("set/train", 5, Maker())) == 5
    assert list(folder.iterdir()) == []


def test_writing_to_a_picture_does_not_change_the_file(folder):
    cached("set/train", 5, Maker())
    cached("set/train", 5, Maker())[0] = 99
    assert cached("set/train", 5, Maker())[0].max() == 0
