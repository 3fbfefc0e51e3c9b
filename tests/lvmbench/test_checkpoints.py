import errno
import math
import os
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from lvmbench import checkpoints
from lvmbench.checkpoints import EVERY, SHARE, Checkpoint, Checkpoints, plain, set_plain

MADE = {"fit": "a" * 64, "torch": "2.11", "threads": "1"}
FOUND = Checkpoint(
    7,
    ((32, 1.1), (64, math.inf), (112, 0.1 + 0.2)),
    {".stage": 2, ".warm": True, ".rate": 0.3, ".word": "x", ".none": None},
    weights={"a.b": torch.randn(3, 2), "half": torch.randn(4).bfloat16(), "one": torch.tensor(3)},
    optimisers={"loss/0/step": torch.tensor(7.0), "loss/0/exp_avg": torch.randn(3, 2)},
    random={"cpu": torch.get_rng_state()},
    best={"a.b": torch.zeros(3, 2)},
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ab" / "checkpoint.safetensors"


@pytest.fixture
def kept(path, clock):
    keep = Checkpoints(path, MADE, clock)
    keep.write(FOUND)
    return path


def same(a, b):
    return a.keys() == b.keys() and all(
        x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True)
    )


def test_a_checkpoint_is_read_as_it_was_written_to_the_last_bit(kept):
    found = Checkpoints(kept, MADE).last()
    assert (found.step, found.curve) == (FOUND.step, FOUND.curve)
    assert {k: (type(v), v) for k, v in found.plain.items()} == {
        k: (type(v), v) for k, v in FOUND.plain.items()
    }
    for part in checkpoints.PARTS:
        assert same(dict(sorted(getattr(found, part).items())), dict(sorted(getattr(FOUND, part).items())))


def test_tensors_that_share_their_memory_or_lie_in_another_order_are_kept(path):
    picture = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    flat = torch.randn(6)
    weights = {"a": picture, "turned": picture.transpose(0, 1), "flat": flat, "tied": flat, "part": flat[1:4]}
    Checkpoints(path, MADE).write(replace(FOUND, weights=weights))
    assert same(Checkpoints(path, MADE).last().weights, dict(sorted(weights.items())))


def test_where_there_is_none_there_is_nothing_to_say(path, capsys):
    assert Checkpoints(path, MADE).last() is None
    assert capsys.readouterr().out == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_one_that_is_cut_or_changed_anywhere_is_told_and_not_used(kept, capsys, data):
    whole = kept.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    try:
        for blob in (whole[:place], changed):
            kept.write_bytes(blob)
            keep = Checkpoints(kept, MADE)
            assert keep.last() is None
            assert keep.earlier == 0
            assert f"{kept}: damaged, trained from the start" in capsys.readouterr().out
    finally:
        kept.write_bytes(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_damage_and_no_error(tmp_path, blob):
    (tmp_path / "x").write_bytes(blob)
    assert Checkpoints(tmp_path / "x", MADE).last() is None


def test_a_pickle_is_not_read(tmp_path, capsys):
    torch.save({"a": torch.ones(1)}, tmp_path / "x")
    assert Checkpoints(tmp_path / "x", MADE).last() is None
    assert "damaged" in capsys.readouterr().out


def test_one_of_another_format_is_not_used(kept, capsys, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", checkpoints.FORMAT + 1)
    assert Checkpoints(kept, MADE).last() is None
    assert "its format is 1, not 2" in capsys.readouterr().out


@pytest.mark.parametrize("other", [{"torch": "2.12"}, {"gpu": "H100"}, {"fit": "b" * 64}])
def test_one_that_was_made_elsewhere_is_told_and_not_used(kept, capsys, other):
    keep = Checkpoints(kept, MADE | other)
    assert keep.last() is None
    assert keep.earlier == 0
    ((name, value),) = other.items()
    assert f"made with other {name} ({MADE.get(name)}; here {value})" in capsys.readouterr().out


@pytest.mark.parametrize("broken_call", ["os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_older_one_and_the_fit_goes_on(kept, monkeypatch, capsys, broken_call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(broken_call, full)
    keep = Checkpoints(kept, MADE)
    keep.write(replace(FOUND, step=8))
    monkeypatch.undo()
    assert "cannot be written (No space left on device); the fit goes on without" in capsys.readouterr().out
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    assert keep.last().step == 7


def test_a_newer_one_takes_the_place_of_the_older(kept):
    keep = Checkpoints(kept, MADE)
    keep.write(replace(FOUND, step=8))
    assert keep.last().step == 8
    assert [file.name for file in kept.parent.iterdir()] == [kept.name]
    keep.clear()
    assert keep.last() is None
    keep.clear()


def test_one_is_due_so_many_seconds_after_the_beginning_and_after_the_one_before(path, clock):
    keep = Checkpoints(path, MADE, clock)
    for start in (0.0, EVERY):
        for seconds, due in ((0, False), (EVERY - 1, False), (EVERY, True)):
            clock.now = start + seconds
            assert keep.due() == due
        keep.write(FOUND)


def test_those_that_take_long_to_write_are_further_apart(path, clock, monkeypatch):
    def slow(blobs):
        clock.now += 3

    monkeypatch.setattr(checkpoints, "put", slow)
    keep = Checkpoints(path, MADE, clock)
    keep.write(FOUND)
    clock.now = 3 + 3 / SHARE - 1
    assert not keep.due()
    clock.now = 3 + 3 / SHARE
    assert keep.due()


def test_the_seconds_of_all_parts_of_a_fit_add_up(path, clock):
    for begun, seconds, earlier in ((100.0, 70.0, 0.0), (1000.0, 5.0, 70.0), (0.0, 1.0, 75.0)):
        clock.now = begun
        keep = Checkpoints(path, MADE, clock)
        keep.last()
        assert keep.earlier == earlier
        clock.now += seconds
        keep.write(FOUND)
    keep.clear()
    assert keep.earlier == 0


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = nn.Linear(1, 1)
        self.part.stage, self.steps, self.ratio, self.word, self.warm = 0, 0, 0.5, "a", False
        self.list, self.tensor = [1], torch.ones(1)


def test_numbers_and_words_of_a_model_and_its_parts_are_taken_and_put_back():
    one, other = Counts(), Counts()
    one.part.stage, one.steps, one.ratio, one.word, one.warm = 3, 7, 0.1, "b", True
    found = plain(one)
    assert not [name for name in found if "list" in name or "tensor" in name]
    set_plain(other, found)
    assert (other.part.stage, other.steps, other.ratio, other.word, other.warm) == (3, 7, 0.1, "b", True)


def test_a_number_that_a_model_only_has_while_it_trains_comes_back_and_takes_nothing_elses_place():
    model = Counts()
    set_plain(model, {".forward": 1, ".list": 2, ".part": 3, "part.new": 4, "gone.new": 5})
    assert callable(model.forward)
    assert model.list == [1]
    assert isinstance(model.part, nn.Linear)
    assert model.part.new == 4
