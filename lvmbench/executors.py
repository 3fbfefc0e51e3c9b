"""Where cells run: in this process, or in worker processes that are reused, watched and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

from lvmbench.api import Record
from lvmbench.catalog import Catalog
from lvmbench.cells import Task, run_cell
from lvmbench.errors import StoreError

POLL = 0.5  # seconds between looks at the clock
START = 120.0  # seconds that a worker may take to start, beyond the timeout of its first cell
BUSY_PAUSE = 1.0  # seconds before a cell that another run holds is tried again
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# glibc hands a large tensor's pages back after every step, and takes them anew: let it keep them
KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
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
        self.threads = threads

    def run(self, tasks: Sequence[Task], on_progress: OnProgress) -> Iterator[Outcome]:
        """Run the tasks and yield each as it ends.

        Raises:
            StoreError: if results can no longer be written; workers are stopped, finished cells stay.
        """
        waiting = deque(tasks)
        while waiting:
            died: list[Task] = []
            for outcome in self._round(waiting, on_progress, self.jobs):
                if outcome.how == "died":
                    died.append(outcome.task)
                else:
                    yield outcome
            for task in died:
                yield from self._round(deque([task]), on_progress, jobs=1)

    def _round(self, waiting: deque[Task], on_progress: OnProgress, jobs: int) -> Iterator[Outcome]:
        """Run what waits, but for tasks whose judge has died: these stay in the queue."""
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            workers: list[_Worker] = []
            dead: set[str] = set()
            while True:
                workers = [w for w in workers if not w.closed]
                unfinished = dead | {t.cell.fit_key for t in (*waiting, *(w.task for w in workers)) if t}
                ready_to_go = [task for task in waiting if not _is_held(task, unfinished)]
                busy = sum(bool(w.task) for w in workers)
                if not (ready_to_go or busy):
                    return
                while len(workers) < min(jobs, len(ready_to_go) + busy):
                    worker = _Worker(self.threads)
                    stack.callback(worker.stop)
                    selector.register(worker.events, selectors.EVENT_READ, worker)
                    workers.append(worker)
                for worker, task in zip([w for w in workers if w.task is None], ready_to_go, strict=False):
                    waiting.remove(task)
                    worker.give(task)
                ready = [key.data for key, _ in selector.select(POLL)]
                for worker in workers:
                    for outcome in self._look(worker, worker in ready, waiting, on_progress):
                        dead |= {outcome.task.cell.fit_key} if outcome.how == "died" else set()
                        yield outcome
                    if worker.closed:
                        selector.unregister(worker.events)

    def _look(
        self, worker: _Worker, ready: bool, waiting: deque[Task], on_progress: OnProgress
    ) -> Iterator[Outcome]:
        """Yield what became of a worker's task since the last look."""
        for event in worker.read() if ready else ():
            yield from self._hear(worker, event, waiting, on_progress)
        late = self.timeout is not None and worker.seconds > self.timeout + worker.grace
        if worker.ended or (worker.task and late):
            worker.stop()
            if task := worker.release():
                told = (
                    worker.epitaph()
                    if worker.ended
                    else f"still running after {self.timeout:g} s (--timeout)"
                )
                yield Outcome(task, "died" if worker.ended else "timeout", told)

    def _hear(
        self, worker: _Worker, event: dict[str, Any], waiting: deque[Task], on_progress: OnProgress
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
            time.sleep(0 if waiting else BUSY_PAUSE)
            waiting.append(task)


def _is_held(task: Task, unfinished: set[str]) -> bool:
    """Return whether a task has to wait for its judge, so that no worker idles and no clock runs meanwhile."""
    key = task.judge.fit_key if task.judge else ""
    return key in unfinished and key != task.cell.fit_key


class _Worker:
    """One worker process, in a process group of its own so that nothing of it survives ``stop``."""

    def __init__(self, threads: int) -> None:
        read_end, write_end = os.pipe()
        self.events: IO[bytes] = os.fdopen(read_end, "rb", buffering=0)
        os.set_blocking(read_end, False)
        self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop); what it prints before a cell
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lvmbench.worker", str(write_end)],
            stdin=subprocess.PIPE,
            stdout=self.complaints,
            stderr=self.complaints,
            pass_fds=(write_end,),
            start_new_session=True,
            env={**KEEP_PAGES, **os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))},
        )
        os.close(write_end)
        self.task: Task | None = None
        self.since = time.monotonic()
        self.grace = START
        self.ended = self.closed = False
        self._rest = b""

    @property
    def seconds(self) -> float:
        """How long the present task has been running."""
        return time.monotonic() - self.since

    def start_clock(self) -> None:
        """Count the seconds of a cell from the moment at which the worker has started."""
        self.since, self.grace = time.monotonic(), 0.0

    def give(self, task: Task) -> None:
        """Hand over a task; a worker that is gone is found out at the next look."""
        self.task, self.since = task, time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            assert self.process.stdin
            self.process.stdin.write((task.to_json() + "\n").encode())
            self.process.stdin.flush()

    def release(self) -> Task | None:
        """Take the task back."""
        task, self.task = self.task, None
        return task

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the events that came in; notes when the process has ended."""
        chunk = self.events.read(1 << 16)
        if chunk == b"":
            self.ended = True
        *lines, self._rest = (self._rest + (chunk or b"")).split(b"\n")
        for line in lines:
            yield json.loads(line)

    def epitaph(self) -> str:
        """Return how the process ended."""
        code = self.process.returncode
        if code is not None and code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(-code).name}{hint}, twice"
        self.complaints.seek(0)
        said = self.complaints.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with exit code {code}, twice" + (f": {said[-1]}" if said else "")

    def stop(self) -> None:
        """End the process and all that it started, at once."""
        if self.closed:
            return
        self.closed = True
        if not self.ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it left behind
        for file in (self.process.stdin, self.events, self.complaints):
            if file:
                with contextlib.suppress(OSError):
                    file.close()
