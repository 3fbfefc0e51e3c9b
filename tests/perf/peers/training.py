"""Training: both sides' images a second, the engine against a hand-written loop, and what bounds a step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from lvmbench.environment import cores
from peers.engine import mostly
from peers.leg import LEAST_STEPS, Side
from peers.limits import Step, counted, told
from peers.machine import Peak
from peers.report import number, spread, table, verdict
from peers.rounds import Rounds, Spread, play
from peers.workloads import Workload

SEEDS = 8
MEMBERS = 16  # at once on a GPU, where no aim names another number
MOST_OVERHEAD = 2.0  # % over the hand-written loop


@dataclass(frozen=True)
class Settings:
    """How long a leg takes, how many rounds there are, how long an idle machine is waited for, and where it runs."""

    seconds: float = 2.0
    rounds: int = 5
    patience: float = 60.0
    device: str = "cpu"

    @property
    def processes(self) -> int:
        """How many processes of ours run at once."""
        return cores() if self.device == "cpu" else 1


@dataclass(frozen=True)
class Trained:
    """A workload, what its sides took, and what a step of it is made of."""

    workload: Workload
    found: Rounds
    threads: int  # pythae's
    step: Step
    precision: str
    members: int

    @property
    def overhead(self) -> Spread:
        """Return by how many percent the engine's images cost more processor time than the loop's."""
        ours, hand = (self.found.costs(side, lambda t: t.processor or t.seconds) for side in ("ours", "hand"))
        return Spread.of([100 * (a / b - 1) for a, b in zip(ours, hand, strict=True)])

    @property
    def looking(self) -> float:
        """Return the share of the hand-written loop's seconds that its looks took, in percent."""
        timings = [t for of_round in self.found.timings["hand"] for t in of_round]
        return 100 * sum(t.looking for t in timings) / sum(t.seconds for t in timings)


