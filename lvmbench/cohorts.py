"""Which members learn at the same time, and in which way: what a trial shows to give the numbers of each alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from lvmbench.branches import Branch, Single, Stacked
from lvmbench.graphs import Graphed
from lvmbench.members import Member
from lvmbench.replays import Replayed
from lvmbench.trials import Trial, Unrecordable, told_of
from lvmbench.ways import Alone, Way

STACKED = 64  # members in a stack: more gain nothing, since their weights fill the bandwidth of a GPU by then
SHORT = 32  # steps on a processor, below which what is saved by replaying is less than the trial of it costs
BESIDE = 16  # members side by side: so many of a small convolutional net fill a GPU


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
        Unrecordable: if a GPU can record none, and they are not yet told to go step by step.
    """
    first = group[0]
    if first.ground.device.type == "cuda":
        return Alone(first) if first.by_hand else recorded_way(group)
    if first.budget.steps < SHORT:
        return Alone(first)
    try:
        return replayed_way(first)
    except Unrecordable as error:  # anew after each milestone, so that what was resumed goes the same way
        first.step_by_step(error)
    except MemoryError:
        first.step_by_step("there was no memory to try more")
    return Alone(first)


def replayed_way(member: Member) -> Replayed:
    """Return the way of one member on a processor whose steps are run again as they were taken down.

    Raises:
        Unrecordable: if they do not come to its own numbers.
    """
    trial = Trial([member], exact=True)
    try:
        with member.streams.used():
            way = Replayed(member)
        trial.restore()

        def take(*given: Any) -> None:
            with member.streams.used():
                way.take(*given)

        trial.hold(take)
    except Exception as error:
        raise told_of(error) from error
    finally:
        trial.restore()
    member.way = "replayed"
    return way


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
        return _graphed(trial, branches)
    except Exception as error:  # whatever torch says to a step that it cannot record
        for branch in branches:
            branch.close()
        raise told_of(error) from error
    finally:
        trial.restore()


def _graphed(trial: Trial, branches: Sequence[Branch]) -> Graphed:
    """Return a way whose first recording has passed a trial, and that has recorded all else."""
    way = Graphed(branches)
    inputs, again = way.stepper(1, warm=trial.restore)
    way.steps[1] = inputs, again

    def take(images: Tensor, labels: Tensor, progress: float, rate: float) -> None:
        inputs.images[:, 0] = images
        inputs.labels[:, 0] = labels
        inputs.progress.fill_(progress)
        inputs.rate.fill_(rate)
        again()

    trial.hold(take)
    way.record()
    return way
