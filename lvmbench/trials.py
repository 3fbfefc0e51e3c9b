"""The first steps of some members, each alone: what any other way to take them must come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lvmbench.branches import Single
from lvmbench.errors import LvmbenchError
from lvmbench.members import Member, progress_at
from lvmbench.standing import Standing

LATE = 0.9  # the progress of the second of two steps that are held against those taken one by one
AGREES = 0.02  # of a gradient: products in another order, and in tfloat32, differ by less
EXACTLY = 1e-6  # the same kernels on the same numbers, but for schedules that tensors compute
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

    ``exact`` holds it to all that the steps leave, but for rounding; else to the gradients, as other kernels give them.

    Raises:
        Unrecordable: if a member cannot take them, or changes numbers of its own, which no recording would repeat.
    """

    def __init__(self, members: Sequence[Member], *, exact: bool = False) -> None:
        self.exact = exact
        self.begin: list[Standing] = []
        first = members[0]
        self.batch, feed = first.budget.batch, first.ground.feed
        rows = torch.arange(2 * self.batch, device=feed.device) % len(feed.whole)
        self.images, self.labels = next(feed.batches(iter([rows])))
        now = progress_at(first.step + 1, first.budget.steps)
        # the last step tells of terms that grow with the progress, and at the whole rate of what follows the weights
        self.shares = [(share, 1.0) for share in (now, max(now, LATE))]
        try:
            self.begin = [Standing(member) for member in members]
            self.told = [self._alone(standing) for standing in self.begin]
        except Exception as error:  # of one member: step by step it takes no other along
            raise told_of(error) from error
        finally:
            self.restore()

    def restore(self) -> None:
        """Let the members stand where they stood."""
        for standing in self.begin:
            standing.restore()

    def hold(self, take: Callable[[Tensor, Tensor, float, float], object]) -> None:
        """Hold another way to these steps, and let the members stand as before.

        ``take`` lets all members take one: of pictures, labels, progress and share of the learning rate.

        Raises:
            Unrecordable: if it comes to something else.
        """
        for (images, labels), shares in zip(self._seen(), self.shares, strict=True):
            take(images, labels, *shares)
        for standing, expected in zip(self.begin, self.told, strict=True):
            (_agree_exactly if self.exact else _agree)(self._told(standing.member), expected)
        self.restore()

    def _seen(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self.images.split(self.batch), self.labels.split(self.batch), strict=True)

    def _alone(self, standing: Standing) -> dict[str, Tensor]:
        """Return what the first steps of a member leave."""
        branch = Single(standing.member)
        for (images, labels), shares in zip(self._seen(), self.shares, strict=True):
            standing.halfway()
            branch.step(images[None], labels[None], *shares)
        if changed := standing.changed():
            raise Unrecordable(changed)
        return self._told(standing.member)

    def _told(self, member: Member) -> dict[str, Tensor]:
        """Return the running means of a member's gradients and the number of its steps, or all that is exact."""
        state = member.descent.state()
        if self.exact:
            return {name: t.clone() for name, t in [*state.items(), *member.model.state_dict().items()]}
        return {name: t.clone() for name, t in state.items() if name.endswith(("/exp_avg", "/step"))}


def _agree(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Hold slopes against those expected.

    Raises:
        Unrecordable: if they differ by more than rounding.
    """
    whole = torch.stack([t.norm() for name, t in expected.items() if name.endswith("/exp_avg")]).norm()
    for name, slope in expected.items():
        if name.endswith("/step") and found[name] != slope:
            raise Unrecordable(f"it counts other steps ({name})")
        # not <=, so that a NaN agrees with nothing
        if not (found[name] - slope).norm() <= AGREES * slope.norm() + LEAST * whole:
            raise Unrecordable(f"it comes to another gradient ({name})")


def _agree_exactly(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Hold tensors against those expected.

    Raises:
        Unrecordable: if they differ by more than what a schedule does in another order.
    """
    for name, tensor in expected.items():
        apart = (found[name].double() - tensor.double()).norm()
        if not torch.equal(found[name], tensor) and not apart <= EXACTLY * tensor.double().norm():
            raise Unrecordable(f"it leaves another {name}")