def train(workload: Workload, settings: Settings, wait: Callable[[], bool]) -> Trained:
    """Run all sides of a workload."""
    device, batch = settings.device, workload.batch
    members = SEEDS if device == "cpu" else workload.on_gpu.members if workload.on_gpu else MEMBERS
    with ExitStack() as stack:
        pythae, threads = fastest("pythae", workload, settings, stack)
        ours = stack.enter_context(Side("ours", workload.name, device, settings.processes))
        images = {side.name: side.images_in(settings.seconds, batch) for side in (pythae, ours)}
        each = images["ours"]  # of each member, where all learn at once; on a CPU they share them
        if device == "cpu":
            each = max(LEAST_STEPS, each * settings.processes // members // batch) * batch
        sides = {
            "pythae": lambda r: pythae.run(images["pythae"], [r]),
            "ours": lambda r: ours.run(images["ours"], [r]),
            "ours together": lambda r: ours.run(each, range(members)),
        }
        if device == "cpu":
            hand = stack.enter_context(Side("hand", workload.name, device))
            images["hand"] = hand.images_in(settings.seconds, batch)
            sides["hand"] = lambda r: hand.run(images["hand"], [r])
        found = play(sides, settings.rounds, wait)
    return Trained(workload, found, threads, counted(workload), mostly(workload, device), members)


def fastest(name: str, workload: Workload, settings: Settings, stack: ExitStack) -> tuple[Side, int]:
    """Return a side that stays open, with one thread or all of them: whichever a trial found faster."""
    rates = {}
    for threads in sorted({1, cores()} if settings.device == "cpu" else {1}):
        with Side(name, workload.name, settings.device, threads=threads) as side:
            images = side.images_in(settings.seconds / 2, workload.batch)
            rates[threads] = side.run(images, [0])[0].rate
    best = max(rates, key=lambda threads: rates[threads])
    return stack.enter_context(Side(name, workload.name, settings.device, threads=best)), best


def rates_table(trained: list[Trained]) -> str:
    """Return the images a second of pythae and of ours."""
    rows = [
        [
            t.workload.title,
            f"{spread(t.found.rate('pythae'))}, {t.threads}",
            spread(t.found.rate("ours")),
            spread(t.found.rate("ours together")),
        ]
        for t in trained
    ]
    together = " / ".join(str(n) for n in sorted({t.members for t in trained}))
    return table(["images/s", "pythae, threads", "ours, 1 seed", f"ours, {together} seeds"], rows)


def together_text(trained: list[Trained], one: Peak, every: Peak) -> str:
    """Return how much more all cores do than one, beside what the machine's peaks do."""
    gains = sorted(t.found.rate("ours together").median / t.found.rate("ours").median for t in trained)
    if not gains or every.threads == 1:
        return ""
    product, copy = every.float32 / one.float32, every.copy / one.copy
    return (
        f"All cores train {gains[0]:.2f} to {gains[-1]:.2f} times as many images as one; on all threads a product of\n"
        f"float32 runs {product:.2f} times as fast as on one, a copy {copy:.2f} times."
    )


def aims_table(trained: list[Trained], aimed: Callable[[Trained], list[tuple[str, int, float]]]) -> str:
    """Return how many times as fast ours is, beside the aims; ``aimed`` gives side, seeds and aim of each."""
    rows = []
    for t in trained:
        for side, seeds, least in aimed(t):
            times = t.found.times_as_fast(side, "pythae")
            said = verdict(times.median >= least, t.found.idle) if least else "no aim"
            rows.append([t.workload.title, str(seeds), spread(times), number(least) if least else "", said])
    return table(["times pythae's rate", "seeds", "ours", "aim", ""], rows)


def on_two_cores(t: Trained) -> list[tuple[str, int, float]]:
    """Return the sides of a workload with their seeds and aims on a CPU, 0 where there is none."""
    least = t.workload.least
    return [("ours", 1, least.get(1, 0.0)), ("ours together", t.members, least.get(t.members, 0.0))]


def on_gpu(t: Trained) -> list[tuple[str, int, float]]:
    """Return the side of a workload that has a ratio to reach on a GPU."""
    return [("ours", 1, t.workload.on_gpu.least if t.workload.on_gpu else 0.0)]


def members_text(trained: list[Trained]) -> str:
    """Return, for each workload with an aim for members on a GPU, what they reached together."""
    lines = []
    for t in trained:
        if aim := t.workload.on_gpu:
            rate = t.found.rate("ours together")
            said = verdict(rate.median >= aim.images, t.found.idle)
            lines.append(
                f"- {t.workload.title}: {aim.members} members, {spread(rate)} images/s in all, "
                f"aim {number(aim.images)}: {said}"
            )
    return "\n".join(lines)


def peak_table(trained: list[Trained], one: Peak, every: Peak) -> str:
    """Return the arithmetic that ours does a second, with one seed and with all, and its share of the peak."""
    rows = []
    for t in trained:
        cells = [f"{t.step.flops_per_image / 1e6:.1f}", t.precision]
        for side, peak in (("ours", one), ("ours together", every)):
            done = t.found.rate(side).median * t.step.flops_per_image / 1e9
            cells += [number(done), f"{100 * done / peak.of(t.precision):.0f} %"]
        rows.append([t.workload.title, *cells])
    head = ["ours", "MFLOP/image", "in", "GF/s", "of peak", "all: GF/s", "of peak"]
    return table(head, rows)


def limits_table(trained: list[Trained], one: Peak) -> str:
    """Return a step's milliseconds with one seed, and which share of them each limit explains."""
    rows = []
    for t in trained:
        seconds = t.workload.batch / t.found.rate("ours").median
        rows.append([t.workload.title, f"{1e3 * seconds:.2f}", explained(t, one)])
    return table(["one step, one thread", "ms", "explained by"], rows)


def explained(t: Trained, one: Peak) -> str:
    """Return the shares of a step with one seed that arithmetic, bytes and dispatch explain."""
    return told(t.step.bounds(one, t.precision), t.workload.batch / t.found.rate("ours").median)


def shortfalls(trained: list[Trained], one: Peak, every: Peak) -> str:
    """Return, for each aim that was missed, what the machine would allow and what bounds the step."""
    lines = []
    for t in trained:
        for side, seeds, least in on_two_cores(t):
            times = t.found.times_as_fast(side, "pythae").median
            if times >= least:
                continue
            peak = (one if side == "ours" else every).of(t.precision) * 1e9
            roof = peak / t.step.flops_per_image / t.found.rate("pythae").median
            lines.append(
                f"- {t.workload.title}, {seeds} seed{'s' * (seeds > 1)}: {number(times)} of {number(least)}. At the "
                f"peak of {t.precision} it would be {number(roof)}. Of a step: {explained(t, one)}."
            )
    return "\n".join(lines)


def overhead_table(trained: list[Trained]) -> str:
    """Return the engine's cost beside the hand-written loop's."""
    rows = [
        [
            t.workload.title,
            spread(t.found.rate("hand")),
            f"{spread(t.overhead)} %",
            f"{t.looking:.1f} %",
            verdict(t.overhead.median <= MOST_OVERHEAD, t.found.idle),
        ]
        for t in trained
    ]
    return table(
        ["hand-written loop", "images/s", "engine costs more", "of it looks", f"aim {MOST_OVERHEAD:g} %"],
        rows,
    )
