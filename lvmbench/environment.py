"""What a number was computed with: versions, commit, hardware, seconds and memory by phase; and where files lie."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lvmbench.pages import give_back

PACKAGES = ("lvmbench", "torch", "numpy", "scipy", "scikit-learn")
MIB = 1 << 20
ZEN_5 = 26  # the family of its processors


def results_dir() -> Path:
    """Return where results are kept unless told otherwise: ``LVMBENCH_RESULTS`` or ``results/runs``."""
    return Path(os.environ.get("LVMBENCH_RESULTS", "results/runs"))


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def versions() -> dict[str, str]:
    """Return the version of Python and of every package that can move a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@cache
def commit() -> str:
    """Return the commit of the checkout that lvmbench runs from, with ``+`` if it was changed; or nothing."""
    here = Path(__file__).resolve().parent
    git = ["git", "-C", str(here), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def hardware(device: str) -> dict[str, str]:
    """Return what the numbers were computed on."""
    found = {"cpu": _cpu(), "cores": str(cores()), "system": f"{platform.system()} {platform.machine()}"}
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


@cache
def _cpu() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def multiplies_bfloat16() -> bool:
    """Return whether the processor multiplies matrices of bfloat16 by instructions of its own."""
    flags = {*_cpuinfo("flags").split(), *_cpuinfo("Features").split()}
    return not flags.isdisjoint({"avx512_bf16", "amx_bf16", "bf16"})


@cache
def has_wide_registers() -> bool:
    """Return whether the processor is one of AMD's with registers of 512 bits, of Zen 5 or later."""
    family, flags = _cpuinfo("cpu family"), _cpuinfo("flags").split()
    new = family.isdigit() and int(family) >= ZEN_5
    return _cpuinfo("vendor_id") == "AuthenticAMD" and new and "avx512f" in flags


def _cpuinfo(key: str) -> str:
    """Return what Linux tells of the first processor, nothing elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, told = line.partition(":")
            if name.strip() == key:
                return told.strip()
    return ""


class Phases:
    """Seconds and peak memory of each phase of a cell."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self.peak_mib: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a phase; what happens under one name adds up. It begins with no more memory than is in use."""
        give_back()
        self._start()
        start = time.perf_counter()
        try:
            yield
        finally:
            taken = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.seconds[name] = round(taken, 3)
            self.peak_mib[name] = max(self.peak_mib.get(name, 0.0), self._peak())

    def _start(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        with contextlib.suppress(OSError):  # Linux: start the high-water mark anew
            Path("/proc/self/clear_refs").write_text("5")

    def _peak(self) -> float:
        """Return the peak of the host's memory, or of the GPU's where the cell runs on one, in MiB."""
        if self.device.startswith("cuda"):
            import torch

            return round(torch.cuda.max_memory_allocated(self.device) / MIB, 1)
        with contextlib.suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM"):
                    return round(int(line.split()[1]) / 1024, 1)
        unit = 1 if sys.platform == "darwin" else 1024
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB, 1)
