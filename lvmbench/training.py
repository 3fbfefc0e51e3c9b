"""The engine: the only training loop of the project.

A seed is four streams: initial weights, order of the data, noise of training, noise of the looks at the
validation data. Images lie on the device as one uint8 tensor where they fit, a batch is an index, and nothing
waits for the device between two looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from lvmbench.api import Budget
from lvmbench.bodies import Precision, computing_in
from lvmbench.checkpoints import Checkpoints
from lvmbench.cohorts import cohorts, way_of
from lvmbench.convergence import has_converged
from lvmbench.data import Schema, Split
from lvmbench.descent import denormals_flushed, often
from lvmbench.errors import TrainingError
from lvmbench.feed import feed, on
from lvmbench.members import Ground, Member
from lvmbench.protocols import FitsItself
from lvmbench.randomness import noise, stream
from lvmbench.trials import Unrecordable
from lvmbench.ways import Way

LOOKS = 20  # at the validation data, in a run that is not long
LOOK_COST = 128  # one of these takes a row for so many images of the budget: they cost some 7 % of a run
LOOK_ROWS = 128  # and never fewer than these
STRETCHES = 100  # of a run, between which it is heard of, and may write a checkpoint

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class History:
    """What training tells: validation loss in nats by images seen, and whether it had settled.

    ``converged`` is None where nothing was descended, or too little to judge. ``way`` says in a few words how the
    steps were taken, where it was not one by one.
    """

    curve: Sequence[tuple[int, float]] = ()
    converged: bool | None = None
    steps: int = 0
    images: int = 0
    way: str = ""


def build(model_class: Callable[..., Any], schema: Schema, options: Mapping[str, Any], seed: int) -> Any:
    """Return a model with the initial weights of a seed, on the CPU."""
    with noise(stream(seed, "weights")):
        return model_class(schema, **options)


def fit(
    model: Any,
    train: Split,
    val: Split,
    budget: Budget,
    schema: Schema,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    on_progress: Progress | None = None,
    precision: Precision = "float32",
    keep: Checkpoints | None = None,
) -> History:
    """Train a model in place and return its history; torch's own random state is left as it was.

    A model with ``fit`` learns by itself, one with ``losses`` or ``loss`` by gradients. Where it has them,
    ``own_budget(budget)`` replaces the budget, ``start(train)`` and ``after_step()`` are called, each function
    in ``milestones()`` is called with the training data at its share of the steps (pictures that do not fit a device
    stay where they are: what is used of them is to be moved), ``settled`` is the share at
    which its schedules end, terms named in ``constraints`` are no part of the learning curve (they hold something
    in its place, and their noise tells nothing of progress), and with ``patience`` the run stops after so many
    looks, of twenty in a run, without progress and the best weights return. A look runs without gradients.
    ``on_progress`` hears of steps done and steps in all. Networks compute in ``precision``
    meanwhile. The model is left on the device, in evaluation mode.

    With ``keep`` a descent writes checkpoints, and goes on from the last to the same numbers as undisturbed. For that
    all that a model remembers from step to step is in its ``state_dict``, or a number or a word among its
    attributes; milestones that were passed are called anew, before all of it is put back.

    Raises:
        Misfit: if the last checkpoint does not fit the model, which is of no use then.
        TrainingError: if a loss is not finite, with the step and the term, or there is nothing to learn from or by.
    """
    (told,) = fit_together(
        [model], train, val, budget, schema,
        seeds=[seed], device=device, on_progress=on_progress, precision=precision, keeps=[keep],
    )  # fmt: skip
    if isinstance(told, Exception):
        raise told
    return told


def fit_together(
    models: Sequence[Any],
    train: Split,
    val: Split,
    budget: Budget,
    schema: Schema,
    *,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    on_progress: Progress | None = None,
    precision: Precision = "float32",
    keeps: Sequence[Checkpoints | None] = (),
) -> list[History | Exception]:
    """Train models in place, as ``fit`` does each of them, and return the history of each, or what stopped it.

    On a GPU models of one class learn at the same time; each sees and draws what it would alone, and its numbers
    are those to rounding.
    """
    where = torch.device(device)
    keeps = keeps or [None] * len(models)
    with denormals_flushed(), computing_in(precision, *models):
        if any(isinstance(model, FitsItself) for model in models):
            return [
                _itself(model, train, budget, seed, where) for model, seed in zip(models, seeds, strict=True)
            ]
        return _descended(models, train, val, budget, schema, seeds, where, on_progress, keeps)


def _itself(model: Any, train: Split, budget: Budget, seed: int, device: torch.device) -> History | Exception:
    """Let a model fit itself."""
    try:
        with noise(stream(seed, "noise"), device):
            _placed(model, device).fit(train, budget, seed)
    except Exception as error:
        return error
    _rested(model)
    return History()


def _descended(
    models: Sequence[Any],
    train: Split,
    val: Split,
    budget: Budget,
    schema: Schema,
    seeds: Sequence[int],
    device: torch.device,
    on_progress: Progress | None,
    keeps: Sequence[Checkpoints | None],
) -> list[History | Exception]:
    """Let models descend, those of one budget on the same ground."""
    if not len(train) or not len(val):
        told = f"{type(models[0]).__name__}: {len(train)} rows to learn from and {len(val)} to choose by."
        return [TrainingError(told) for _ in models]
    pictures = feed(train, device)

    @cache
    def ground(budget: Budget) -> Ground:
        rows = budget.images // LOOK_COST // often(budget.steps)
        looked_at = on(val.head(max(LOOK_ROWS, rows)), device)
        return Ground(pictures, looked_at, schema, device)

    made = [_member(*of_one, budget, ground) for of_one in zip(models, seeds, keeps, strict=True)]
    members = [member for member in made if isinstance(member, Member)]
    _all_down(members, on_progress or (lambda done, total: None))
    return [_history(member) if isinstance(member, Member) else member for member in made]


def _member(
    model: Any,
    seed: int,
    keep: Checkpoints | None,
    budget: Budget,
    ground: Callable[[Budget], Ground],
) -> Member | Exception:
    """Return a member at its first step, or where its last checkpoint led; or what went wrong."""
    try:
        own: Budget = model.own_budget(budget) if hasattr(model, "own_budget") else budget
        here = ground(own)
        member = Member(_placed(model, here.device), seed, own, here, keep)
        if isinstance(model, nn.Module):
            model.train()
            member.resume()
    except Exception as error:
        return error
    return member


def _all_down(members: Sequence[Member], on_progress: Progress) -> None:
    """Let members take their steps, as many at once as the device gains from and has memory for."""
    waiting, done = cohorts(members), 0
    while waiting:
        group, *waiting = waiting
        steps = group[0].budget.steps
        total = done + steps + sum(other[0].budget.steps for other in waiting)
        try:
            _down(group, partial(_heard, on_progress, done, total))
        except Unrecordable as error:
            for member in group:
                member.step_by_step(error)
            waiting = _apart(group, 1) + waiting
            continue
        except (MemoryError, torch.OutOfMemoryError) as error:
            if len(group) > 1:
                waiting = _apart(group, math.ceil(len(group) / 2)) + waiting
                continue
            group[0].failure = error
        except Exception as error:
            for member in group:
                member.failure = member.failure or error
        done += steps


def _apart(group: Sequence[Member], most: int) -> list[list[Member]]:
    """Return smaller groups of those that have steps to take, each from where it stands."""
    going = [member for member in group if not member.ended]
    for member in going:
        member.sort()
    return [going[start : start + most] for start in range(0, len(going), most)]


def _heard(on_progress: Progress, before: int, total: int, step: int) -> None:
    on_progress(before + step, total)


def _down(group: Sequence[Member], on_step: Callable[[int], None]) -> None:
    """Take the steps of the budget, or fewer where patience ends, from one milestone to the next."""
    if group[0].step:
        on_step(group[0].step)
    while going := [member for member in group if not member.ended]:
        for member in going:
            with member.guarded():
                member.reach(member.step + 1)
        if sound := [member for member in going if member.failure is None]:
            way = way_of(sound)
            try:
                _leg(way, on_step)
            finally:
                way.close()
    on_step(max(member.step for member in group))


def _leg(way: Way, on_step: Callable[[int], None]) -> None:
    """Take the steps up to the next milestone, with all that happens between them."""
    looks = looks_of(way.members[0].budget.steps)
    for end in way.through(_ends(way, looks)):
        if end in looks:
            _look(way, end)
        if any(m.keep and not m.ended and m.keep.due() for m in way.members):
            way.check()
            for member in way.members:
                member.write()
        if all(member.ended for member in way.members):
            return
        on_step(end)
    way.check()  # what was not looked at is lost with the way


def _look(way: Way, step: int) -> None:
    """Check the losses since the last look, and add one point to each curve."""
    way.check()
    for member, terms in zip(way.members, way.look(), strict=True):
        if not member.stopped:
            with member.guarded():
                member.looked(step, terms)


def looks_of(steps: int) -> list[int]:
    """Return the steps after which the validation data is looked at."""
    looks = LOOKS * often(steps)
    return list(dict.fromkeys(math.ceil(steps * i / looks) for i in range(1, looks + 1)))


def _ends(way: Way, looks: Sequence[int]) -> list[int]:
    """Return the steps up to the next milestone after which something is to happen, with a look that was missed."""
    first = way.members[0]
    steps = first.budget.steps
    stride = max(1, steps // STRETCHES // way.stride) * way.stride
    last = min((step - 1 for step in first.milestones), default=steps)
    missed = set(looks[len(first.curve) :])
    ends = {*range(stride, steps, stride), *looks, last}
    return sorted(e for e in ends if e <= last and (e > first.step or (e == first.step and e in missed)))


def _history(member: Member) -> History | Exception:
    """Return what became of a member, in evaluation mode from now on."""
    if member.failure is not None:
        return member.failure
    member.best.restore()
    _rested(member.model)
    budget, settled = member.budget, getattr(member.model, "settled", 0.0)
    converged = member.best.stopped or has_converged(member.curve, budget.images, budget.steps, settled)
    return History(tuple(member.curve), converged, member.step, member.step * budget.batch, member.way)


def _placed(model: Any, device: torch.device) -> Any:
    return model.to(device) if isinstance(model, nn.Module) else model


def _rested(model: Any) -> None:
    if isinstance(model, nn.Module):
        model.eval()
