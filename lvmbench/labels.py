"""Labels that know nothing of the pictures: what a metric scores on them is what it scores by chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lvmbench.data import Split, SplitName
from lvmbench.errors import NotApplicable
from lvmbench.randomness import stream
from lvmbench.statistics import hashed_uniform

Splits = Mapping[SplitName, Split]


def permuted(splits: Splits, seed: int) -> dict[SplitName, Split]:
    """Return the splits with the label rows of each in a random order: [N, A].

    Whole rows move, within a split, so that attributes stay as related as they are, missing labels stay
    together, and every class keeps its share; only what ties them to the pictures is cut.
    """
    found: dict[SplitName, Split] = {}
    for name, split in splits.items():
        generator = torch.Generator().manual_seed(stream(seed, f"labels/permuted/{name}"))
        order = torch.randperm(len(split), generator=generator)
        found[name] = replace(split, labels=split.labels[order])
    return found


def by_identity(splits: Splits, seed: int) -> dict[SplitName, Split]:
    """Return the splits with one random label for each identity and attribute, the same in all of them: [N, A].

    It is drawn from the labels of the training rows. A code can score beyond chance on these only by telling
    identities apart, which is what a probe could do on the given labels too (Hewitt & Liang 2019). Labels
    that are missing stay missing.

    Raises:
        NotApplicable: if the identities are not known.
    """
    if any(split.groups is None for split in splits.values()):
        raise NotApplicable("the data set does not say which pictures show the same identity")
    known = [column[~column.isnan()].sort().values for column in splits["train"].labels.T]
    return {name: _by_identity(split, known, seed) for name, split in splits.items()}


def _by_identity(split: Split, known: list[Tensor], seed: int) -> Split:
    assert split.groups is not None
    labels = torch.full_like(split.labels, torch.nan)
    for a, values in enumerate(known):
        if len(values):
            counter = np.uint64(stream(seed, f"labels/by identity/{a}"))
            place = hashed_uniform(split.groups.numpy(), counter) * len(values)
            labels[:, a] = values[torch.from_numpy(place).long()]
    return replace(split, labels=labels.where(~split.labels.isnan(), torch.nan))
