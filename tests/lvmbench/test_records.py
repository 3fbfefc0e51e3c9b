import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvmbench.api import Record, Score
from lvmbench.errors import StoreError
from lvmbench.records import FORMAT, TEMPORARY, Store, from_json, to_json

KEY = "ab" * 16


def record(**changes):
    return Record(**{"fit_key": KEY, "cell": {"model": "vae", "seed": 0}, "status": "done", **changes})


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "runs")


words = st.text(max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
scores = st.builds(
    Score,
    metric=words,
    version=st.integers(1, 9),
    status=st.sampled_from(["done", "n/a", "failed"]),
    key=words,
    options=st.dictionaries(words, st.one_of(st.integers(), words, st.booleans()), max_size=2),
    attribute=st.none() | words,
    value=st.none() | numbers,
    low=st.none() | numbers,
    high=st.none() | numbers,
    n=st.none() | st.integers(0, 10**9),
    reason=words,
)
records = st.builds(
    Record,
    fit_key=st.just(KEY),
    cell=st.dictionaries(words, st.integers() | words, max_size=3),
    status=st.sampled_from(["done", "failed", "timeout", "skipped"]),
    reason=words,
    scores=st.lists(scores, max_size=3).map(tuple),
    converged=st.none() | st.booleans(),
    seconds=st.dictionaries(words, numbers, max_size=2),
    findings=st.dictionaries(words, st.integers(1, 10**6), max_size=2),
)


@given(records)
def test_a_record_is_read_as_it_was_written(kept):
    assert from_json(to_json(kept), Path("x.json")) == kept


def test_a_record_that_tells_of_no_findings_has_none():
    raw = json.loads(to_json(record(findings={"left out: row without a picture": 3})))
    del raw["findings"]
    assert from_json(json.dumps(raw).encode(), Path("x.json")) == record()


@given(records, st.data())
def test_a_record_cut_anywhere_is_refused_by_name_and_never_half_read(kept, data):
    blob = to_json(kept)
    cut = data.draw(st.integers(0, len(blob) - 3))
    with pytest.raises(StoreError, match=r"x.json: not a whole record"):
        from_json(blob[:cut], Path("x.json"))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_a_store_error(blob):
    with pytest.raises(StoreError):
        from_json(blob, Path("x.json"))


def test_not_a_number_is_never_stored():
    with pytest.raises(ValueError, match="JSON"):
        to_json(record(seconds={"fit": float("nan")}))


def test_records_come_back_oldest_first(store):
    for i in range(3):
        store.write(store.attempt(KEY), record(reason=str(i)))
    assert [s.record.reason for s in store.read(KEY).stored] == ["0", "1", "2"]
    assert len(store.read().stored) == 3


def test_replicates_lie_beside_their_record(store):
    path = store.attempt(KEY)
    store.write(path, record(), {"auroc/Male": torch.ones(3)})
    assert store.read(KEY).stored[0].replicates.exists()


def test_a_torn_record_is_told_and_hides_no_other(store):
    store.write(store.attempt(KEY), record())
    torn = store.attempt(KEY)
    torn.write_bytes(to_json(record())[:40])
    reading = store.read()
    assert len(reading.stored) == 1
    assert str(torn) in reading.problems[0]


def test_a_record_of_a_newer_lvmbench_is_told_as_such(store):
    path = store.attempt(KEY)
    store.write(path, record())
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": FORMAT + 1}))
    assert "newer than this lvmbench" in store.read().problems[0]


def test_a_store_of_a_newer_lvmbench_is_refused(tmp_path):
    Store.open(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(StoreError, match="Upgrade lvmbench"):
        Store.open(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_a_clear_error(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match=r"results cannot be written here.*--results"):
        Store.open(tmp_path / "runs")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_a_clear_error(tmp_path):
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="cannot be written"):
        Store.open(tmp_path / "runs")


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("broken_call", ["fsync", "replace"])
def test_a_full_disk_is_an_error_that_leaves_nothing_half_written(store, monkeypatch, broken_call):
    store.write(store.attempt(KEY), record(reason="first"))
    if broken_call == "fsync":
        monkeypatch.setattr("os.fsync", full_disk)
    else:
        monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        store.write(store.attempt(KEY), record(reason="second"), {"x": torch.ones(1)})
    monkeypatch.undo()
    assert [s.record.reason for s in store.read(KEY).stored] == ["first"]
    assert not list(store.path.rglob(f"{TEMPORARY}*"))
    assert not list(store.path.rglob("*.safetensors"))


def test_a_fit_appears_whole_or_not_at_all(store):
    def torn(folder):
        (folder / "weights").write_text("half")
        raise OSError(errno.ENOSPC, "No space left")

    with pytest.raises(StoreError):
        store.keep_fit(KEY, torn)
    assert store.fit(KEY) is None
    store.keep_fit(KEY, lambda folder: (folder / "weights").write_text("whole"))
    assert (store.fit(KEY) / "weights").read_text() == "whole"


def test_a_second_process_is_told_that_a_fit_is_claimed(store):
    with store.claim(KEY) as mine, Store(store.path).claim(KEY) as yours:
        assert mine
        assert not yours
    with store.claim(KEY) as mine:
        assert mine


def hold_for_ever(path):
    with Store(path).claim(KEY):
        (path / "held").touch()
        time.sleep(60)


def write_for_ever(path):
    store = Store.open(path)
    while True:
        store.write(store.attempt(KEY), record(reason="x" * 20_000), {"r": torch.ones(2000)})


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_death_lets_go_of_a_claim(store):
    process = multiprocessing.get_context("fork").Process(target=hold_for_ever, args=(store.path,))
    process.start()
    wait_for((store.path / "held").exists)
    process.kill()
    process.join()
    with store.claim(KEY) as mine:
        assert mine


def test_writers_killed_at_any_moment_leave_only_whole_records(store):
    context = multiprocessing.get_context("fork")
    for i in range(10):
        process = context.Process(target=write_for_ever, args=(store.path,))
        process.start()
        seen = len(list(store.path.rglob("*.json")))
        wait_for(lambda seen=seen: len(list(store.path.rglob("*.json"))) > seen)
        time.sleep(0.003 * i)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    reading = Store.open(store.path).read()
    assert len(reading.stored) >= 10
    assert not reading.problems
    assert not list(store.path.rglob(f"{TEMPORARY}*"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5, deadline=None)
@given(st.integers(2, 4))
def test_writers_side_by_side_lose_nothing(tmp_path_factory, writers):
    store = Store.open(tmp_path_factory.mktemp("runs"))

    def write_some():
        for _ in range(5):
            store.write(store.attempt(KEY), record())

    processes = [multiprocessing.get_context("fork").Process(target=write_some) for _ in range(writers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(store.read().stored) == 5 * writers


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads names of open files from /proc")
def test_a_record_appears_after_its_replicates_once_both_are_on_the_disk(store, monkeypatch):
    seen = []
    sync, replace = os.fsync, Path.replace

    def name(handle):
        return Path(f"/proc/self/fd/{handle}").readlink()

    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(("sync", name(handle))) or sync(handle))
    monkeypatch.setattr(Path, "replace", lambda path, to: seen.append(("appears", to)) or replace(path, to))
    path = store.attempt(KEY)
    store.write(path, record(), {"x": torch.ones(1)})
    assert [what for what, _ in seen] == ["sync", "sync", "appears", "appears", "sync"]
    assert all(where.name.startswith(TEMPORARY) for _, where in seen[:2])
    assert [where for _, where in seen[2:]] == [path.with_suffix(".safetensors"), path, path.parent.resolve()]


def test_a_record_that_is_gone_is_told_by_its_path(store):
    path = store.attempt(KEY)
    with pytest.raises(StoreError, match=r"\.json: the record cannot be read \(No such file"):
        store.one(path)
    store.write(path, record(reason="there"))
    assert store.one(path).record.reason == "there"
