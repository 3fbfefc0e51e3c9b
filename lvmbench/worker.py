"""The process that runs cells, one after another: ``python -m lvmbench.worker FD``.

Tasks come in on standard input, a line each; events go out on the file descriptor FD, a JSON line each. What a
cell prints goes to its log. When the parent dies, standard input ends, and so does this process.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

PROGRESS_EVERY = 0.3  # seconds


def main(fd: int) -> None:
    """Run the tasks that come in until no more do."""
    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks,), daemon=True).start()

    import torch

    from lvmbench.catalog import Catalog
    from lvmbench.cells import Task, run_cell
    from lvmbench.errors import LvmbenchError
    from lvmbench.pages import give_back

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    catalog = Catalog.discover()
    send = _Sender(fd)
    send(event="ready")
    while True:
        task = Task.from_json(tasks.get())
        _log_to(Path(task.attempt).with_suffix(".log"))
        try:
            record = run_cell(task, catalog, send.progress)
            give_back()
            send(event="done" if record else "busy")
        except LvmbenchError as error:
            send(event="broken", reason=str(error))


def _read(tasks: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        tasks.put(line)
    os._exit(0)  # the parent is gone: nothing that is half done is kept


def _log_to(path: Path) -> None:
    """Send what this process prints, its libraries too, to a file; to nowhere if that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError:
        file = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


class _Sender:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.last = 0.0

    def __call__(self, **event: Any) -> None:
        os.write(self.fd, (json.dumps(event) + "\n").encode())

    def progress(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last >= PROGRESS_EVERY or done == 0:
            self.last = now
            self(event="progress", phase=phase, done=done, total=total)


if __name__ == "__main__":
    main(int(sys.argv[1]))
