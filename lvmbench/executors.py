"""Where cells run: in this process, or in worker processes that are reused, watched and replaced."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from lvmbench.api import Record
from lvmbench.catalog import Catalog
from lvmbench.cells import Task, run_cell
from lvmbench.errors import StoreError
from lvmbench.pool import Pool, Worker

BUSY_PAUSE = 1.0  # seconds before a cell that another run holds is tried again
OnProgress = Callable[[Task, str, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """How a task ended: ``done`` left a record; ``timeout``, ``died`` and ``broken`` left none."""

    task: Task
    how: Literal["done", "timeout", "died", "broken"]
    reason: str = ""


class Executor(Protocol):
    """What a plugin's executor offers; its constructor takes ``jobs`` and ``timeout``."""

    def run(self, tasks: Sequence[Task], on_progress: OnProgress) -> Iterator[Outcome]:
        """Run the tasks and yield each as it ends."""
        ...


class Inline:
    """Runs cells in this process, one after another: for a debugger."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def run(self, tasks: Sequence[Task], on_progress: OnProgress) -> Iterator[Outcome]:
        """Run the tasks and yield each as it ends."""
        for task in tasks:
            record = self._wait(task, on_progress)
            yield Outcome(task, "done", record.reason)

    def _wait(self, task: Task, on_progress: OnProgress) -> Record:
        while True:
            record = run_cell(task, self.catalog, lambda *args: on_progress(task, *args))
            if record is not None:
                return record
            time.sleep(BUSY_PAUSE)


class Processes:
    """Runs cells in worker processes, one thread each; what died with its worker is retried alone, once."""

    def __init__(self, jobs: int, timeout: float | None = None, threads: int = 1) -> None:
        self.jobs = jobs
        self.timeout = timeout
        self.pool = Pool(threads)

    def start(self) -> None:
        """Start a worker before there is anything to do: by then it will have loaded its libraries."""
        self.pool.idle()

    def stop(self) -> None:
        """End the workers."""
        self.pool.stop()

    def run(self, tasks: Sequence[Task], on_progress: OnProgress) -> Iterator[Outcome]:
        """Run the tasks and yield each as it ends.

        Raises:
            StoreError: if results can no longer be written; workers are stopped, finished cells stay.
        """
        queue = Queue(tasks)
        try:
            while queue.waits:
                died: list[Task] = []
                for outcome in self._round(queue, on_progress, self.jobs):
                    if outcome.how == "died":
                        died.append(outcome.task)
                    else:
                        yield outcome
                for task in died:
                    self.pool.stop()  # alone: it may have died of the memory that others hold
                    yield from self._round(Queue([task]), on_progress, jobs=1)
                    queue.end(task)
        finally:
            self.stop()

    def _round(self, queue: Queue, on_progress: OnProgress, jobs: int) -> Iterator[Outcome]:
        """Run what waits, but for tasks whose judge has died: these stay in the queue."""
        while True:
            while self.pool.busy < jobs and (task := queue.take()):
                self.pool.idle().give(task)
            if not self.pool.busy:
                return
            for worker, ready in self.pool.looked_at():
                for outcome in self._look(worker, ready, queue, on_progress):
                    queue.end(outcome.task, again=outcome.how == "died")
                    yield outcome

    def _look(self, worker: Worker, ready: bool, queue: Queue, on_progress: OnProgress) -> Iterator[Outcome]:
        """Yield what became of a worker's task since the last look."""
        for event in worker.read() if ready else ():
            yield from self._hear(worker, event, queue, on_progress)
        late = self.timeout is not None and worker.seconds > self.timeout * worker.cells + worker.grace
        if worker.ended or (worker.task and late):
            worker.stop()
            if task := worker.release():
                told = worker.epitaph() if worker.ended else self._late(task)
                yield Outcome(task, "died" if worker.ended else "timeout", told)

    def _late(self, task: Task) -> str:
        cells = f" for each of the {1 + len(task.mates)} cells that it trains" if task.mates else ""
        return f"still running after {self.timeout:g} s{cells} (--timeout)"

    def _hear(
        self, worker: Worker, event: dict[str, Any], queue: Queue, on_progress: OnProgress
    ) -> Iterator[Outcome]:
        """Yield what an event says of a worker's task."""
        kind = event["event"]
        if kind == "ready":
            worker.start_clock()
        elif kind == "broken":
            raise StoreError(event["reason"])
        elif kind == "progress" and worker.task:
            on_progress(worker.task, event["phase"], event["done"], event["total"])
        elif kind == "done" and (task := worker.release()):
            yield Outcome(task, "done")
        elif kind == "busy" and (task := worker.release()):
            time.sleep(0 if queue.ready else BUSY_PAUSE)
            queue.put_back(task)


class Queue:
    """Tasks in their order; one waits for its judge, and for another task of its own fit.

    So no worker idles and no clock runs meanwhile. What a turn costs does not grow with the tasks that wait.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        self.ready = deque(tasks)
        self.held: dict[str, list[Task]] = {}  # by the key of the fit that they wait for
        self.unfinished = Counter(task.cell.fit_key for task in self.ready)
        self.running: set[str] = set()

    @property
    def waits(self) -> bool:
        """Whether any task has not been taken."""
        return bool(self.ready or self.held)

    def take(self) -> Task | None:
        """Return the next task that has nothing to wait for."""
        while self.ready:
            task = self.ready.popleft()
            if not (key := self._awaited(task)):
                self.running.add(task.cell.fit_key)
                return task
            self.held.setdefault(key, []).append(task)
        return None

    def _awaited(self, task: Task) -> str:
        own, judge = task.cell.fit_key, task.judge.fit_key if task.judge else ""
        if judge != own and self.unfinished[judge]:
            return judge
        if task.leader in self.running:
            return task.leader
        return own if own in self.running else ""

    def put_back(self, task: Task) -> None:
        """Take back a task that could not be run at this moment, as the last."""
        self.end(task, again=True)
        self.ready.append(task)

    def end(self, task: Task, *, again: bool = False) -> None:
        """Let go of what waited for a task; while that is to be run ``again``, not of what it judges."""
        key = task.cell.fit_key
        self.running.discard(key)
        self.unfinished[key] -= not again
        self.ready.extendleft(reversed(self.held.pop(key, ())))
