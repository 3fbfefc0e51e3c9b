"""A seed is many streams of random numbers, each named, none of which disturbs another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


def stream(seed: int, name: str) -> int:
    """Return the seed of one named stream of random numbers."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def noise(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's random functions inside a with-block, and leave them afterwards as they were."""
    if torch.device(device).type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            torch.manual_seed(seed)
            yield
        return
    state = torch.get_rng_state()
    # torch.manual_seed loads a compiler, and asks every kind of device
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def random_state(device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return where torch's random functions stand, on the processor and on a device: uint8 [S] each."""
    found = {"cpu": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_random_state(state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
    """Let torch's random functions go on from where they stood."""
    torch.set_rng_state(state["cpu"])
    if torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
