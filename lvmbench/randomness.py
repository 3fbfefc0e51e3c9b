"""A seed is many streams of random numbers, each named, none of which disturbs another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def stream(seed: int, name: str) -> int:
    """Return the seed of one named stream of random numbers."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def noise(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's random functions inside a with-block, and leave them afterwards as they were."""
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
