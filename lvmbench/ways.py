"""How steps are taken, and the plainest way: one member, one step after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lvmbench.descent import Share, Terms, broken, learning_rate, told
from lvmbench.errors import TrainingError
from lvmbench.members import Member, progress_at
from lvmbench.protocols import Batch
from lvmbench.randomness import noise, stream

ROOM = 1024  # numbers, at first


class Way(Protocol):
    """How some members take their steps."""

    stride: int  # steps that it takes at once

    @property
    def members(self) -> Sequence[Member]:
        """The members that take steps."""
        ...

    def through(self, ends: Sequence[int]) -> Iterator[int]:
        """Take the steps that lie ahead, and yield each of these step numbers when it is done."""
        ...

    def check(self) -> None:
        """Let the members fail whose losses were not finite in a step that nobody has looked at."""
        ...

    def look(self) -> Sequence[Terms]:
        """Return each member's first loss on the validation data, means over its rows in nats: [] each.

        The noise is the same at each look.
        """
        ...

    def close(self) -> None:
        """Let go of what the members have in common."""
        ...


class Alone:
    """One member, step by step: what every other way is held to."""

    stride = 1

    def __init__(self, member: Member) -> None:
        self.member, self.members = member, [member]
        # the terms of the losses that nobody has looked at, on the device, and their names, by step: in one tensor,
        # since small ones that stay between large ones leave the memory in pieces
        self.since, self.used = torch.empty(ROOM, device=member.ground.device), 0
        self.terms_of: list[Sequence[str]] = []

    def through(self, ends: Sequence[int]) -> Iterator[int]:
        """Take the steps that lie ahead, and yield each of these step numbers when it is done."""
        member = self.member
        batch, ground = member.budget.batch, member.ground
        rows = (member.order.take(batch) for _ in range(ends[-1] - member.step))
        seen = ground.feed.batches(rows)
        for end in ends:
            with member.streams.used():
                while member.step < end:
                    self.step(*next(seen))
            yield end

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Take one step: uint8 [B, C, H, W], [B, A]."""
        steps = self.member.budget.steps
        progress = progress_at(self.member.step + 1, steps)
        self._keep(self.take(images, labels, progress, learning_rate(progress, steps)))
        self.member.step += 1

    def take(self, images: Tensor, labels: Tensor, progress: Share, rate: Share) -> Terms:
        """Take one step that nobody counts, and return its terms: uint8 [B, C, H, W], [B, A] -> [] each."""
        model = self.member.model
        terms = self.member.descent.step(Batch(images, labels), progress, rate)
        if hasattr(model, "after_step"):
            model.after_step()
        return terms

    def _keep(self, terms: Terms) -> None:
        self.terms_of.append(tuple(terms))
        begin, end = self.used, self.used + len(terms)
        while end > len(self.since):
            self.since = torch.cat([self.since, torch.empty_like(self.since)])
        if terms:
            torch.stack(list(terms.values()), out=self.since[begin:end])
        self.used = end

    def check(self) -> None:
        """Let the member fail if a loss was not finite in a step that nobody has looked at."""
        since, terms_of = self.since[: self.used], self.terms_of
        self.used, self.terms_of = 0, []
        if not since.isfinite().all():
            each = zip(terms_of, since.split([len(names) for names in terms_of]), strict=True)
            steps = [dict(zip(names, values, strict=True)) for names, values in each]
            first, terms = next((i, terms) for i, terms in enumerate(steps) if broken(terms))
            fail(self.member, self.member.step - len(steps) + 1 + first, terms)

    @torch.no_grad()
    def look(self) -> Sequence[Terms]:
        """Return the first loss on the validation data, means over its rows in nats: [] each."""
        member, ground = self.member, self.member.ground
        member.model.eval()
        means: dict[str, Tensor] = {}
        with noise(stream(member.seed, "look"), ground.device):
            for images, labels in zip(
                *(t.split(member.budget.batch) for t in (ground.val.images, ground.val.labels)), strict=True
            ):
                terms = next(iter(member.losses(Batch(images, labels), 1.0).values()))
                for name, term in terms.items():
                    means[name] = means.get(name, 0) + term.double() * (len(images) / len(ground.val))
        member.model.train()
        return (means,)

    def close(self) -> None:
        """Do nothing."""


def fail(member: Member, step: int, terms: Terms) -> None:
    """Let a member fail by the terms of a step that are not finite."""
    member.failure = TrainingError(
        f"{member.name}: the loss is not finite at step {step} of {member.budget.steps}: {told(terms)}."
    )
