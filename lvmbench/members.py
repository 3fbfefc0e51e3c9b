"""A member of a cohort: one model on its way down, with the streams of its seed, its curve and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from lvmbench.api import Budget
from lvmbench.checkpoints import Checkpoint, Checkpoints, Misfit, plain, set_plain
from lvmbench.data import Schema, Split
from lvmbench.descent import Descent, Losses, Terms, broken, objective, often, told, total
from lvmbench.errors import TrainingError
from lvmbench.feed import Feed, Order
from lvmbench.pixels import observe
from lvmbench.protocols import Batch
from lvmbench.randomness import Streams, stream


@dataclass(frozen=True)
class Ground:
    """What the members of a cohort share: pictures to learn from and to choose by, and where they compute."""

    feed: Feed
    val: Split  # on the device
    schema: Schema
    device: torch.device


class Member:
    """One model, its seed, and how far it has come.

    ``failure`` is what stopped it; ``way`` tells how it took its steps, ``by_hand`` that no recording serves it.
    """

    def __init__(
        self, model: Any, seed: int, budget: Budget, ground: Ground, keep: Checkpoints | None
    ) -> None:
        self.model, self.seed, self.budget, self.ground, self.keep = model, seed, budget, ground, keep
        self.streams = Streams(stream(seed, "noise"), ground.device)
        self.curve: list[tuple[int, float]] = []
        self.step = 0
        self.sort()
        self.failure: Exception | None = None
        self.way, self.by_hand = "", False
        if hasattr(model, "start"):
            with self.streams.used():
                model.start(ground.feed.whole)
        groups, losses = objective(model)
        self.losses = observed(losses, ground.schema)
        self.milestones = _milestones(model, budget.steps)
        self.descent = Descent(groups, self.losses, budget.learning_rate)
        patience = getattr(model, "patience", None)  # in looks of a short run
        self.best = _Best(model, patience and patience * often(budget.steps))

    def sort(self) -> None:
        """Let the rows of the data come in the order of the seed, from the step on that comes next."""
        generator, feed = Generator().manual_seed(stream(self.seed, "order")), self.ground.feed
        self.order = Order(len(feed.whole), generator, feed.device)
        self.order.skip(self.step * self.budget.batch)

    def step_by_step(self, reason: object) -> None:
        """Take the steps one by one from now on, for a reason."""
        self.by_hand, self.way = True, f"step by step: {reason}"

    @property
    def name(self) -> str:
        """The name of the model."""
        return type(self.model).__name__

    @property
    def stopped(self) -> bool:
        """Whether it failed, or ran out of patience."""
        return self.failure is not None or self.best.stopped

    @property
    def ended(self) -> bool:
        """Whether it takes no further step."""
        return self.stopped or self.step >= self.budget.steps

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let an error inside a with-block be the failure of this member alone."""
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError):  # that of all
            raise
        except Exception as error:
            self.failure = error

    def reach(self, step: int) -> None:
        """Call the milestones before a step, which then lie behind."""
        for reached in self.milestones.pop(step, ()):
            with self.streams.used():
                reached(self.ground.feed.whole)

    def looked(self, step: int, terms: Terms) -> None:
        """Take down one look at the validation data: the sum of its terms, in nats, of those that count.

        Raises:
            TrainingError: if a term is not finite.
        """
        if broken(terms):
            raise TrainingError(
                f"{self.name}: the validation loss is not finite after step {step}: {told(terms)}."
            )
        constraints = getattr(self.model, "constraints", ())
        counted = {name: term for name, term in terms.items() if name not in constraints}
        self.curve.append((step * self.budget.batch, float(total(counted))))
        self.best.look([loss for _, loss in self.curve])

    def write(self) -> None:
        """Write what it would go on from, where it is kept."""
        if self.keep is not None and not self.ended:
            self.keep.write(self.checkpoint())

    def checkpoint(self) -> Checkpoint:
        """Return what it would go on from."""
        return Checkpoint(
            self.step,
            tuple(self.curve),
            plain(self.model),
            weights=self.model.state_dict(),
            optimisers=self.descent.state(),
            random=self.streams.state(),
            best=self.best.weights or {},
        )

    def resume(self) -> None:
        """Be where the last checkpoint led, if there is one.

        Raises:
            Misfit: if it does not fit the model.
        """
        found = self.keep.last() if self.keep else None
        if self.keep is None or found is None:
            return
        try:
            self._restore(found)
        except (OSError, MemoryError, torch.OutOfMemoryError):  # of the moment: the checkpoint is good
            raise
        except Exception as error:  # whatever a milestone of the model says to weights that it never saw
            raise Misfit(
                f"{self.keep.path}: does not fit the model ({type(error).__name__}: {error})"
            ) from error
        self.keep.say(f"goes on after step {found.step} of {self.budget.steps}")

    def _restore(self, found: Checkpoint) -> None:
        if not 0 < found.step <= self.budget.steps:
            raise ValueError(f"step {found.step} of {self.budget.steps}")
        for step in sorted(step for step in self.milestones if step <= found.step):
            self.reach(step)
        self.model.load_state_dict(found.weights)
        set_plain(self.model, found.plain)
        self.descent.restore(found.optimisers)
        self.curve = list(found.curve)
        device = self.ground.device
        self.best.weights = {name: t.to(device, copy=True) for name, t in found.best.items()} or None
        self.streams.restore(found.random)
        self.step = found.step
        self.sort()


class _Best:
    """The weights of the best look, for a model that has patience; without patience it does nothing."""

    def __init__(self, model: Any, patience: int | None) -> None:
        self.model, self.patience, self.stopped = model, patience, False
        self.weights: dict[str, Tensor] | None = None

    def look(self, losses: Sequence[float]) -> None:
        """Keep the weights of a look that brought something; stop where the last ``patience`` looks did not."""
        if self.patience is None:
            return
        if losses[-1] <= min(losses):
            self.weights = {name: t.clone() for name, t in self.model.state_dict().items()}
        self.stopped = len(losses) - 1 - losses.index(min(losses)) >= self.patience

    def restore(self) -> None:
        """Give the model the kept weights back."""
        if self.weights is not None:
            self.model.load_state_dict(self.weights)


def observed(losses: Losses, schema: Schema) -> Losses:
    """Return losses of pictures as they are stored, uint8 [B, C, H, W], from those of what the schema makes of them."""
    return lambda batch, progress: losses(Batch(observe(schema, batch.x), batch.labels), progress)


def progress_at(step: int, steps: int) -> float:
    """Return the share of the run that lies behind in the middle of a step."""
    return (step - 0.5) / steps


def _milestones(model: Any, steps: int) -> dict[int, list[Callable[[Split], None]]]:
    """Return what is called before which step: the first whose progress is not below the share."""
    found: dict[int, list[Callable[[Split], None]]] = {}
    given: Mapping[float, Callable[[Split], None]] = getattr(model, "milestones", dict)()
    for share, function in given.items():
        step = next((s for s in range(1, steps + 1) if progress_at(s, steps) >= share), None)
        if step is None:
            raise TrainingError(
                f"{type(model).__name__}: {steps} steps end before its milestone at {share:g} of them."
            )
        found.setdefault(step, []).append(function)
    return found
