import errno
import json
import multiprocessing
import os
import threading

import numpy as np
import pytest
import torch

from lvmbench import cache, shelf
from lvmbench.cache import CHUNK, FIRST, PROBES, cache_dir, cached, kept, watching
from lvmbench.errors import DataError
from lvmbench.shelf import Made

SHAPE = (3, 4, 4)
TOTAL = 768


class Renderer:
    """Draws pictures of one colour, and counts them."""

    def __init__(self):
        self.drawn = 0

    def __call__(self, positions):
        self.drawn += len(positions)
        numbers = torch.from_numpy(positions) % 251
        return numbers.to(torch.uint8)[:, None, None, None].expand(-1, *SHAPE).contiguous()


class Reader:
    """Reads pictures of which every seventh is broken and every fifth turned, and counts them."""

    def __init__(self):
        self.read = []
        self.stop_after = None
        self.lock = threading.Lock()

    def __call__(self, places):
        with self.lock:
            if self.stop_after is not None and len(self.read) >= self.stop_after:
                raise KeyboardInterrupt
            self.read += places.tolist()
        sound = places[places % 7 != 3]
        broken = [(int(p), "broken", "left out", f"file {p}") for p in places if p % 7 == 3]
        turned = [(int(p), "turned", "changed", "") for p in sound if p % 5 == 0]
        return Made(Renderer()(sound).numpy(), sound, [*broken, *turned])


def sound_places(count):
    return [p for p in range(TOTAL) if p % 7 != 3][:count]


def holds(found, count):
    """Return whether these are the first ``count`` sound pictures with the remarks up to the last of them."""
    places = sound_places(count)
    end = places[-1] + 1 if len(places) == count else TOTAL
    expected = {p for p in range(end) if p % 7 == 3} | {p for p in range(end) if p % 7 != 3 and p % 5 == 0}
    told = {remark[0] for remark in found.remarks}
    same = torch.equal(found.images, Renderer()(np.array(places)))
    return found.places.tolist() == places and same and told == expected


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
    assert ask(folder) == PROBES


def test_a_longer_file_serves_a_smaller_question(folder):
    ask(folder, 300)
    assert ask(folder, 20) == PROBES


def test_a_shorter_file_is_added_to(folder):
    ask(folder, 20)
    assert ask(folder, 300) == PROBES + 280 + PROBES  # looked at before and after the lock
    assert ask(folder, 300) == PROBES


def test_splits_do_not_mix(folder):
    ask(folder, name="train")
    assert ask(folder, name="test") == 300


@pytest.mark.parametrize("threads", [False, True])
def test_what_cannot_be_made_is_left_out_and_the_next_takes_its_place(folder, threads):
    assert holds(kept("set/train", 500, TOTAL, Reader(), parallel=threads), 500)
    for count in (1, 3, 4, 499, 500, len(sound_places(TOTAL))):
        assert holds(kept("set/train", count, TOTAL, Reader(), parallel=threads), count)


def test_all_there_is_comes_back_where_more_is_asked_for(folder):
    assert holds(kept("set/train", TOTAL, TOTAL, Reader()), TOTAL)
    again = Reader()
    kept("set/train", TOTAL, TOTAL, again)
    assert len(again.read) == PROBES


def test_work_that_was_interrupted_goes_on_where_it_stopped(folder):
    first = Reader()
    first.stop_after = 2 * CHUNK
    with pytest.raises(KeyboardInterrupt):
        kept("set/train", 500, TOTAL, first)
    second = Reader()
    assert holds(kept("set/train", 500, TOTAL, second), 500)
    assert len(second.read) < 500 - 2 * CHUNK + 100 + 2 * PROBES


def _die(base):
    os.environ["LVMBENCH_CACHE"] = base
    cache.SAVE_EVERY = 0

    def make(places):
        if places[0] >= 2 * CHUNK:
            os._exit(9)
        return Reader()(places)

    kept("set/train", 600, TOTAL, make)


def test_work_that_was_killed_goes_on_from_the_last_state(folder):
    process = multiprocessing.get_context("spawn").Process(target=_die, args=(str(folder.parent),))
    process.start()
    process.join()
    assert process.exitcode == 9
    second = Reader()
    assert holds(kept("set/train", 600, TOTAL, second), 600)
    assert 2 * CHUNK not in second.read[:PROBES]
    assert 0 not in second.read[2 * PROBES :]  # the first chunk was not made again


def _ask_alike(base):
    os.environ["LVMBENCH_CACHE"] = base
    reader = Reader()
    assert holds(kept("set/train", 600, TOTAL, reader), 600)
    return len(reader.read)


def test_two_processes_at_once_make_the_pictures_once(folder):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        made = sorted(pool.map(_ask_alike, [str(folder.parent)] * 2, chunksize=1))
    assert made[0] <= 2 * PROBES
    assert made[1] > 600


@pytest.mark.parametrize("keep", [0, 50, 128, 5000])
def test_a_truncated_file_is_drawn_anew_and_mended(folder, keep):
    ask(folder)
    path = folder / "train.pictures"
    path.write_bytes(path.read_bytes()[:keep])
    assert ask(folder) == 300
    assert ask(folder) == PROBES


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', '{"format": 99}', "\0"])
def test_a_damaged_state_is_drawn_anew_and_mended(folder, damage):
    ask(folder)
    (folder / "train.json").write_text(damage)
    assert ask(folder) == 300
    assert ask(folder) == PROBES


def test_a_state_that_promises_more_than_the_file_holds_is_not_believed(folder):
    ask(folder, 20)
    told = json.loads((folder / "train.json").read_text())
    (folder / "train.json").write_text(json.dumps({**told, "seen": 300}))
    assert ask(folder, 300) == 300


