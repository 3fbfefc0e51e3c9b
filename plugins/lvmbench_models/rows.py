"""Pictures as rows of numbers, in chunks: what models that fit themselves take their sums over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from lvmbench import Schema, Split, expected
from lvmbench_models.spectrum import Chunks

CHUNK = 2**18  # numbers at one time: in double precision they stay in a core's cache
GREY_LEVEL = 1 / 256  # the likelihood is no narrower than this, as every model's here
DEQUANTISATION = GREY_LEVEL**2 / 12  # variance of u / 256
Square = Callable[[Tensor], Tensor]


def rows_of(schema: Schema, train: Split, device: torch.device) -> Chunks:
    """Return a function that gives the expected pixels of all pictures anew: () -> chunks of [n, d]."""

    def chunks() -> Iterator[Tensor]:
        for images in train.images.split(height(schema.dims)):
            yield expected(schema, images.to(device)).flatten(1)

    return chunks


def height(d: int) -> int:
    """Return how many rows of d numbers to take at one time."""
    return max(1, CHUNK // d)


def square_of(schema: Schema) -> Square:
    """Return a function from the expected pixels E[x] to E[x²], over the pixel noise: [n, d] -> [n, d].

    With it the noise is part of a fit without being drawn: x² is x where x is 0 or 1, and u / 256 adds its variance.
    """
    if schema.pixels == "bernoulli":
        return lambda x: x
    return lambda x: x.square() + DEQUANTISATION


def total(terms: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape, of double precision."""
    return sum((term.double() for term in terms), start=torch.zeros((), dtype=torch.float64))


def take(chunks: Chunks, indices: Tensor) -> Tensor:
    """Return single rows, of double precision: chunks of [n, d], [K] -> [K, d]."""
    wanted: dict[int, Tensor] = {}
    first = 0
    for x in chunks():
        wanted |= {i: x[i - first] for i in indices.tolist() if first <= i < first + len(x)}
        first += len(x)
    return torch.stack([wanted[i] for i in indices.tolist()]).double()
