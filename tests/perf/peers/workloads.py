"""What both sides train: the same layers, pictures and batch size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lvmbench.data import Pixels, Schema, Split

PIXELS = 1 << 26  # in the pictures of a workload: 60,000 of 28×28 would be 0.7 of it, and no cache holds them
MOST = 60_000


@dataclass(frozen=True)
class OnGpu:
    """The aim on one H200: times pythae's rate with one seed, and images a second of all members together."""

    least: float
    members: int
    images: float


@dataclass(frozen=True)
class Workload:
    """A net, its pictures and its batch; ``k`` is the number of draws in the bound that is trained.

    ``net`` is the name that lvmbench knows it by, or the module of ours that holds it. ``least`` holds, by the number
    of seeds, how many times as fast as pythae the aim is on two cores.
    """

    name: str
    title: str
    net: str
    batch: int
    latent_dim: int
    shape: tuple[int, int, int] = (1, 28, 28)
    pixels: Pixels = "bernoulli"
    k: int = 1
    least: Mapping[int, float] = field(default_factory=dict, hash=False)
    on_gpu: OnGpu | None = None

    @property
    def schema(self) -> Schema:
        """What lvmbench is told of the pictures."""
        return Schema(self.shape, self.pixels)

    @property
    def model(self) -> str:
        """The model of the catalog that has this objective."""
        return "vae" if self.k == 1 else "iwae"

    @property
    def options(self) -> dict[str, Any]:
        """The options of that model."""
        drawn = {} if self.k == 1 else {"k": self.k}
        return {"net": self.net, "latent_dim": self.latent_dim, **drawn}

    @property
    def rows(self) -> int:
        """The number of pictures, a multiple of the batch."""
        return min(MOST, PIXELS // self.schema.dims) // self.batch * self.batch


WORKLOADS = {
    w.name: w
    for w in (
        Workload("mlp-64", "MLP 784-512-16, batch 64", "peers.mlp", 64, 16, least={1: 1.8, 8: 5.0}),
        Workload("mlp-128", "MLP 784-512-16, batch 128", "peers.mlp", 128, 16, least={1: 1.8, 8: 4.0}),
        Workload("iwae-k1-20", "IWAE net, K=1, batch 20", "burda", 20, 50, least={1: 1.8, 8: 6.0},
                 on_gpu=OnGpu(15.0, 64, 3e6)),
        Workload("iwae-k1-128", "IWAE net, K=1, batch 128", "burda", 128, 50, least={1: 1.8}),
        Workload("iwae-k50-20", "IWAE net, K=50, batch 20", "burda", 20, 50, k=50,
                 least={1: 1.8, 8: 6.0}),
        Workload("iwae-k50-128", "IWAE net, K=50, batch 128", "burda", 128, 50, k=50, least={1: 1.8}),
        Workload("conv-64", "conv 64×64×3, batch 64", "conv", 64, 16, (3, 64, 64), "gaussian",
                 least={1: 1.4, 8: 2.8}, on_gpu=OnGpu(8.0, 16, 1e6)),
        Workload("mnist-conv-64", "MNIST conv, batch 64", "peers.mnist_conv", 64, 16, least={8: 2.1}),
    )
}  # fmt: skip


@lru_cache(1)
def pictures(workload: Workload) -> Tensor:
    """Return the pictures, noise that is the same for both sides: uint8 [N, C, H, W].

    What they show changes no step's work.
    """
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (workload.rows, *workload.shape), dtype=torch.uint8, generator=generator)


def split_of(images: Tensor, rows: int) -> Split:
    """Return the first rows of pictures, without labels."""
    return Split(images[:rows], torch.empty(rows, 0), torch.arange(rows))
