"""A seed is many streams of random numbers, each named, none of which disturbs another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Generator, Tensor


def stream(seed: int, name: str) -> int:
    """Return the seed of one named stream of random numbers."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Streams:
    """Random numbers of one's own, on the processor and on a device: torch's functions draw from them when told to."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.cpu = Generator()
        where = torch.device(device)
        self.cuda = Generator(_indexed(where)) if where.type == "cuda" else None
        self.seed(seed)

    @property
    def device(self) -> Generator:
        """The generator of the device that computes."""
        return self.cuda or self.cpu

    def seed(self, seed: int) -> None:
        """Begin anew."""
        self.cpu.manual_seed(seed)
        if self.cuda is not None:
            self.cuda.manual_seed(seed)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let torch's random functions draw from here inside a with-block, and leave them afterwards as they were."""
        # torch.manual_seed loads a compiler, and asks every kind of device
        before = torch.default_generator.get_state()
        torch.default_generator.set_state(self.cpu.get_state())
        try:
            with self._used_on_device():
                yield
        finally:
            self.cpu.set_state(torch.default_generator.get_state())
            torch.default_generator.set_state(before)

    @contextmanager
    def _used_on_device(self) -> Iterator[None]:
        if self.cuda is None:
            yield
            return
        default = torch.cuda.default_generators[self.cuda.device.index]
        before = default.graphsafe_get_state()
        default.graphsafe_set_state(self.cuda.graphsafe_get_state())  # shared from now on, not copied
        try:
            yield
        finally:
            default.graphsafe_set_state(before)

    def renew(self) -> None:
        """Exchange the generator of the device, which a recording that failed has left unusable, and torch's own."""
        if self.cuda is not None:
            where = self.cuda.device
            self.cuda = Generator(where).set_state(self.cuda.get_state())
            own = torch.cuda.default_generators[where.index]
            own.graphsafe_set_state(Generator(where).set_state(own.get_state()))

    def state(self) -> dict[str, Tensor]:
        """Return where they stand: uint8 [S] each."""
        found = {"cpu": self.cpu.get_state()}
        if self.cuda is not None:
            found["cuda"] = self.cuda.get_state()
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where they stood."""
        self.cpu.set_state(state["cpu"])
        if self.cuda is not None:
            self.cuda.set_state(state["cuda"])


def noise(seed: int, device: torch.device | str = "cpu") -> AbstractContextManager[None]:
    """Seed torch's random functions inside a with-block, and leave them afterwards as they were."""
    return Streams(seed, device).used()


def _indexed(device: torch.device) -> torch.device:
    torch.cuda.init()
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())
