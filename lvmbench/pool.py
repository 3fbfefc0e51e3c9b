"""Worker processes: started when there is work for them, reused, watched, and ended whole."""

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
from collections.abc import Iterator
from typing import IO, Any

from lvmbench.cells import Task

POLL = 0.5  # seconds between looks at the clock
START = 120.0  # seconds that a worker may take to start, beyond the timeout of its first cell
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# glibc hands a large tensor's pages back after every step, and takes them anew: let it keep them
KEEP_PAGES = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


class Pool:
    """The workers of a run: started when there is work for them, and kept for what comes after."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.workers: list[Worker] = []
        self.selector = selectors.DefaultSelector()

    def stop(self) -> None:
        """End all workers; whoever asks for one after that gets another."""
        while self.workers:  # one by one, so that a second interruption finds the rest
            worker = self.workers.pop()
            self.selector.unregister(worker.events)
            worker.stop()

    @property
    def busy(self) -> int:
        """The number of workers that have a task."""
        return sum(bool(worker.task) for worker in self.workers)

    def idle(self) -> Worker:
        """Return a worker without a task."""
        for worker in self.workers:
            if worker.task is None:
                return worker
        worker = Worker(self.threads)
        self.workers.append(worker)
        self.selector.register(worker.events, selectors.EVENT_READ, worker)
        return worker

    def looked_at(self) -> Iterator[tuple[Worker, bool]]:
        """Yield each worker, and whether it has said something; one that was closed meanwhile is forgotten."""
        ready = {key.fd for key, _ in self.selector.select(POLL)}
        for worker in list(self.workers):
            yield worker, worker.events.fileno() in ready
            if worker.closed and worker in self.workers:
                self.workers.remove(worker)
                self.selector.unregister(worker.events)


class Worker:
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

    @property
    def cells(self) -> int:
        """How many cells the present task trains."""
        return 1 + len(self.task.mates) if self.task else 1

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
