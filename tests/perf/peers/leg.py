"""One side of a comparison, in processes of its own that stay warm: ``python -m peers.leg SIDE WORKLOAD DEVICE``.

A request comes in on standard input, a JSON line: how many images, and which seeds. The answer is a JSON line with
what they took. Whatever the libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO

from lvmbench.pool import KEEP_PAGES, THREAD_VARIABLES
from peers.window import Timing

SIDES = {
    "pythae": ("peers.pythae_side", "run"),
    "ours": ("peers.engine", "run"),
    "hand": ("peers.hand", "run"),
    "pythae nll": ("peers.pythae_side", "nll"),
    "ours nll": ("peers.likelihood", "run"),
    "ours nll bfloat16": ("peers.likelihood", "in_bfloat16"),
}
TRIAL_STEPS = 4  # of the first trial run
TRIAL_SECONDS = 0.3  # a trial shorter than this says nothing of a rate
LEAST_STEPS = 4  # in a run, of which the first is not counted
LONGEST_TRIAL = 1 << 14  # steps


class Side:
    """Processes of one side, with so many threads each; requests are dealt to all of them at once."""

    def __init__(self, name: str, workload: str, device: str, processes: int = 1, threads: int = 1) -> None:
        self.name, self.workload = name, workload
        self.errors = [tempfile.TemporaryFile("w+") for _ in range(processes)]  # noqa: SIM115 (closed at exit)
        # ours as lvmbench starts its workers, the loop the same, so that its memory is no dearer
        own = {} if name.startswith("pythae") else KEEP_PAGES
        path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        env = {**own, **os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": path}
        command = [sys.executable, "-m", "peers.leg", name, workload, device]
        self.processes = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True, env=env
            )
            for file in self.errors
        ]

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        for process, file in zip(self.processes, self.errors, strict=True):
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, file):
                if stream:
                    stream.close()

    def run(self, images: int, seeds: Sequence[int]) -> list[Timing]:
        """Return what so many images of each seed took, by process; the seeds are dealt in turn."""
        dealt = [list(seeds[i :: len(self.processes)]) for i in range(len(self.processes))]
        asked = [(i, some) for i, some in enumerate(dealt) if some]
        for i, some in asked:
            _pipe(self.processes[i].stdin).write(json.dumps({"images": images, "seeds": some}) + "\n")
            _pipe(self.processes[i].stdin).flush()
        return [self._answer(i) for i, _ in asked]

    def _answer(self, index: int) -> Timing:
        line = _pipe(self.processes[index].stdout).readline()
        if not line:
            self.errors[index].seek(0)
            raise SystemExit(f"{self.name}, {self.workload}: {self.errors[index].read()[-3000:]}")
        return Timing(**json.loads(line))

    def images_in(self, seconds: float, batch: int) -> int:
        """Return how many images, in whole batches, one process trains in so many seconds; it warms up by that."""
        steps = TRIAL_STEPS
        while True:
            found = self.run(steps * batch, [0] * len(self.processes))[0]
            if found.seconds >= TRIAL_SECONDS or steps >= LONGEST_TRIAL:
                return max(LEAST_STEPS, round(seconds * found.rate / batch)) * batch
            steps *= 4


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def main(side: str, workload: str, device: str) -> None:
    """Answer requests until no more come."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from peers.workloads import WORKLOADS

    module, function = SIDES[side]
    run = getattr(importlib.import_module(module), function)
    for line in sys.stdin:
        request = json.loads(line)
        timing = run(WORKLOADS[workload], request["images"], request["seeds"], device)
        print(json.dumps(asdict(timing)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
