"""Where a step's time goes: ``python tests/perf/where_time_goes.py [--other] [--out FILE]``.

torch's profiler looks at the replayed steps of each net on one core. Writes a part of ``results/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peers import engine
from peers.limits import counted
from peers.machine import fresh, head, peak, shown
from peers.report import OTHER_SPENT, OUT, SPENT, table, write
from peers.workloads import WORKLOADS, Workload

from lvmbench.bodies import computing_in
from lvmbench.cohorts import replayed_way
from lvmbench.descent import denormals_flushed

KINDS = {  # by a part of the operator's name; the first that is found
    "convolutions, products": ("conv", "mm", "linear_pointwise"),
    "Adam": ("_adam_",),
    "draws": ("random_", "normal_"),
    "casts, copies": ("copy", "clone", "::cat", "::stack", "pixel_", "flip", "fill_", "zero", "empty"),
}
REST = "elementwise, sums"
SECONDS, ROUNDS = 0.5, 5

HOW = """One step on one thread, replayed, looks left out. Shares are those of the time that torch's profiler finds in
operators, with what it takes to call them. "Of peak": the rate of convolutions and products in their time, against
that of a large product, measured in this run in the precision of most of them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Look at each net in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--other", action="store_true", help="on another processor: a part of its own")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    begun, most = head(["python", *shown(sys.argv)]), peak(1)
    rows = []
    for name, workload in WORKLOADS.items():
        told = json.loads(fresh(Path(__file__), "net", name))
        seconds, shares = told["seconds"], told["shares"]
        first, *others = (shares.get(kind, 0.0) for kind in (*KINDS, REST))
        rate = told["flops"] / (first * seconds) / 1e9 / most.of(engine.mostly(workload, "cpu"))
        parts = [f"{100 * share:.0f} %" for share in (first, rate, *others)]
        rows.append([workload.title, f"{1000 * seconds:.2f}", *parts])
    first_kind, *other_kinds = (*KINDS, REST)
    text = table(["a step of", "ms", first_kind, "of peak", *other_kinds], rows)
    write(asked.out, OTHER_SPENT if asked.other else SPENT, f"{begun}\n\n{HOW}\n\n{text}")


def looked_at(workload: Workload) -> dict[str, Any]:
    """Return the seconds of a step, the shares of the kinds of operators in it, and its floating-point operations."""
    step = stepper(workload)
    begin = time.perf_counter()
    step()
    count = max(2, int(SECONDS / (time.perf_counter() - begin)))
    rounds = [timed(step, count) for _ in range(ROUNDS + 1)][1:]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(count):
            step()
    spent = by_kind((event.key, event.self_cpu_time_total) for event in found.key_averages())
    return {"seconds": median(rounds), "shares": spent, "flops": counted(workload).flops}


def stepper(workload: Workload) -> Callable[[], object]:
    """Return what takes a step of the engine."""
    member = engine.member(workload, 0)
    whole = member.ground.feed.whole
    given = whole.images[: workload.batch], whole.labels[: workload.batch]
    with computing_in(engine.precision("cpu"), member.model):
        way = replayed_way(member)  # in which the precision is a constant
    return lambda: way.take(*given, 0.5, 1.0)


def timed(step: Callable[[], object], count: int) -> float:
    """Return the seconds of a step, over so many."""
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begin) / count


def by_kind(spent: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the shares of kinds of operators, from the time of each by name."""
    total: Counter[str] = Counter()
    for name, taken in spent:
        kinds = (kind for kind, parts in KINDS.items() if any(part in name for part in parts))
        total[next(kinds, REST)] += taken  # type: ignore[assignment]
    return {kind: taken / total.total() for kind, taken in total.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["net"]:
        torch.set_num_threads(1)
        asked_for = WORKLOADS[sys.argv[2]]
        with denormals_flushed():
            print(json.dumps(looked_at(asked_for)))
    else:
        main()
