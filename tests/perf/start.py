"""What is waited for before and after training: ``python tests/perf/start.py [--out FILE]``.

Commands are started in fresh processes, their pictures rendered before. Writes a part of ``results/performance.md``.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from peers.machine import head, shown
from peers.report import OUT, START, spread, table, verdict, write
from peers.rounds import Spread

from lvmbench.api import Record
from lvmbench.records import Store

LVMBENCH = Path(sys.executable).with_name("lvmbench")
BUDGET = """images = 32
batch = 32
train = 12000
val = 1000
test = 256
size = 32
draws = 4
density_rows = 32
"""
ROUNDS, WRITTEN = 7, 50
HELP, LIST, STEP = 0.15, 0.4, 5.0  # seconds at most

HOW = f"""Seconds, median of {ROUNDS} (least-most). "The first step": from the command until the end of a cell of one
step is told, less what its record tells of codes and metric; workers start, pictures are rendered before and read."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Time each command, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    begun = head(["python", *shown(sys.argv)])
    with tempfile.TemporaryDirectory() as folder:
        text = measured(Path(folder))
    write(asked.out, START, f"{begun}\n\n{HOW}\n\n{text}")


def measured(folder: Path) -> str:
    """Return the table."""
    budget = folder / "budget.toml"
    budget.write_text(BUDGET, encoding="utf-8")
    asked = ["run", "--models", "vae", "--seeds", "1", "--no-controls", "--metrics", "elbo"]
    cell = [*asked, "--budget", str(budget), "--rerun", "all", "--results", str(folder / "runs")]
    aims = {
        "`lvmbench --help`": (lambda: command("--help"), HELP),
        "`lvmbench list models`": (lambda: command("list", "models"), LIST),
        "`python -c 'import torch'`": (torch_alone, math.inf),
        "the first step, at most": (lambda: first_step(folder / "runs", *cell), STEP),
    }
    rows = []
    for name, (work, most) in aims.items():
        found = timed(work)
        aim = [f"{most:g}", verdict(found.median <= most)] if most < math.inf else ["", ""]
        rows.append([name, spread(found), *aim])
    took = timed(lambda: 1000 * written(folder))
    rows.append(["a record, written, ms", spread(took), "milliseconds", ""])
    return table(["seconds", "taken", "aim", ""], rows)


def command(*arguments: str) -> float:
    """Return the seconds of a command in a process of its own."""
    return _taken([LVMBENCH, *arguments])


def torch_alone() -> float:
    """Return the seconds in which Python loads torch, which planning and every worker wait for."""
    return _taken([sys.executable, "-c", "import torch"])


def _taken(command: Sequence[str | Path]) -> float:
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - start


def first_step(results: Path, *arguments: str) -> float:
    """Return the seconds of a run until its cell was trained, which takes one step."""
    start = time.perf_counter()
    with subprocess.Popen(
        [LVMBENCH, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stderr is not None
        line = next((line for line in run.stderr if ": done in" in line), None)
        taken = time.perf_counter() - start
        run.stderr.read()
    if line is None:
        raise SystemExit("the run ended without a word of its cell")
    seconds = newest(results).seconds
    return taken - seconds["encode"] - seconds["measure"]


def newest(results: Path) -> Record:
    """Return the record that was written last."""
    return max(Store(results).read().stored, key=lambda stored: stored.path.name).record


def written(folder: Path) -> float:
    """Return the seconds that the record of the cell takes to be written again."""
    store, record = Store(folder / "runs"), newest(folder / "runs")
    paths = [store.attempt(record.fit_key) for _ in range(WRITTEN)]
    start = time.perf_counter()
    for path in paths:
        store.write(path, record)
    return (time.perf_counter() - start) / WRITTEN


def timed(work: Callable[[], float]) -> Spread:
    """Return what a piece of work takes by its own word, after one round that warms up."""
    return Spread.of([work() for _ in range(ROUNDS + 1)][1:])


if __name__ == "__main__":
    main()
