"""Which members learn at the same time, and in which way: what a trial shows to give the numbers of each alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lvmbench.branches import Branch, Single, Stacked
from lvmbench.checkpoints import plain, set_plain
from lvmbench.descent import learning_rate
from lvmbench.errors import LvmbenchError
from lvmbench.graphs import Graphed
from lvmbench.members import Member, progress_at
from lvmbench.ways import Alone, Way

STACKED = 64  # members in a stack: more gain nothing, since their weights fill the bandwidth of a GPU by then
BESIDE = 16  # members side by side: so many of a small convolutional net fill a GPU
LATE = 0.9  # the progress of the second of two steps that are held against those taken one by one
AGREES = 0.02  # of a gradient: products in another order, and in tfloat32, differ by less
LEAST = 1e-4  # of all gradients: less of one tensor is rounding


class Unrecordable(LvmbenchError):
    """Members whose steps cannot be recorded, and why."""


def cohorts(members: Sequence[Member]) -> list[list[Member]]:
    """Return the members in groups that take their steps at the same time.

    On a processor that is one each: its cores have work enough with one member, and other members have other
    processes.
    """
    alike: dict[object, list[Member]] = {}
    for member in members:
        model = member.model
        together = member.ground.device.type == "cuda" and isinstance(model, nn.Module)
        same = (type(model), member.budget, member.step, *sorted(member.milestones))
        key = same if together else id(member)
        alike.setdefault(key, []).append(member)
    return [
        group[start : start + most]
        for group in alike.values()
        for most in [STACKED if is_dense(group[0].model) else BESIDE]
        for start in range(0, len(group), most)
    ]


def is_dense(model: object) -> bool:
    """Return whether a model has no convolution: those of many members are slower as one than side by side."""
    return isinstance(model, nn.Module) and not any(
        isinstance(part, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d) for part in model.modules()
    )


def way_of(group: Sequence[Member]) -> Way:
    """Return how a group takes its steps: the fastest way that comes to the numbers of each member alone.

    Raises:
        Unrecordable: if there is none but one by one, and they are not yet told to take it.
    """
    first = group[0]
    if first.ground.device.type != "cuda" or first.by_hand:
        return Alone(first)
    return recorded_way(group)


def recorded_way(group: Sequence[Member]) -> Graphed:
    """Return a way that records steps, and that came to the numbers of each member alone.

    Raises:
        Unrecordable: if there is none.
    """
    ways: dict[str, Callable[[], Sequence[Branch]]] = {"side by side": lambda: [Single(m) for m in group]}
    if len(group) > 1 and is_dense(group[0].model):
        ways = {"stacked": lambda: [Stacked(group)], **ways}
    trial, reason = Trial(group), ""
    for name, branches in ways.items():
        try:
            way = _tried(trial, branches)
        except Unrecordable as error:
            reason = str(error)
            print(f"not {name}: {reason}", flush=True)  # noqa: T201 (into the log of the cell)
            continue
        for member in group:
            member.way = f"recorded, {len(group)} members {name}" if len(group) > 1 else "recorded"
        return way
    raise Unrecordable(reason)


def _tried(trial: Trial, made: Callable[[], Sequence[Branch]]) -> Graphed:
    """Return branches as a way, if they pass a trial; whatever comes of it, the members stand where they stood."""
    branches: Sequence[Branch] = ()
    try:
        branches = made()
        return trial.passed(branches)
    except Exception as error:  # whatever torch says to a step that it cannot record
        for branch in branches:
            branch.close()
        raise _told(error) from error
    finally:
        trial.restore()


def _told(error: Exception) -> Exception:
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
            raise _told(error) from error
        finally:
            self.restore()

    def restore(self) -> None:
        """Let the members stand where they stood."""
        for standing in self.begin:
            standing.restore()

    def passed(self, branches: Sequence[Branch]) -> Graphed:
        """Return branches as a way that came to the same slopes.

        Raises:
            Unrecordable: if it did not.
        """
        way = Graphed(branches)
        inputs, again = way.stepper(1, warm=self.restore)
        way.steps[1] = inputs, again
        for step, seen in enumerate(self._seen()):
            for whole, part in zip((inputs.images, inputs.labels), seen, strict=True):
                whole[:, 0] = part
            inputs.progress.fill_(self.shares[step][0])
            inputs.rate.fill_(self.shares[step][1])
            again()
        for standing, expected in zip(self.begin, self.slopes, strict=True):
            _agree(_slopes(standing.member), expected)
        self.restore()
        way.record()
        return way

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
