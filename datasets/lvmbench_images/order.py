"""An order of places that lasts: a prefix is a fair sample, and a place keeps its own when others come."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def lasting_order(name: str, count: int) -> NDArray[np.int64]:
    """Return places 0 to count - 1 by the hash of each under a name, which no other place has a say in: [count]."""
    salt = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    z = np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(salt)
    # the finaliser of splitmix64, a bijection: there are no ties
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(z ^ (z >> np.uint64(31)))
