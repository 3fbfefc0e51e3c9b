"""The pictures that a descent learns from, on the device: all at once, or as they are used where they do not fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import torch
from torch import Generator, Tensor

from lvmbench.data import Split

SHARE = 0.5  # of a device's free memory that pictures may take: the rest is for the model and its gradients
AHEAD = 4  # batches that are gathered while one is used

Rows = Iterator[Tensor]
Batches = Iterator[tuple[Tensor, Tensor]]


class Order:
    """The rows of one permutation of the data after another, as many as are asked for at a time."""

    def __init__(self, rows: int, generator: Generator, device: torch.device | str = "cpu") -> None:
        self.rows, self.generator, self.device = rows, generator, device
        self.queue = self._permutation()

    def take(self, count: int) -> Tensor:
        """Return the next rows: [count]."""
        while len(self.queue) < count:
            self.queue = torch.cat([self.queue, self._permutation()])
        taken, self.queue = self.queue[:count], self.queue[count:]
        return taken

    def skip(self, count: int) -> None:
        """Leave out the next rows."""
        while count > len(self.queue):
            count -= len(self.queue)
            self.queue = self._permutation()
        self.queue = self.queue[count:]

    def _permutation(self) -> Tensor:
        return torch.randperm(self.rows, generator=self.generator).to(self.device)


class Feed(Protocol):
    """Pictures and labels by their rows.

    ``device`` is where it wants the row numbers; ``whole`` is the split, its pictures where they lie, its labels on
    the device that trains.
    """

    device: torch.device
    whole: Split

    def batches(self, rows: Rows) -> Batches:
        """Yield pictures and labels of each batch of rows, on the device that trains: uint8 [B, C, H, W], [B, A]."""
        ...


def feed(split: Split, device: torch.device | str) -> Feed:
    """Return what gives a split's pictures to a device: from its memory where they fit, else from where they are."""
    target = torch.device(device)
    return Resident(split, target) if _room(target) >= split.images.numel() else Streamed(split, target)


def _room(device: torch.device) -> float:
    """Return how many bytes of pictures a device may take; a processor has them mapped, whatever their number."""
    return SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


class Resident:
    """All pictures on the device: a batch is an index."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self.device = device
        self.whole = on(split, device)

    def batches(self, rows: Rows) -> Batches:
        """Yield the pictures and labels of each batch of rows, on the device: uint8 [B, C, H, W], [B, A]."""
        for batch in rows:
            yield _rows(self.whole, batch)


class Streamed:
    """Pictures that stay where they are: a thread gathers those of the next batches while one is used."""

    def __init__(self, split: Split, device: torch.device) -> None:
        self.device = torch.device("cpu")
        self.split, self.target = split, device
        self.whole = replace(split, labels=split.labels.to(device))

    def batches(self, rows: Rows) -> Batches:
        """Yield pictures and labels of each batch of rows, on the device that trains: uint8 [B, C, H, W], [B, A]."""
        ahead: deque[Future[tuple[Tensor, Tensor]]] = deque()
        pool = ThreadPoolExecutor(1)
        try:
            for batch in rows:
                ahead.append(pool.submit(self._gathered, batch))
                if len(ahead) > AHEAD:
                    yield self._sent(ahead.popleft())
            while ahead:
                yield self._sent(ahead.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _gathered(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        found = _rows(self.split, rows)
        # pinned memory is sent while the device computes
        return (found[0].pin_memory(), found[1].pin_memory()) if self.target.type == "cuda" else found

    def _sent(self, batch: Future[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        images, labels = batch.result()
        return images.to(self.target, non_blocking=True), labels.to(self.target, non_blocking=True)


def _rows(split: Split, rows: Tensor) -> tuple[Tensor, Tensor]:
    # what an index does, in a tenth of its time
    return split.images.index_select(0, rows), split.labels.index_select(0, rows)


def on(split: Split, device: torch.device | str) -> Split:
    """Return a split whose pictures and labels lie on a device."""
    return replace(split, images=split.images.to(device), labels=split.labels.to(device))
