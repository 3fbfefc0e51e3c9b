"""What takes the steps of a recorded cohort: one member, or members whose tensors are stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from lvmbench.descent import Descent, Share, Terms
from lvmbench.mapped import Unstackable
from lvmbench.members import Member
from lvmbench.protocols import Batch
from lvmbench.randomness import Streams
from lvmbench.stacks import Stack


class Branch(Protocol):
    """Some members, whose steps are one sequence of calls; members are counted by M."""

    @property
    def members(self) -> Sequence[Member]:
        """The members."""
        ...

    def step(self, images: Tensor, labels: Tensor, progress: Share, rate: Share) -> Terms:
        """Take one step: uint8 [M, B, C, H, W], [M, B, A] -> terms of [M], or [] where it is one."""
        ...

    def look(self, images: Tensor, labels: Tensor, streams: Sequence[Streams]) -> Terms:
        """Return the first loss of the same pictures for each member: uint8 [B, C, H, W], [B, A] -> terms."""
        ...

    def close(self) -> None:
        """Give every member tensors of its own."""
        ...


class Single:
    """One member."""

    def __init__(self, member: Member) -> None:
        self.member, self.members = member, [member]

    def step(self, images: Tensor, labels: Tensor, progress: Share, rate: Share) -> Terms:
        """Take one step: uint8 [1, B, C, H, W], [1, B, A] -> terms of []."""
        with self.member.streams.used():
            terms = self.member.descent.step(Batch(images[0], labels[0]), progress, rate)
            if hasattr(self.member.model, "after_step"):
                self.member.model.after_step()
        return terms

    def look(self, images: Tensor, labels: Tensor, streams: Sequence[Streams]) -> Terms:
        """Return the first loss: uint8 [B, C, H, W], [B, A] -> terms of []."""
        with streams[0].used():
            return next(iter(self.member.losses(Batch(images, labels), 1.0).values()))

    def close(self) -> None:
        """Do nothing."""


class Stacked:
    """Members that compute as one.

    Raises:
        Unstackable: if they cannot.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        first, self.members = members[0], members
        if hasattr(first.model, "after_step"):
            raise Unstackable("it has an after_step")
        settings = [[(g.rate, g.betas) for g in member.descent.groups.values()] for member in members]
        if any(other != settings[0] for other in settings[1:]):
            raise Unstackable("its members have optimisers of different settings")
        self.stack = Stack([member.model for member in members])
        groups = {
            name: replace(
                group, parameters=[self.stack.trained[n] for n in self.stack.names_of(list(group.parameters))]
            )
            for name, group in first.descent.groups.items()
        }
        self.losses = self.stack.losses(first.losses, [member.streams.device for member in members])
        self.descent = Descent(groups, self.losses, first.budget.learning_rate)
        try:
            for name, optimiser in self.descent.optimisers.items():
                optimiser.serve([member.descent.optimisers[name] for member in members])
        except BaseException:  # memory may end here
            self.close()
            raise

    def step(self, images: Tensor, labels: Tensor, progress: Share, rate: Share) -> Terms:
        """Take one step of all: uint8 [M, B, C, H, W], [M, B, A] -> terms of [M]."""
        return self.descent.step(Batch(images, labels), progress, rate)

    def look(self, images: Tensor, labels: Tensor, streams: Sequence[Streams]) -> Terms:
        """Return the first loss of each: uint8 [B, C, H, W], [B, A] -> terms of [M]."""
        losses = self.stack.losses(self.members[0].losses, [own.device for own in streams])
        batch = Batch(*(t.expand(len(self.members), *t.shape) for t in (images, labels)))
        return next(iter(losses(batch, 1.0).values()))

    def close(self) -> None:
        """Give every member tensors of its own."""
        self.stack.release()
        for member in self.members:
            for optimiser in member.descent.optimisers.values():
                optimiser.part()
