"""The first rows of a split are the same whatever is asked for, in whatever order, and whatever the cache holds."""

import errno
import json
import os
from dataclasses import replace

import pytest
import torch

from lvmbench import cache
from lvmbench_images import remembered
from lvmbench_images.folder import Images
from pictures_support import MANY, found, images, trained

pytestmark = pytest.mark.usefixtures("here")


def some_unreadable(here, every=4):
    return trained(here / "faces", dict.fromkeys(MANY[::every], b""))


def same(one, other):
    return all(
        torch.equal(getattr(one, field), getattr(other, field)) for field in ("images", "labels", "rows")
    )


def in_memory(split):
    """Return a split whose pictures are not mapped from the file that a test is about to damage."""
    return replace(split, images=split.images.clone())


def test_the_next_pictures_take_the_place_of_those_that_cannot_be_read(here, monkeypatch, tmp_path):
    some_unreadable(here)
    whole = images().split("train")
    for step, limits in enumerate([(1, 5, 11, 1000), (11, 5), (30,), (2, 29, 3)]):
        monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / f"cache{step}"))
        for limit in limits:
            part = images().split("train", limit)
            assert len(part) == min(limit, len(whole))
            assert same(part, whole.head(limit))


def test_findings_are_of_the_pictures_that_were_asked_for_however_many_the_cache_has(here):
    some_unreadable(here)
    fresh = images()
    fresh.split("train", 25)
    before = list(fresh.findings)
    images().split("train")
    again = images()
    again.split("train", 25)
    assert list(again.findings) == before
    assert 0 < len(before) < 15


@pytest.mark.parametrize("limit", [None, 25])
def test_a_cache_that_is_half_full_is_filled_up(here, monkeypatch, limit):
    some_unreadable(here)
    whole = images().split("train", limit)
    for path in (here.parent / "cache").rglob("*"):
        path.unlink() if path.is_file() and "albums" not in path.parts else None
    monkeypatch.setattr(cache, "CHUNK", 4)
    made, real = [], Images._made

    def killed(self, order, places):
        made.append(places)
        if len(made) > 4:
            raise KeyboardInterrupt
        return real(self, order, places)

    with monkeypatch.context() as patched:
        patched.setattr(cache, "cores", lambda: 1)
        patched.setattr(Images, "_made", killed)
        with pytest.raises(KeyboardInterrupt):
            images().split("train", limit)
    assert same(images().split("train", 6), whole.head(6))
    assert same(images().split("train", limit), whole)


@pytest.mark.parametrize("damage", ["cut", "other", "version", "junk", "pixels"])
def test_a_damaged_cache_and_one_of_another_version_are_made_again(here, damage):
    some_unreadable(here)
    data = images()
    whole, told = in_memory(data.split("train")), list(data.findings)
    (pictures,), (state,) = (
        list((here.parent / "cache").rglob(f"train.{end}")) for end in ("pictures", "json")
    )
    if damage == "cut":
        os.truncate(pictures, 1000)
    if damage == "pixels":
        pictures.write_bytes(bytes(pictures.stat().st_size))
    if damage == "junk":
        state.write_text("{")
    if damage in ("version", "other"):
        raw = json.loads(state.read_text())
        state.write_text(json.dumps(raw | ({"format": 99} if damage == "version" else {"seen": "many"})))
    again = images()
    assert same(again.split("train"), whole)
    assert [f for f in again.findings if f.what != "cache"] == told
    if damage == "pixels":
        assert "made again" in found(again, "cache")[0].where


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_album_is_read_again(here, damage):
    some_unreadable(here)
    whole = images().split("train")
    (album,) = (here.parent / "cache").rglob("*.safetensors")
    album.write_bytes(damage(album.read_bytes()))
    assert same(images().split("train"), whole)


def test_an_album_with_columns_of_several_lengths_is_none(here):
    from safetensors.numpy import load, save

    trained(here / "faces")
    whole = images().split("train")
    (path,) = (here.parent / "cache").rglob("*.safetensors")
    arrays = load(path.read_bytes())
    for change in ({"labels": arrays["labels"][:5]}, {"rows": None}):
        path.write_bytes(save({k: v for k, v in (arrays | change).items() if v is not None}))
        assert same(images().split("train"), whole)


def test_a_disk_that_fills_costs_the_cache_and_no_picture(here, monkeypatch):
    some_unreadable(here)
    whole = images().split("train")
    for path in (here.parent / "cache").rglob("*"):
        path.unlink() if path.is_file() else None
    monkeypatch.setattr(cache, "CHUNK", 4)
    monkeypatch.setattr(cache, "SAVE_EVERY", 0.0)
    real, left = cache.write, [3]

    def full(file, pictures):
        left[0] -= 1
        if left[0] < 0:
            file.write(bytes(5))  # a part, before it refuses
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file, pictures)

    def no_album(path, blob):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(cache, "write", full)
        patched.setattr(remembered, "_put", no_album)
        data = images()
        assert same(data.split("train"), whole)
        (trouble,) = found(data, "cache")
        assert "cannot be written (No space left on device)" in trouble.where
    assert not list((here.parent / "cache").rglob(".album-*"))
    again = images()
    assert same(again.split("train"), whole)
    assert not found(again, "cache")


def test_a_half_written_album_leaves_nothing_behind(here, monkeypatch):
    trained(here / "faces")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(remembered.os, "fsync", full)
    assert len(images().album.names) == len(MANY)
    assert not list((here.parent / "cache").rglob("*album*/*"))
