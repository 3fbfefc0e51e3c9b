"""Rounds: each side in turn, the order reversed every second time, so that no side has the cooler machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from peers.window import Timing

Run = Callable[[int], Sequence[Timing]]  # of a round: what each process took


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, with the least and the most."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of values, at least one."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True)
class Rounds:
    """What each side took in each round, and whether the machine was idle before every one."""

    timings: Mapping[str, Sequence[Sequence[Timing]]]
    idle: bool

    def rates(self, side: str) -> list[float]:
        """Return the images a second of a side in each round: those of all its processes by the slowest's seconds."""
        return [sum(t.images for t in ts) / max(t.seconds for t in ts) for ts in self.timings[side]]

    def rate(self, side: str) -> Spread:
        """Return the spread of a side's images a second."""
        return Spread.of(self.rates(side))

    def times_as_fast(self, side: str, other: str) -> Spread:
        """Return the spread over rounds of one side's rate over another's in the same round."""
        return Spread.of([a / b for a, b in zip(self.rates(side), self.rates(other), strict=True)])

    def costs(self, side: str, of: Callable[[Timing], float]) -> list[float]:
        """Return the seconds an image of a side in each round: those that ``of`` picks."""
        return [sum(map(of, ts)) / sum(t.images for t in ts) for ts in self.timings[side]]


def play(sides: Mapping[str, Run], rounds: int, wait: Callable[[], bool]) -> Rounds:
    """Run every side in every round; ``wait`` waits for an idle machine before each, and says if it is one."""
    found: dict[str, list[Sequence[Timing]]] = {name: [] for name in sides}
    idle = True
    for number in range(rounds):
        idle &= wait()
        for name in in_order(list(sides), number):
            found[name].append(sides[name](number))
    return Rounds(found, idle)


def in_order(names: Sequence[str], number: int) -> list[str]:
    """Return the names in the order of a round: reversed in every second one."""
    return list(names) if number % 2 == 0 else list(reversed(names))
