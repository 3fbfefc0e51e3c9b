"""What is timed on every side: from the end of the first step to the end of the last."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Images, the seconds that they took, those of the processor, and those of looks at validation pictures."""

    images: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    looking: float = 0.0

    def __add__(self, other: Timing) -> Timing:
        return Timing(
            self.images + other.images,
            self.seconds + other.seconds,
            self.processor + other.processor,
            self.looking + other.looking,
        )

    @property
    def rate(self) -> float:
        """Images a second."""
        return self.images / self.seconds if self.seconds else 0.0


class Window:
    """Hears of finished steps. Before the first one ends, a process starts, imports, builds and warms up."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.steps: list[int] = []
        self.begin = self.end = (0.0, 0.0)

    def step(self, number: int | None = None) -> None:
        """Hear that a step, or the step of this number, is done; of the first, the last word counts."""
        if not self.steps and self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        self.steps.append(number if number is not None else len(self.steps) + 1)
        self.end = (time.perf_counter(), time.process_time())
        if self.steps[-1] == self.steps[0]:
            self.begin = self.end

    def timing(self, batch: int, looking: float = 0.0) -> Timing:
        """Return what the steps after the first one took."""
        done = self.steps[-1] - self.steps[0] if self.steps else 0
        seconds, processor = (end - begin for end, begin in zip(self.end, self.begin, strict=True))
        return Timing(done * batch, seconds, processor, looking)
