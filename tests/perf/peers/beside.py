"""What is measured beside training: likelihoods by many draws, the metric set, the memory of a cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lvmbench.environment import cores
from peers import cell_memory, likelihood, metric_set, training
from peers.leg import Side
from peers.machine import Peak, fresh
from peers.report import number, spread, table, verdict
from peers.rounds import Spread, play
from peers.training import Settings
from peers.workloads import WORKLOADS

LIKELIHOOD = WORKLOADS["iwae-k1-20"]
FASTER_NLL = {"all": 6.0, "bfloat16": 8.0}  # times pythae, with all cores
IMAGES_ON_GPU, SECONDS_ON_GPU = 10_000, 2.0

METRICS = """Seconds of one thread, from pictures to score. disentanglement_lib needs TensorFlow 1 and cannot be
installed: its ways are those in `tests/perf/peers/metric_set.py`, at smaller sizes than its own. Ours gives each
score its bootstrap interval too, which it does not. SAP is not one estimator on both sides: its way fits a linear
support vector machine for each pair and scores accuracy, ours (`sap-auroc`) ranks by each dimension and scores the
area under the curve. "all" is each score once, on ours from one encoding."""


def likelihoods(settings: Settings, wait: Callable[[], bool], every: Peak) -> str:
    """Return what pythae and ours take for the likelihood of an image by 5,000 draws."""
    with ExitStack() as stack:
        theirs, threads = training.fastest("pythae nll", LIKELIHOOD, settings, stack)
        ours = stack.enter_context(Side("ours nll", LIKELIHOOD.name, "cpu", cores()))
        low = stack.enter_context(Side("ours nll bfloat16", LIKELIHOOD.name, "cpu", cores()))
        images = {side.name: side.images_in(settings.seconds, batch=1) for side in (theirs, ours, low)}
        found = play(
            {
                "pythae": lambda _: theirs.run(images["pythae nll"], [0]),
                "one": lambda _: ours.run(images["ours nll"], [0]),
                "all": lambda _: ours.run(images["ours nll"], range(cores())),
                "bfloat16": lambda _: low.run(images["ours nll bfloat16"], range(cores())),
            },
            settings.rounds,
            wait,
        )
    times = {side: found.times_as_fast(side, "pythae") for side in ("one", "all", "bfloat16")}
    said = {side: verdict(times[side].median >= least, found.idle) for side, least in FASTER_NLL.items()}
    names = {
        "pythae": f"pythae, threads: {threads}",
        "one": "ours, one process",
        "all": f"ours, {cores()} processes",
        "bfloat16": f"ours, {cores()} processes, bfloat16",
    }
    rows = [
        [name, spread(Spread.of([1000 / r for r in found.rates(side)])), spread(times[side]) if side in times else ""]
        for side, name in names.items()
    ]  # fmt: skip
    told = table(["IWAE net, float32 but for the last", "ms an image", "times as fast"], rows)
    flops = likelihood.flops(LIKELIHOOD)
    aim = (
        f"Aims: {FASTER_NLL['all']:g} times as fast with all cores: {said['all']}; in bfloat16, which lvmbench does "
        f"not report, {FASTER_NLL['bfloat16']:g}\ntimes: {said['bfloat16']}. An image takes {flops / 1e9:.2f} GFLOP, "
        f"which would be {flops / every.float32 / 1e6:.1f} ms at the peak of all cores, in bfloat16 "
        f"{flops / every.bfloat16 / 1e6:.1f}."
    )
    return f"### log p(x) by 5,000 samples\n\n{told}\n\n{aim}"


def likelihood_on_gpu(settings: Settings) -> str:
    """Return what 10,000 images take on a GPU."""
    with Side("ours nll", LIKELIHOOD.name, "cuda") as ours:
        images = min(LIKELIHOOD.rows, ours.images_in(settings.seconds, batch=1))
        rates = [ours.run(images, [0])[0].rate for _ in range(settings.rounds)]
    seconds = Spread.of([IMAGES_ON_GPU / rate for rate in rates])
    said = verdict(seconds.median <= SECONDS_ON_GPU)
    what = f"log p(x) of {IMAGES_ON_GPU:,} images by 5,000 samples"
    return f"- {what}: {spread(seconds)} s, aim {SECONDS_ON_GPU:g} s: {said}"


def metrics(settings: Settings, wait: Callable[[], bool]) -> str:
    """Return the seconds of disentanglement_lib's way and of ours for each score."""
    idle = wait()
    seconds = json.loads(fresh(Path(metric_set.__file__), str(settings.rounds)))
    theirs, ours = (seconds[side] for side in ("theirs", "ours"))
    theirs["all"] = [sum(of) for of in zip(*theirs.values(), strict=True)]
    theirs[metric_set.LINEAR] = theirs["DCI"]
    rows = [
        [name, spread(Spread.of(theirs[name])), spread(Spread.of(of)), number(_faster(theirs[name], of))]
        for name, of in ours.items()
    ]
    told = table(["seconds", "disentanglement_lib's way", "ours", "times as fast"], rows)
    return f"### The metric set\n\n{METRICS}\n\n{told}" + ("" if idle else "\n\nThe machine was not idle.")


def _faster(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return Spread.of([a / b for a, b in zip(theirs, ours, strict=True)]).median


def memory() -> str:
    """Return the peak memory of a real cell by its phases."""
    found = cell_memory.of_cell()
    said = verdict(found.above < cell_memory.MOST)
    rows = [[name, f"{mib:.0f}", f"{mib - found.data:.0f}"] for name, mib in found.peaks.items()]
    told = table(["phase", "peak, MiB", "above the pictures, at least"], rows)
    return (
        f"### Memory\n\nA cell of `vae` on {cell_memory.BUDGET.train:,} faces at 64×64, in a worker; its pictures are\n"
        f"{found.data:.0f} MiB, libraries are in the peaks. The pictures are mapped and only those that a phase\n"
        f"touched are in its peak: it took at least what is left when all are taken off.\n\n{told}\n\n"
        f"Aim: {cell_memory.MOST:,} MiB above: {said}."
    )
