"""The first steps of some members, each alone: what any other way to take them must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lvmbench.branches import Single
from lvmbench.checkpoints import plain, set_plain
from lvmbench.descent import learning_rate
from lvmbench.errors import LvmbenchError
from lvmbench.members import Member, progress_at

LATE = 0.9  # the progress of the second of two steps that are held against those taken one by one
AGREES = 0.02  # of a gradient: products in another order, and in tfloat32, differ by less
LEAST = 1e-4  # of all gradients: less of one tensor is rounding


class Unrecordable(LvmbenchError):
    """Members whose steps cannot be recorded, and why."""


def told_of(error: Exception) -> Exception:
    """Return what an error says of a way; a want of memory speaks for itself."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return error
    return Unrecordable((str(error).splitlines() or [type(error).__name__])[0])


class Trial:
    """The first steps of some members, each alone: what every other way must come to.

    Raises:
        Unrecordable: if a member cannot take them, or changes numbers of its own, which no recording would repeat.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self.begin = [_Standing(member) for member in members]
        first = members[0]
        self.batch, feed = first.budget.batch, first.ground.feed
        rows = torch.arange(2 * self.batch, device=feed.device) % len(feed.whole)
        self.images, self.labels = next(feed.batches(iter([rows])))
        now = progress_at(first.step + 1, first.budget.steps)
        # the last step tells of terms that grow with the progress
        self.shares = [(share, learning_rate(now, first.budget.steps)) for share in (now, max(now, LATE))]
        try:
            self.slopes = [self._alone(standing) for standing in self.begin]
        except Exception as error:  # of one member: step by step it takes no other along
            raise told_of(error) from error
        finally:
            self.restore()

    def restore(self) -> None:
        """Let the members stand where they stood."""
        for standing in self.begin:
            standing.restore()

    def hold(self, take: Callable[[Tensor, Tensor, float, float], object]) -> None:
        """Hold another way to these steps; afterwards the members stand where they stood.

        ``take`` lets all members take one: of pictures, labels, progress and share of the learning rate.

        Raises:
            Unrecordable: if it comes to something else.
        """
        for (images, labels), shares in zip(self._seen(), self.shares, strict=True):
            take(images, labels, *shares)
        for standing, expected in zip(self.begin, self.slopes, strict=True):
            _agree(_slopes(standing.member), expected)
        self.restore()

    def _seen(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.images.split(self.batch), self.labels.split(self.batch), strict=True)

    def _alone(self, standing: _Standing) -> dict[str, Tensor]:
        """Return the slopes of a member after its first steps."""
        branch = Single(standing.member)
        for (images, labels), shares in zip(self._seen(), self.shares, strict=True):
            branch.step(images[None], labels[None], *shares)
        now = plain(standing.member.model)
        if changed := sorted(name for name in now if now[name] != standing.plain.get(name)):
            raise Unrecordable(f"it changes {changed[0]} in a step")
        return _slopes(standing.member)


class _Standing:
    """Where a member stands: its tensors, moments, numbers and random numbers."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.weights = {name: t.clone() for name, t in member.model.state_dict().items()}
        self.moments = {name: t.clone() for name, t in member.descent.state().items()}
        self.plain, self.random = plain(member.model), member.streams.state()

    @torch.no_grad()
    def restore(self) -> None:
        """Let it stand there again."""
        for name, tensor in self.member.model.state_dict().items():
            tensor.copy_(self.weights[name])
        self.member.descent.restore(self.moments)
        set_plain(self.member.model, self.plain)
        self.member.streams.restore(self.random)


def _slopes(member: Member) -> dict[str, Tensor]:
    """Return the running means of a member's gradients, and the number of its steps, by parameter."""
    state = member.descent.state()
    return {name: t.clone() for name, t in state.items() if name.endswith(("/exp_avg", "/step"))}


def _agree(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Hold slopes against those expected.

    Raises:
        Unrecordable: if they differ by more than rounding.
    """
    whole = torch.stack([t.norm() for name, t in expected.items() if name.endswith("/exp_avg")]).norm()
    for name, slope in expected.items():
        if name.endswith("/step") and found[name] != slope:
            raise Unrecordable(f"recorded, it counts other steps ({name})")
        # not <=, so that a NaN agrees with nothing
        if not (found[name] - slope).norm() <= AGREES * slope.norm() + LEAST * whole:
            raise Unrecordable(f"recorded, it comes to another gradient ({name})")
