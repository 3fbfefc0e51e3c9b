"""The data set ``faces``: options, splits, factors, pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from lvmbench import Schema, Split, cached
from lvmbench_faces.attributes import ATTRIBUTES, labels
from lvmbench_faces.factors import FACTORS, Table, draw, draw_sharing, redraw
from lvmbench_faces.renderer import VERSION, render

if TYPE_CHECKING:
    from PIL.Image import Image

SplitName = Literal["train", "val", "test"]
Rows = NDArray[np.int64]
FIRST: dict[str, int] = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}
SHARED, APART = 3_000_000_000, 1_000_000_000  # first row of the groups, and from one factor's to the next
LENGTH: dict[str, int] = {"train": 20_000, "val": 2_000, "test": 3_000}
ROUNDING = 1  # grey level by which the same picture may differ between two makes of processor
NAMED = 500  # rows of each split whose factors and labels go into the fingerprint


class Faces:
    """Procedural faces with exact labels.

    ``mode`` says how factors are drawn: with the marginals and conditionals of CelebA, independent of each other,
    or ``correlated``: each from the first with probability ``rho`` and else from the second. ``eye_scale`` is the
    size of the eyes, ``background_std`` how far backgrounds differ, in units of the pixel range.
    """

    def __init__(
        self,
        *,
        size: Literal[32, 64, 128] = 64,
        mode: Literal["celeba", "independent", "correlated"] = "celeba",
        rho: Annotated[float, Field(ge=0, le=1)] = 0.5,
        seed: Annotated[int, Field(ge=0, lt=2**63)] = 0,
        eye_scale: Annotated[float, Field(ge=0.8, le=1.5)] = 1.2,
        background_std: Annotated[float, Field(ge=0, le=0.25)] = 0.06,
    ) -> None:
        self.mode = mode
        self.size, self.seed, self.eye_scale, self.background_std = size, seed, eye_scale, background_std
        self.factor_names = tuple(factor.name for factor in FACTORS)
        self.dial = {"celeba": 1.0, "independent": 0.0, "correlated": rho}[mode]
        self.schema = Schema(shape=(3, size, size), pixels="gaussian", attributes=ATTRIBUTES)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the options, the version of the renderer, and the factors and labels of some rows."""
        options = [VERSION, self.size, self.dial, self.seed, self.eye_scale, self.background_std]
        digest = hashlib.sha256(json.dumps(options).encode())
        rows = np.concatenate([np.arange(NAMED) + first for first in FIRST.values()])
        table = self.factors(rows)
        digest.update(repr(ATTRIBUTES).encode() + labels(table).tobytes())
        for name, values in table.items():
            # a millionth of a year or of a radian: what two machines agree on
            digest.update(name.encode() + np.rint(values * 1e6).astype("<i8").tobytes())
        return digest.hexdigest()

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return the first rows of one part, 20,000, 2,000 or 3,000 of them unless ``limit`` says otherwise."""
        count = LENGTH[name] if limit is None else limit
        rows = FIRST[name] + np.arange(count)
        folder = f"faces-{self.fingerprint[:16]}"
        images = cached(
            f"{folder}/{name}", count, lambda positions: self.images(FIRST[name] + positions), ROUNDING
        )
        return Split(images, torch.from_numpy(labels(self.factors(rows))), torch.from_numpy(rows))

    def factors(self, rows: Split | Tensor | Rows | Sequence[int]) -> Table:
        """Return the exact factors of a split or of row numbers: [N] -> name -> float64 [N]."""
        numbers = rows.rows if isinstance(rows, Split) else rows
        return draw(self.seed, np.asarray(numbers, dtype=np.int64), self.dial)

    def images(self, rows: Tensor | Rows | Sequence[int]) -> Tensor:
        """Return the pictures of row numbers, drawn anew: [N] -> uint8 [N, 3, size, size]."""
        return self.render(self.factors(rows))

    def render(self, table: Table) -> Tensor:
        """Return the pictures of any factors: name -> [N] to uint8 [N, 3, size, size]."""
        return render(table, self.size, eye_scale=self.eye_scale, background_std=self.background_std)

    def pairs(self, factor: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return n test pictures, the same with one factor drawn again, and their row numbers.

        The new value is independent of the other factors, and another class if the factor has classes: uint8
        [n, 3, size, size] twice, int64 [n].
        """
        rows = FIRST["test"] + np.arange(n)
        table = self.factors(rows)
        changed = redraw(self.seed, rows, table, factor)
        return self.render(table), self.render(changed), torch.from_numpy(rows)

    def sharing(self, factor: str, groups: int, each: int) -> Tensor:
        """Return pictures in groups that share one factor, all others independent: uint8 [G, each, 3, size, size].

        Every factor has rows of its own, in no split; factors are drawn as in the mode ``independent``.
        """
        first = SHARED + APART * self.factor_names.index(factor)
        images = cached(
            f"faces-{self.fingerprint[:16]}/sharing-{factor}-{each}",
            groups * each,
            lambda places: self.render(draw_sharing(self.seed, first + places, factor, places // each)),
            ROUNDING,
        )
        return images.view(groups, each, *self.schema.shape)

    def grid(self) -> Image:
        """Return a labelled contact sheet: faces of this data set, and each attribute switched."""
        from lvmbench_faces.sheet import contact_sheet

        return contact_sheet(self)
