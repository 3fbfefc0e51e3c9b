"""The machine: whether it is idle, what it can do at most, and what it is called."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from lvmbench.environment import commit, cores, hardware
from lvmbench.products import linear

SAMPLE = 0.5  # seconds over which the load is looked at
IDLE = 0.15  # cores that may be busy with something else
IDLE_FIELDS = (3, 4)  # of /proc/stat: idle, and waiting for a disk
OWN_FIELDS = 8  # user to steal; the guests' are in the user's already
SIZE = 2048  # of the square matrices
COPIED = 1 << 26  # numbers: 256 MiB, more than any cache
REPEATS = 5
PACKAGES = ("lvmbench", "torch", "numpy", "scikit-learn", "pythae")


def ticks(stat: str) -> tuple[int, int]:
    """Return the ticks that all processors were busy, stolen ones among them, and all ticks, from /proc/stat."""
    fields = [int(f) for f in stat.splitlines()[0].split()[1 : OWN_FIELDS + 1]]
    return sum(fields) - sum(fields[i] for i in IDLE_FIELDS), sum(fields)


def busy_cores(before: str, after: str, processors: int) -> float:
    """Return how many of the processors were busy between two readings of /proc/stat."""
    (busy, whole), (busy_then, whole_then) = ticks(after), ticks(before)
    return processors * (busy - busy_then) / max(1, whole - whole_then)


def is_idle() -> bool:
    """Return whether nothing else runs for half a second; where nothing tells the load, by the load average."""
    stat = Path("/proc/stat")
    if not stat.exists():
        time.sleep(SAMPLE)
        return os.getloadavg()[0] < IDLE
    before = stat.read_text()
    time.sleep(SAMPLE)
    return busy_cores(before, stat.read_text(), os.cpu_count() or 1) < IDLE


def wait_until_idle(limit: float) -> bool:
    """Wait until the machine is idle, so many seconds at most, and return whether it is."""
    end = time.monotonic() + limit
    while not (idle := is_idle()) and time.monotonic() < end:
        pass
    return idle


@dataclass(frozen=True)
class Peak:
    """What the machine did at most in this run, with so many threads: GFLOP/s, and GB/s read and written."""

    threads: int
    float32: float
    bfloat16: float
    copy: float
    operator: float  # seconds that a small operator takes

    def of(self, precision: str) -> float:
        """Return the peak of a precision, in GFLOP/s."""
        return self.float32 if precision == "float32" else self.bfloat16


def peak(threads: int, device: str = "cpu") -> Peak:
    """Measure what so many threads, or a device, do at most."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        flops = {
            d: 2 * SIZE**3 / _seconds(_product(d, device), device) / 1e9 for d in ("float32", "bfloat16")
        }
        source = torch.zeros(COPIED, device=device)
        target = torch.empty_like(source)
        copied = 2 * 4 * COPIED / _seconds(lambda: target.copy_(source), device) / 1e9
        small = torch.zeros(20, 20, device=device)
        operator = _seconds(lambda: [small + 1 for _ in range(1000)], device) / 1000
    finally:
        torch.set_num_threads(before)
    return Peak(threads, flops["float32"], flops["bfloat16"], copied, operator)


def _product(dtype: str, device: str) -> Callable[[], object]:
    a, b = (torch.randn(SIZE, SIZE, device=device).to(getattr(torch, dtype)) for _ in range(2))
    return lambda: linear(a, b)


def _seconds(work: Callable[[], object], device: str) -> float:
    """Return the fastest of some runs of a piece of work, after one that is not counted."""
    found = []
    for _ in range(REPEATS + 1):
        _synchronise(device)
        start = time.perf_counter()
        work()
        _synchronise(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def head(command: Sequence[str], device: str = "cpu") -> str:
    """Return what a part of the file begins with: command, date, commit, hardware, versions."""
    told = hardware(device)
    state = commit()
    lines = {
        "command": f"`{shlex.join(command)}`",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": state.rstrip("+") + (", with changes that are not committed" if state.endswith("+") else ""),
        "hardware": ", ".join([told["cpu"], f"{cores()} cores", told["system"], *filter(None, [told.get("gpu")])]),
        "versions": ", ".join(_versions()),
        "load": f"{os.getloadavg()[0]:.2f} when it began",
    }  # fmt: skip
    return "\n".join(f"- {name}: {text}" for name, text in lines.items())


def _versions() -> list[str]:
    found = [f"Python {sys.version.split()[0]}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return found


def resident_mib() -> float:
    """Return the memory that this process holds, in MiB."""
    return _status("self", "VmRSS")


def peak_mib(process: int | str = "self") -> float:
    """Return the most memory that a process has held since it began, in MiB."""
    return _status(process, "VmHWM")


def _status(process: int | str, field: str) -> float:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/{process}/status has no {field}: memory is measured on Linux only.")


def shown(argv: Sequence[str]) -> list[str]:
    """Return a command line as it is typed in the root of the checkout; where its file went is nobody's business."""
    script, root = Path(argv[0]).resolve(), Path(__file__).parents[3]
    told = list(argv[1:])
    if "--out" in told:
        del told[(place := told.index("--out")) : place + 2]
    return [str(script.relative_to(root)) if script.is_relative_to(root) else script.name, *told]


def fresh(script: Path, *arguments: str, threads: int = 1) -> str:
    """Return what a script prints last, run in a fresh process of so many threads."""
    from lvmbench.pool import KEEP_PAGES, THREAD_VARIABLES

    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**KEEP_PAGES, **os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(script), *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]
