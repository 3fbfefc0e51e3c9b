"""What needs no model: the pixels themselves, one attribute that was given away, nothing at all."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from lvmbench import Budget, NotApplicable, Schema, Split


class Pixels(nn.Module):
    """Raw pixels: the picture averaged down to ``size`` × ``size`` is its own code."""

    named: ClassVar[tuple[str, ...]] = ("size",)
    seedless: ClassVar[bool] = True

    def __init__(self, schema: Schema, *, size: Annotated[int, Ge(1)] = 8) -> None:
        super().__init__()
        if size > min(schema.shape[1:]):
            raise NotApplicable(f"pictures smaller than {size}×{size}")
        self.size = size

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn nothing."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of each patch: [B, C, H, W] -> [B, C * size * size]."""
        return adaptive_avg_pool2d(x, self.size).flatten(1)


class AttributeOnly(nn.Module):
    """One attribute alone: what a code tells of the others that knows nothing but, say, the gender."""

    seedless: ClassVar[bool] = True

    def __init__(self, schema: Schema, *, attribute: str = "Male") -> None:
        super().__init__()
        if attribute not in [a.name for a in schema.attributes]:
            raise NotApplicable(f"the data set has no attribute '{attribute}'")
        self.column = schema.index(attribute)
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(()))

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Take the mean label, which stands where a label is missing."""
        self.mean = train.labels[:, self.column].nanmean().to(self.mean.device)

    def encode_rows(self, split: Split) -> Tensor:
        """Return the label itself: [N] rows -> [N, 1]."""
        label = split.labels[:, self.column : self.column + 1].to(self.mean.device)
        return torch.where(label.isnan(), self.mean, label)


class Majority(nn.Module):
    """No code: every picture gets the same, so that whatever reads it can but name the commonest class."""

    seedless: ClassVar[bool] = True

    def __init__(self, schema: Schema) -> None:
        super().__init__()

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn nothing."""

    def encode(self, x: Tensor) -> Tensor:
        """Return zero: [B, C, H, W] -> [B, 1]."""
        return x.new_zeros(len(x), 1)
