"""What a step is made of on a GPU: torch's profiler looks at the kernels of a run of one member."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd import DeviceType

from peers import engine
from peers.report import number, table
from peers.workloads import Workload

STEPS = 2000
SHOWN = 3  # kinds of kernels, those that take most
WIDTH = 40  # of their names
HOW = """One member, by torch's profiler: kernels one after another. What is recorded and tried before the first step,
and the looks, are among them, a small share of so many steps."""


def kernels(workloads: Sequence[Workload]) -> str:
    """Return the kernels of a step of each workload, the time that they take, and which take most."""
    rows = [_row(workload) for workload in workloads]
    head = ["a step of", "µs", "kernels", "busy, µs", "most of that"]
    return f"{HOW}\n\n{table(head, rows)}"


def _row(workload: Workload) -> list[str]:
    images = STEPS * workload.batch
    seconds = workload.batch / engine.run(workload, images, [0], "cuda").rate
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        engine.run(workload, images, [0], "cuda")
    ran = [event for event in found.key_averages() if event.device_type == DeviceType.CUDA]
    return [workload.title, number(1e6 * seconds), *summary(ran, STEPS)]


def summary(ran: Sequence[Any], steps: int) -> list[str]:
    """Return how many kernels a step has, the microseconds that they take, and the shares of those that take most."""
    busy = sum(kernel.self_device_time_total for kernel in ran)
    most = sorted(ran, key=lambda kernel: -kernel.self_device_time_total)[:SHOWN]
    shares = [f"{kernel.key[:WIDTH]} {100 * kernel.self_device_time_total / busy:.0f} %" for kernel in most]
    return [number(sum(kernel.count for kernel in ran) / steps), number(busy / steps), ", ".join(shares)]
