import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lvmbench import runner
from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.executors import Processes
from lvmbench.plan import plan
from lvmbench.records import Store
from lvmbench.spec import Spec

TINY = Budget("tiny", images=128, batch=32, train=128, val=32, test=64, draws=4, density_rows=16)


@pytest.fixture
def bench(strangers, tmp_path):
    """Run models in worker processes, into one folder; returns the newest record of each by label."""

    def bench(models, timeout=None, jobs=2, **changes):
        spec = Spec(
            models, **{"dataset": "stripes", "seeds": 1, "metrics": "auroc", "budget": TINY, **changes}
        )
        settings = runner.Settings(tmp_path / "runs", jobs=jobs, timeout=timeout)
        return {r.cell["label"]: r for r in runner.answer(spec, Catalog.discover(), settings).records}

    bench.path = tmp_path / "runs"
    return bench


def test_whatever_a_cell_does_to_its_process_the_others_finish(bench, tmp_path):
    mark = tmp_path / "mark"
    found = bench(
        f"crashes,means,leaves,raises,is-killed-once(mark='{mark}'),babbles", controls=False, timeout=120
    )
    killed = found.pop(next(label for label in found if label.startswith("is-killed-once")))
    assert {label: r.status for label, r in found.items()} == {
        "crashes": "failed",
        "means": "done",
        "leaves": "failed",
        "raises": "failed",
        "babbles": "done",
    }
    assert "SIGSEGV" in found["crashes"].reason
    assert "SystemExit" in found["leaves"].reason
    assert mark.exists()
    assert killed.status == "done"
    (stored,) = [s for s in Store(bench.path).read().stored if s.record.cell["label"] == "raises"]
    assert "about to fail" in stored.log.read_text()
    assert "not to my taste" in stored.log.read_text()


def test_a_hang_ends_at_the_timeout_and_takes_no_other_along(bench):
    started = time.monotonic()
    found = bench("hangs,means", controls=False, timeout=15)
    assert found["hangs"].status == "timeout"
    assert "after 15 s" in found["hangs"].reason
    assert found["means"].status == "done"
    assert time.monotonic() - started < 120  # the sleep in it is 600 s


def test_workers_give_the_same_numbers_as_this_process(bench, strangers, tmp_path):
    apart = bench("vae(net=mlp)", metrics="elbo,auroc", controls=False)
    spec = Spec("vae(net=mlp)", "stripes", "elbo,auroc", 1, TINY, controls=False)
    here = runner.answer(spec, Catalog.discover(), runner.Settings(tmp_path / "here", jobs=0)).records
    assert apart["vae(net=mlp)"].scores == here[0].scores


def test_what_a_network_judges_waits_for_it_until_it_is_done_or_has_died_twice(strangers, tmp_path):
    catalog, store = Catalog.discover(), Store.open(tmp_path)
    planned = plan(Spec("means,crashes", "stripes", "auroc", 1, TINY, controls=False), catalog)
    means, crashes = runner.tasks_of(planned, store, "cpu")
    judged = replace(means, judge=crashes.cell)
    outcomes = list(Processes(jobs=2, timeout=60).run([judged, crashes], lambda *a: None))
    assert [(o.task.cell.label, o.how) for o in outcomes] == [("crashes", "died"), ("means", "done")]


def command(path, *more):
    words = [
        "run",
        "--models",
        "means,vae(net=mlp)",
        "--dataset",
        "stripes",
        "--metrics",
        "auroc",
        "--seeds",
        "2",
    ]
    budget = path.parent / "tiny.toml"
    if not budget.exists():
        budget.write_text("images=4096\nbatch=32\ntrain=128\nval=32\ntest=64\ndraws=4\ndensity_rows=16\n")
    words += [
        "--no-controls",
        "--results",
        str(path),
        "--budget",
        str(budget),
        "--jobs",
        "2",
        "--device",
        "cpu",
    ]
    return [sys.executable, "-m", "lvmbench.cli", *words, *more]


