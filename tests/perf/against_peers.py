"""Are the claims of speed true? ``python tests/perf/against_peers.py [--gpu | --other] [--quick] [--only NAME]``.

Trains the same nets with pythae, with lvmbench and by a hand-written loop, in turn, on a machine that is to be idle;
estimates likelihoods, takes the metric set, and measures what the machine can do at most in the same run. Writes
the first part of ``results/performance.md``; with ``--gpu`` a part on the GPU of this machine, with ``--other`` one
beside the first, of another processor. pythae comes with ``pip install lvmbench[peers]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from peers import beside, training
from peers.kernels import kernels
from peers.machine import Peak, head, peak, shown, wait_until_idle
from peers.report import GPU, OTHER_PEERS, OUT, PEERS, QUICK, attempted, number, table, write
from peers.training import Settings, Trained
from peers.workloads import WORKLOADS

from lvmbench.environment import cores

QUICKLY = Settings(seconds=0.6, rounds=2, patience=2.0)
ON_GPU = Settings(seconds=0.7, device="cuda")
BESIDE = ("nll", "metrics", "memory")

HOW = """MLP: pythae's default, 784-512-16 with ReLU. IWAE net: 784-200-200-50 with tanh. conv: the layers of Burgess et
al. (2018), a z of 16. MNIST conv: pythae's own net with batch normalisation, a z of 16.

