"""The first steps of some members, each alone: what any other way to take them must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lvmbench.branches import Single
from lvmbench.checkpoints import plain, set_plain
from lvmbench.descent import learning_rate
from lvmbench.errors import LvmbenchError
from lvmbench.members import Member, progress_at

LATE = 0.9  # the progress of the second of two steps that are held against those taken one by one
AGREES = 0.02  # of a gradient: products in another order, and in tfloat32, differ by less
EXACTLY = 1e-5  # the same kernels on the same numbers, but for a progress that is rounded
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

    def hold(self, take: Callable[[Tensor, Tensor, float, float], object], agrees: float = AGREES) -> None:
        """Hold another way to these steps, within a share of each gradient, and let the members stand as before.

        ``take`` lets all members take one: of pictures, labels, progress and share of the learning rate.

        Raises:
            Unrecordable: if it comes to something else.
        """
        for (images, labels), shares in zip(self._seen(), self.shares, strict=True):
            take(images, labels, *shares)
        for standing, expected in zip(self.begin, self.slopes, strict=True):
            _agree(_slopes(standing.member), expected, agrees)
        self.restore()

    def _seen(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.images.split(self.batch), self.labels.split(self.batch), strict=True)

    def _alone(self, standing: _Standing) -> dict[str, Tensor]:
        """Return the slopes of a member after its first steps."""
        branch = Single(standing.member)
        for (images, labels), shares in zip(self._seen(), self.shares, strict=True):
            branch.step(images[None], labels[None], *shares)
        if changed := standing.changed():
            raise Unrecordable(changed)
        return _slopes(standing.member)


class _Standing:
    """Where a member stands: its tensors, moments, numbers and random numbers."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.weights = {name: t.clone() for name, t in member.model.state_dict().items()}
        self.moments = {name: t.clone() for name, t in member.descent.state().items()}
        self.buffers = dict(member.model.named_buffers())
        self.plain, self.random = plain(member.model), member.streams.state()
        self.lists = [(name, own, len(own)) for name, own in _lists(member.model)]

    def changed(self) -> str:
        """Return what its steps have changed that no recording would repeat, if there is anything."""
        model = self.member.model
        now = plain(model)
        replaced = [name for name, t in model.named_buffers() if t is not self.buffers[name]]
        found = [
            *(f"it changes {name} in a step" for name in sorted(now) if now[name] != self.plain.get(name)),
            *(f"it replaces {name} in a step, where it could be changed in place" for name in replaced),
            *(f"it adds to {name} in a step" for name, own, rows in self.lists if len(own) > rows),
        ]
        return next(iter(found), "")

    @torch.no_grad()
    def restore(self) -> None:
        """Let it stand there again."""
        for name, tensor in self.member.model.state_dict().items():
            tensor.copy_(self.weights[name])
        self.member.descent.restore(self.moments)
        set_plain(self.member.model, self.plain)
        for _, own, rows in self.lists:
            del own[rows:]
        self.member.streams.restore(self.random)


def _lists(model: nn.Module) -> Iterator[tuple[str, list[Any]]]:
    """Yield the lists that a model and its parts hold as attributes."""
    for prefix, part in model.named_modules():
        for attribute, value in vars(part).items():
            if type(value) is list:
                yield f"{prefix}.{attribute}", value


def _slopes(member: Member) -> dict[str, Tensor]:
    """Return the running means of a member's gradients, and the number of its steps, by parameter."""
    state = member.descent.state()
    return {name: t.clone() for name, t in state.items() if name.endswith(("/exp_avg", "/step"))}


def _agree(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], agrees: float) -> None:
    """Hold slopes against those expected, within a share of each.

    Raises:
        Unrecordable: if they differ by more than rounding.
    """
    whole = torch.stack([t.norm() for name, t in expected.items() if name.endswith("/exp_avg")]).norm()
    for name, slope in expected.items():
        if name.endswith("/step") and found[name] != slope:
            raise Unrecordable(f"it counts other steps ({name})")
        # not <=, so that a NaN agrees with nothing
        if not (found[name] - slope).norm() <= agrees * slope.norm() + min(agrees, LEAST) * whole:
            raise Unrecordable(f"it comes to another gradient ({name})")