def test_ctrl_c_leaves_with_130_and_keeps_finished_cells(strangers, tmp_path):
    path = tmp_path / "runs"
    process = subprocess.Popen(
        command(path, "--models", "means,hangs"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    _wait_for(lambda: len(list(path.rglob("2*.json"))) >= 2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted; finished cells and pictures are kept" in said
    assert [s.record.status for s in Store(path).read().stored] == ["done", "done"]
    assert not _workers_of(path)


def test_a_disk_that_fills_up_stops_the_run_with_a_sentence_and_leaves_nothing_half_written(
    strangers, tmp_path
):
    path = tmp_path / "runs"
    subprocess.run(command(path, "--models", "means"), capture_output=True, check=True)

    def small_files():  # the kernel refuses what grows beyond, as a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    full = subprocess.run(command(path), capture_output=True, text=True, check=False, preexec_fn=small_files)
    assert full.returncode == 3
    assert "cannot be written (File too large)" in full.stderr.splitlines()[-1]
    assert [s.record.cell["label"] for s in Store.open(path).read().stored] == ["means", "means"]
    assert not list(path.rglob(".tmp-*"))


def test_two_runs_at_once_into_one_folder_share_the_work(strangers, tmp_path):
    path = tmp_path / "runs"
    both = [
        subprocess.Popen(command(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in both]
    assert [p.returncode for p in both] == [0, 0], said
    tables = [out for out, _ in said]
    assert tables[0] == tables[1]
    fits = [s.record.fit_key for s in Store(path).read().stored if "fit" in s.record.seconds]
    assert len(set(fits)) == 4


def _wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


def _workers_of(path):
    """Worker processes that work for a results folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            line = (entry.parent / "cmdline").read_bytes()
            logs = [str(f.readlink()) for f in (entry.parent / "fd").iterdir()]
        except OSError:
            continue
        if b"lvmbench.worker" in line and any(str(path) in log for log in logs):
            found.append(int(entry.parent.name))
    return found


def kill_at_random(path, whom, patience):
    """Start the command, kill the main process or a worker of it at a random moment, and wait for the end."""
    process = subprocess.Popen(command(path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(random.uniform(0, patience))
    victims = [process.pid] if whom == "main" else _workers_of(path)[:1]
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.communicate(timeout=300)
    return process.returncode


def check_kills(tmp_path, times):
    random.seed(0)
    calm = tmp_path / "calm"
    whole = subprocess.run(command(calm), capture_output=True, text=True, check=True).stdout
    stormy = tmp_path / "stormy"
    for i in range(times):
        kill_at_random(stormy, "main" if i % 2 else "worker", patience=12)
        _wait_for(lambda path=stormy: not _workers_of(path), seconds=30)
        reading = Store(stormy).read()
        assert not reading.problems
        assert all(s.record.status == "done" for s in reading.stored)
        keys = [s.record.fit_key for s in reading.stored]
        assert len(keys) == len(set(keys)), "a finished cell was done twice"
        if len(keys) == 4:
            last = subprocess.run(command(stormy), capture_output=True, text=True, check=True)
            assert _numbers(last.stdout) == _numbers(whole)
            stormy = tmp_path / f"stormy-{i}"


def _numbers(table):
    """The lines of a table without the seconds that a fit took."""
    return [[word for j, word in enumerate(line.split()) if j != 3] for line in table.splitlines()]


@pytest.mark.parametrize("whom", ["worker", "main"])
def test_a_fit_that_is_killed_goes_on_to_the_record_of_an_undisturbed_one(strangers, tmp_path, whom):
    mark, short, records, steps = tmp_path / "mark", tmp_path / "short.toml", {}, {}
    short.write_text("images=512\nbatch=32\ntrain=128\nval=32\ntest=64\ndraws=4\ndensity_rows=16\n")
    for path in (tmp_path / "calm", tmp_path / "stormy"):
        words = command(
            path, "--models", f"dies-in-training(mark='{mark}')", "--seeds", "1", "--budget", str(short)
        )
        if path.name == "stormy":
            mark.write_text(whom)
        first = subprocess.run(words, capture_output=True, check=False)
        killed = path.name == "stormy" and whom == "main"
        assert first.returncode == (-signal.SIGKILL if killed else 0), first.stderr
        if killed:
            _wait_for(lambda path=path: not _workers_of(path), seconds=30)
            assert list(path.rglob("checkpoint.safetensors"))
            subprocess.run(words, capture_output=True, check=True)
        assert not list(path.rglob("checkpoint.safetensors"))
        (stored,) = Store(path).read().stored
        assert ("goes on after step 8 of 16" in stored.log.read_text()) == (path.name == "stormy")
        records[path.name] = replace(stored.record, seconds={}, peak_mib={}, started="")
        steps[path.name] = [int(step) for step in mark.with_suffix(".steps").read_text().split()]
        mark.with_suffix(".steps").unlink()
    assert records["stormy"] == records["calm"]
    assert records["calm"].status == "done"
    assert steps["calm"] == list(range(1, 17))
    assert steps["stormy"] == [*range(1, 10), *range(9, 17)]  # the step that was under way is taken again


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_a_kill_of_cell_or_main_process_at_a_random_moment_loses_nothing(strangers, tmp_path):
    check_kills(tmp_path, times=2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_fifty_kills_at_random_moments_lose_nothing(strangers, tmp_path):
    check_kills(tmp_path, times=50)
