"""How tasks are dealt to workers, shown with workers that run nothing."""

import os
from dataclasses import replace
from typing import ClassVar

import pytest

from lvmbench import pool, runner
from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.cells import Task
from lvmbench.errors import UsageError
from lvmbench.executors import Processes, Queue
from lvmbench.plan import Cell
from lvmbench.spec import Spec
from tests_support import assert_linear, calls


def cell(name, **changes):
    asked = {"dataset": "d", "dataset_options": {}, "dataset_label": "d", "fingerprint": "f", "model": name}
    about = {"model_options": {}, "model_source": "s", "role": "model", "label": name, "seed": 0}
    return Cell(**asked, **about, budget=Budget(), device="cpu", **changes)


def task(name, judge="", **changes):
    return Task(cell(name, **changes), (), "", name, judge=cell(judge) if judge else None)


class Echo(pool.Worker):
    """Says of every task that it is done, and dies of those whose name begins so."""

    made: ClassVar[list] = []

    def __init__(self, threads):
        read_end, self.write_end = os.pipe()
        self.events = os.fdopen(read_end, "rb", buffering=0)
        os.set_blocking(read_end, False)
        self.task, self.grace, self.ended, self.closed, self._rest = None, 0.0, False, False, b""
        self.given, self.alive = [], True
        Echo.made.append(self)

    def give(self, task):
        self.task, self.since = task, 0.0
        self.given.append(task.cell.label)
        if task.cell.label.startswith("dies"):
            self._leave()
        else:
            os.write(self.write_end, b'{"event": "done"}\n')

    def _leave(self):
        if self.alive:
            os.close(self.write_end)
        self.alive = False

    def epitaph(self):
        return "gone"

    def stop(self):
        self._leave()
        self.closed = True
        self.events.close()


@pytest.fixture
def echoes(monkeypatch):
    """The workers that were started."""
    monkeypatch.setattr(Echo, "made", [])
    monkeypatch.setattr(pool, "Worker", Echo)
    return Echo.made


def ran(tasks, jobs=2):
    return [(o.task.cell.label, o.how) for o in Processes(jobs).run(tasks, lambda *a: None)]


def test_many_cells_start_no_more_workers_than_jobs_and_all_are_ended(echoes):
    found = ran([task(f"t{i}") for i in range(200)], jobs=3)
    assert sorted(found) == sorted((f"t{i}", "done") for i in range(200))
    assert len(echoes) == 3
    assert all(worker.closed for worker in echoes)


def test_few_cells_start_no_more_workers_than_cells(echoes):
    ran([task("a"), task("b")], jobs=8)
    assert len(echoes) == 2


def test_the_workers_of_a_judge_and_of_what_waits_for_it_are_the_same(echoes):
    found = ran([*(task(f"t{i}", judge="judge") for i in range(50)), task("judge", judge="judge")])
    assert found[0] == ("judge", "done")
    assert len(found) == 51
    assert len(echoes) == 2


def test_what_died_is_tried_again_with_no_other_worker_beside_it(echoes):
    tasks = [task("dies"), *(task(f"t{i}", judge="dies") for i in range(50)), *map(task, "abcdef")]
    found = ran(tasks)
    assert found.count(("dies", "died")) == 1
    assert len(found) == len(tasks)
    assert found.index(("dies", "died")) < min(i for i, (name, _) in enumerate(found) if name.startswith("t"))
    _, second = (i for i, worker in enumerate(echoes) if "dies" in worker.given)
    assert echoes[second].given == ["dies"]
    assert all(worker.closed for worker in echoes[: second + 1])
    assert len(echoes) <= 6  # two at first, one for the death, and two after each


def test_a_worker_started_ahead_runs_the_first_cell(echoes):
    processes = Processes(jobs=2)
    processes.start()
    (ahead,) = echoes
    assert [o.task.cell.label for o in processes.run([task("a")], lambda *a: None)] == ["a"]
    assert ahead.given == ["a"]
    assert len(echoes) == 1


def test_a_worker_is_started_before_the_plan_and_ended_where_there_is_none(echoes, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(runner, "plan", lambda *a, plan=runner.plan: seen.append(len(echoes)) or plan(*a))
    with pytest.raises(UsageError):
        runner.answer(Spec("no-such-model"), Catalog.discover(), runner.Settings(tmp_path, jobs=2))
    assert seen == [1]
    assert echoes[0].closed


@pytest.mark.usefixtures("echoes")
def test_a_turn_costs_the_same_however_many_tasks_wait():
    def cost(n):
        tasks = [task("judge"), *(task(f"t{i}", judge="judge") for i in range(n))]
        return calls(lambda: list(Processes(jobs=2).run(tasks, lambda *a: None)))

    assert_linear(cost)


def test_a_task_waits_for_another_of_its_fit_though_not_for_ever():
    first, other = task("a"), task("a", labels="permuted")
    queue = Queue([first, other, task("b")])
    assert queue.take() is first
    assert queue.take().cell.label == "b"
    assert queue.take() is None
    assert queue.waits
    queue.end(first)
    assert queue.take() is other
    assert not queue.waits


def test_what_a_judge_holds_stays_held_while_it_is_to_be_run_again_and_keeps_its_order_after():
    judge = task("j", judge="j")
    held = [task(name, judge="j") for name in "abc"]
    queue = Queue([judge, *held])
    assert queue.take() is judge
    assert queue.take() is None
    queue.end(judge, again=True)
    assert queue.take() is None
    queue.end(judge)
    assert [queue.take() for _ in held] == held


def test_a_task_that_is_put_back_comes_last_and_still_counts_as_unfinished():
    judge = task("j", judge="j")
    queue = Queue([judge, task("a", judge="j"), task("b")])
    queue.put_back(queue.take())
    assert [queue.take().cell.label for _ in "bj"] == ["b", "j"]
    assert queue.take() is None


def test_a_key_says_the_same_however_often_it_is_asked_for_and_another_seed_has_another():
    one = cell("a")
    assert one.fit_key == one.fit_key == cell("a").fit_key
    assert replace(one, seed=1).fit_key != one.fit_key