Both sides train the same layers on the same pictures (noise: what they show changes no step's work) with the
same batch size, each as its user would: pythae with its own trainer on a tensor data set, without validation
pictures, which makes it faster, one seed after another, on one thread or all, whichever a trial found faster;
lvmbench with its engine, one process of one thread a core, seeds dealt to them, looks at validation pictures
included. lvmbench and the hand-written loop run under the settings of malloc that lvmbench gives its workers
(`KEEP_PAGES` in `lvmbench/pool.py`: freed pages are kept), pythae under those of its user. Timed is from the end of
the first step, of lvmbench the first hundredth of a run, to the end of the last: processes, imports, building, and
the taking down of a step that is replayed afterwards are nobody's time. The rate of several processes is the images
of all over the seconds of the slowest. A figure is the median of the rounds, with the least and the most; the order
of the sides is reversed every second round. pythae's rate for eight seeds is that for one."""
LIMITS = """Arithmetic: the step's floating-point operations at the peak of a matrix product. Bytes: what operators
other than products read and write (what is changed in place: both), at the speed of a copy, as if no cache held
any. Dispatch: the number of operators times the time of a small one. The three overlap, and each is an estimate."""
GPU_HOW = """The sides are those of the part above. Members are one cohort in one process; what is recorded and tried
before their first step is nobody's time. pythae runs on the same GPU, on one thread of the processor."""
OVERHEAD = """The loop (`tests/perf/peers/hand.py`) trains the same model on the same loss and schedule, looks at the
same number of validation pictures, and knows nothing of the engine, nor of its quicker layers. Compared is
processor time for an image on a CPU. A run of fewer than 32 steps, here of the slowest nets, is not replayed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, and write or print it."""
    asked = _parser().parse_args(arguments)
    if importlib.util.find_spec("pythae") is None:
        raise SystemExit("pythae is not installed: pip install 'lvmbench[peers]'.")
    settings = QUICKLY if asked.quick else Settings()
    names = [asked.only] if asked.only else [*WORKLOADS, *BESIDE]
    sections = [QUICK] * asked.quick
    sections.append(head(["python", *shown(sys.argv)], "cuda" if asked.gpu else "cpu"))
    sections += _on_gpu(asked.only, quick=asked.quick) if asked.gpu else _sections(names, settings)
    text = "\n\n".join(sections)
    if asked.only and not asked.out:
        print(text)
    else:
        part = OTHER_PEERS if asked.other else PEERS
        write(asked.out or OUT, GPU if asked.gpu else part, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpu", action="store_true", help="on the GPU: the workloads that have aims there")
    parser.add_argument("--other", action="store_true", help="on another processor: a part of its own")
    parser.add_argument("--quick", action="store_true", help="two short rounds, to see that it runs")
    parser.add_argument("--only", choices=[*WORKLOADS, *BESIDE], help="one workload or part, printed")
    parser.add_argument("--out", type=Path, help=f"the file to write (default: {OUT.name} in results)")
    return parser


def _sections(names: Sequence[str], settings: Settings) -> list[str]:
    """Return the sections that were asked for, in their order."""
    one, every = peak(1), peak(cores())
    workloads = [name for name in names if name in WORKLOADS]
    found = [_machine(one, every)]
    if workloads:
        found += _training(workloads, settings, one, every)
    parts: dict[str, Callable[[], str]] = {
        "nll": partial(beside.likelihoods, settings, _waiting(settings), every),
        "metrics": partial(beside.metrics, settings, _waiting(settings)),
        "memory": beside.memory,
    }
    for name in (name for name in parts if name in names):
        print(name, file=sys.stderr)
        found.append(attempted(parts[name], name))
    return found


def _waiting(settings: Settings) -> Callable[[], bool]:
    return partial(wait_until_idle, settings.patience)


def _machine(one: Peak, every: Peak) -> str:
    rows = [_told(p) for p in {p.threads: p for p in (one, every)}.values()]
    told = table(["threads", "float32, GF/s", "bfloat16, GF/s", "copy, GB/s", "small operator, µs"], rows)
    how = "Measured in this run: products of 2048×2048, a copy of 256 MiB."
    return f"### What the machine does at most\n\n{how}\n\n{told}"


def _told(p: Peak) -> list[str]:
    return [str(p.threads), *map(number, (p.float32, p.bfloat16, p.copy)), f"{1e6 * p.operator:.1f}"]


def _training(names: Sequence[str], settings: Settings, one: Peak, every: Peak) -> list[str]:
    found, failed = _trained(names, settings)
    missed = training.shortfalls(found, one, every)
    parts = {
        "Training": (HOW, training.rates_table(found), training.together_text(found, one, every), failed),
        "Training beside the aims": (_aimed_for(), training.aims_table(found, training.on_two_cores), missed),
        "Share of the peak": (training.peak_table(found, one, every),),
        "What bounds a step": (LIMITS, training.limits_table(found, one)),
        "The engine's overhead": (OVERHEAD, training.overhead_table(found)),
    }
    return [f"### {title}\n\n" + "\n\n".join(filter(None, part)) for title, part in parts.items()]


def _trained(names: Sequence[str], settings: Settings) -> tuple[list[Trained], str]:
    """Return what became of each workload, and sentences about those of which nothing did."""
    found: list[Trained] = []
    failed = []

    def train(name: str) -> str:
        found.append(training.train(WORKLOADS[name], settings, _waiting(settings)))
        return ""

    for name in names:
        print(name, settings.device, file=sys.stderr)
        failed.append(attempted(partial(train, name), WORKLOADS[name].title))
    return found, "\n\n".join(filter(None, failed))


def _aimed_for() -> str:
    here = "as here" if cores() == 2 else f"this machine has {cores()}: its figures answer other aims"
    return f"The aims are for two cores ({here})."


def _on_gpu(only: str | None, *, quick: bool) -> list[str]:
    """Return the workloads that have aims on a GPU, one seed and members, and the likelihood there."""
    if not torch.cuda.is_available():
        raise SystemExit("This machine has no CUDA device.")
    settings = replace(QUICKLY, device="cuda") if quick else ON_GPU
    found, failed = _trained([only] if only else [w.name for w in WORKLOADS.values() if w.on_gpu], settings)
    most = peak(1, "cuda")
    peaks = f"float32 {number(most.float32)} GF/s, bfloat16 {number(most.bfloat16)} GF/s, copy {number(most.copy)} GB/s"
    parts = [
        GPU_HOW,
        f"{torch.cuda.get_device_name()}, measured in this run: {peaks}.",
        training.rates_table(found),
        failed,
        "The aims are for one H200.",
        training.aims_table(found, training.on_gpu),
        training.members_text(found),
        attempted(partial(beside.likelihood_on_gpu, settings), "log p(x)"),
        attempted(partial(kernels, [t.workload for t in found]), "kernels"),
    ]
    return list(filter(None, parts))


if __name__ == "__main__":
    main()