def test_a_file_with_other_pictures_is_drawn_anew_and_told(folder):
    ask(folder)
    (folder / "train.pictures").write_bytes(bytes(300 * 48))
    found = kept("set/train", 300, 300, lambda places: Made(Renderer()(places).numpy(), places))
    assert "made again" in found.trouble
    assert torch.equal(found.images, Renderer()(np.arange(300)))
    assert ask(folder) == PROBES


def test_a_reader_of_pictures_that_are_made_again_keeps_its_own(folder):
    before = cached("set/train", 300, Renderer())
    (folder / "train.json").write_text("{")
    ask(folder, 20)
    assert torch.equal(before, Renderer()(np.arange(300)))


def test_a_folder_that_cannot_be_made_costs_only_the_work(folder):
    folder.parent.write_text("in the way")
    for _ in range(2):
        assert ask(folder) == 300


def test_a_disk_that_fills_costs_only_the_work_and_is_told(folder, monkeypatch):
    write, written = cache.write, []

    def full(file, pictures):
        if len(written) == 1:
            file.write(pictures.tobytes()[:1000])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(len(pictures))
        write(file, pictures)

    monkeypatch.setattr(cache, "write", full)
    found = kept("set/train", 600, TOTAL, Reader())
    assert holds(found, 600)
    assert "train.pictures: cannot be written (No space left on device)" in found.trouble
    monkeypatch.undo()
    monkeypatch.setenv("LVMBENCH_CACHE", str(folder.parent))
    again = Reader()
    assert holds(kept("set/train", 600, TOTAL, again), 600)  # what had been written was sound
    assert 0 not in again.read[2 * PROBES :]


@pytest.mark.parametrize("error", [KeyboardInterrupt, DataError("the disk is away")])
def test_nothing_is_kept_of_a_start_that_failed_at_once_and_the_next_is_as_the_first(folder, error):
    def broken(places):
        raise error

    for _ in range(2):
        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            kept("set/train", 100, TOTAL, broken, probes=0)
    assert holds(kept("set/train", 100, TOTAL, Reader(), probes=0), 100)


def test_of_no_places_there_are_no_pictures_again_and_again(folder):
    for _ in range(3):
        found = kept("set/train", 0, 0, Reader(), probes=0)
        assert (len(found.images), found.trouble) == (0, "")


def test_of_places_that_give_no_picture_it_is_remembered_why(folder):
    def broken(places):
        asked.extend(places)
        return Made(
            np.empty((0, *SHAPE), np.uint8), places[:0], [(int(p), "broken", "left out", "") for p in places]
        )

    asked = []
    for _ in range(2):
        found = kept("set/train", 5, 9, broken, probes=0)
        assert (len(found.images), len(found.remarks)) == (0, 9)
    assert len(asked) == 9


def test_a_disk_that_is_full_from_the_first_costs_only_the_work(folder, monkeypatch):
    def full(file, pictures):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "write", full)
    for _ in range(2):
        found = kept("set/train", 100, TOTAL, Reader(), probes=0)
        assert holds(found, 100)
        assert "No space left" in found.trouble


def test_a_write_that_takes_a_part_is_finished(tmp_path):
    class Slow:
        def __init__(self):
            self.content = b""

        def write(self, view):
            self.content += bytes(view[:7])
            return min(7, len(view))

    file = Slow()
    pictures = Renderer()(np.arange(3)).numpy()
    cache.write(file, pictures)
    assert file.content == pictures.tobytes()


def test_nothing_temporary_is_left(folder):
    ask(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["train.json", "train.lock", "train.pictures"]


def test_a_state_is_told_only_once_its_pictures_have_reached_the_disk(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(shelf.os, "fsync", lambda handle: seen.append((folder / "train.json").exists()))
    ask(folder)
    assert seen[0] is False


def test_who_watches_hears_of_every_picture_and_of_nothing_that_was_there(folder):
    heard = []
    with watching(lambda done, total: heard.append((done, total))):
        ask(folder, 2 * CHUNK)
        assert heard == [(FIRST, 2 * CHUNK), (2 * CHUNK, 2 * CHUNK)]
        ask(folder, 2 * CHUNK)
    ask(folder, 3 * CHUNK)
    assert len(heard) == 2


def test_of_large_pictures_few_are_made_at_a_time(folder):
    asked = []

    def make(places):
        asked.append(len(places))
        return Made(np.zeros((len(places), 3, 500, 500), np.uint8), places)

    kept("set/large", 40, 40, make, probes=0)
    assert asked == [FIRST, 11, 11, 2]  # 11 pictures of 750,000 bytes are just below 8 MiB


def test_writing_into_mapped_pictures_leaves_the_file_alone(folder):
    ask(folder)
    cached(f"{folder.name}/train", 300, Renderer()).fill_(7)
    assert ask(folder) == PROBES


def test_the_cache_lies_in_the_users_cache_folder_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("LVMBENCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "lvmbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "lvmbench"


def test_a_picture_that_changed_on_the_disk_is_noticed_without_making_one(folder):
    kept("set/train", 300, 300, Reader(), probes=0)
    path = folder / "train.pictures"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = Reader()
    found = kept("set/train", 200, 300, again, probes=0)
    assert "made again" in found.trouble
    assert holds(found, 200)


def test_what_two_machines_round_apart_is_the_same_picture(folder):
    ask(folder)

    def brighter(places):
        asked.extend(places.tolist())
        return Renderer()(places) + 1

    asked = []
    cached("set/train", 300, brighter, rounding=1)
    assert len(asked) == PROBES
    cached("set/train", 300, brighter)
    assert len(asked) > 300
