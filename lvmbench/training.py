"""The engine: the only training loop of the project.

A seed is four streams: initial weights, order of the data, noise of training, noise of the looks at the
validation data. Images lie on the device as one uint8 tensor where they fit, a batch is an index, and nothing
waits for the device between two looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from lvmbench.api import Budget
from lvmbench.bodies import Precision, computing_in
from lvmbench.checkpoints import Checkpoint, Checkpoints, Misfit, plain, set_plain
from lvmbench.data import Schema, Split
from lvmbench.descent import DECAY, WARM_UP, Descent, Terms, broken, denormals_flushed, objective, told, total
from lvmbench.errors import TrainingError
from lvmbench.feed import feed, on
from lvmbench.pixels import observe
from lvmbench.protocols import Batch, FitsItself
from lvmbench.randomness import noise, random_state, set_random_state, stream

LOOKS = 20  # at the validation data, in one run
LOOK_COST = 128  # a look takes one row for so many images of the budget: the looks cost some 7 % of a run
LOOK_ROWS = 128  # and never fewer than these
STILL_LEARNING = 0.02  # of a phase's whole progress, made from its third quarter to its last: not converged

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class History:
    """What training tells: validation loss in nats by images seen, and whether it had settled.

    ``converged`` is None where nothing was descended, or too little to judge.
    """

    curve: Sequence[tuple[int, float]] = ()
    converged: bool | None = None
    steps: int = 0
    images: int = 0


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
    looks without progress and the best weights return. A look runs without gradients.
    ``on_progress`` hears of steps done and steps in all. Networks compute in ``precision``
    meanwhile. The model is left on the device, in evaluation mode.

    With ``keep`` a descent writes checkpoints, and goes on from the last to the same numbers as undisturbed. For that
    all that a model remembers from step to step is in its ``state_dict``, or a number or a word among its
    attributes; milestones that were passed are called anew, before all of it is put back.

    Raises:
        Misfit: if the last checkpoint does not fit the model, which is of no use then.
        TrainingError: if a loss is not finite, with the step and the term, or there is nothing to learn from or by.
    """
    if isinstance(model, nn.Module):
        model.to(device)
    with noise(stream(seed, "noise"), device), computing_in(precision, model), denormals_flushed():
        if isinstance(model, FitsItself):
            model.fit(train, budget, seed)
            history = History()
        else:
            kept = keep if isinstance(model, nn.Module) else None
            history = _Run(model, train, val, budget, schema, seed, device).descend(on_progress, kept)
    if isinstance(model, nn.Module):
        model.eval()
    return history


def has_converged(curve: Sequence[tuple[int, float]], images: int, settled: float = 0.0) -> bool | None:
    """Return whether a curve of (images seen, loss) had settled while the learning rate was constant.

    It had if the mean of the last quarter of these looks differs from that of the quarter before by at most 2 %
    of all that was gained, and twice the standard error that the jitter from look to look explains; a loss that
    rises has not settled. The decay of the learning rate, which flatters any curve, is not looked at, nor is
    what comes before the share ``settled``, when a schedule still changes what is minimised.
    """
    begin = max(WARM_UP, settled) * images
    constant = [loss for seen, loss in curve if begin <= seen <= (1 - DECAY) * images]
    quarter = len(constant) // 4
    if quarter < 2:
        return None
    late = constant[-2 * quarter :]
    gain = fmean(late[:quarter]) - fmean(late[quarter:])
    jitter = fmean((b - a) ** 2 for a, b in pairwise(late)) / 2  # variance of one look, without the trend
    return abs(gain) <= STILL_LEARNING * (constant[0] - min(constant)) + 2 * math.sqrt(2 * jitter / quarter)


def order(
    rows: int,
    batch: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    *,
    after: int = 0,
) -> Iterator[Tensor]:
    """Yield indices of full batches without end, from one permutation of the rows after another: [batch].

    Those of the first ``after`` batches are left out.
    """
    whole, begun = divmod(after * batch, rows)
    for _ in range(whole):
        torch.randperm(rows, generator=generator)
    queue = torch.randperm(rows, generator=generator).to(device)[begun:]
    while True:
        while len(queue) < batch:
            queue = torch.cat([queue, torch.randperm(rows, generator=generator).to(device)])
        yield queue[:batch]
        queue = queue[batch:]


class _Run:
    """One descent: a model, its data on the device, its budget and its seed."""

    def __init__(
        self,
        model: Any,
        train: Split,
        val: Split,
        budget: Budget,
        schema: Schema,
        seed: int,
        device: torch.device | str,
    ) -> None:
        if not len(train) or not len(val):
            raise TrainingError(
                f"{_name(model)}: {len(train)} rows to learn from and {len(val)} to choose by."
            )
        self.model, self.rows, self.schema, self.seed, self.device = model, len(train), schema, seed, device
        self.budget: Budget = model.own_budget(budget) if hasattr(model, "own_budget") else budget
        self.feed = feed(train, device)
        self.val = on(val.head(max(LOOK_ROWS, self.budget.images // LOOK_COST)), device)
        self.curve: list[tuple[int, float]] = []
        if hasattr(model, "start"):
            model.start(self.feed.whole)
        groups, self.losses = objective(model)
        self.milestones = _milestones(model, self.budget.steps)
        self.descent = Descent(groups, self.losses, self.budget.learning_rate)
        self.best = _Best(model, getattr(model, "patience", None))
        self.since: list[Terms] = []  # the losses that nobody has looked at, on the device

    def descend(self, on_progress: Progress | None, keep: Checkpoints | None) -> History:
        """Take the steps of the budget, or fewer where patience ends."""
        steps = self.budget.steps
        looks = {math.ceil(steps * i / LOOKS) for i in range(1, LOOKS + 1)}
        self.model.train()
        step = done = self._resumed(keep, on_progress)
        generator = torch.Generator().manual_seed(stream(self.seed, "order"))
        rows = order(self.rows, self.budget.batch, generator, self.feed.device, after=done)
        for step, seen in enumerate(self.feed.batches(islice(rows, steps - done)), start=done + 1):
            self._step(step, seen)
            if step in looks:
                self._look(step)
                if self.best.exhausted([loss for _, loss in self.curve]):
                    break
            if keep and keep.due():
                keep.write(self._checkpoint(step))
            if on_progress and (step in looks or step % max(1, steps // 100) == 0):
                on_progress(step, steps)
        self.best.restore()
        settled = getattr(self.model, "settled", 0.0)
        converged = self.best.stopped or has_converged(self.curve, self.budget.images, settled)
        return History(tuple(self.curve), converged, step, step * self.budget.batch)

    def _step(self, step: int, seen: tuple[Tensor, Tensor]) -> None:
        for reached in self.milestones.get(step, ()):
            reached(self.feed.whole)
        self.since.append(self.descent.step(self._batch(*seen), _progress(step, self.budget.steps)))
        if hasattr(self.model, "after_step"):
            self.model.after_step()

    def _checkpoint(self, step: int) -> Checkpoint:
        self._check(step)
        return Checkpoint(
            step,
            tuple(self.curve),
            plain(self.model),
            weights=self.model.state_dict(),
            optimisers=self.descent.state(),
            random=random_state(self.device),
            best=self.best.weights or {},
        )

    def _resumed(self, keep: Checkpoints | None, on_progress: Progress | None) -> int:
        """Return the number of steps that lie behind, 0 without a checkpoint, and be where they led."""
        found = keep.last() if keep else None
        if keep is None or found is None:
            return 0
        try:
            self._restore(found)
        except (OSError, MemoryError, torch.OutOfMemoryError):  # of the moment: the checkpoint is good
            raise
        except Exception as error:  # whatever a milestone of the model says to weights that it never saw
            raise Misfit(f"{keep.path}: does not fit the model ({type(error).__name__}: {error})") from error
        keep.say(f"goes on after step {found.step} of {self.budget.steps}")
        if on_progress:
            on_progress(found.step, self.budget.steps)
        return found.step

    def _restore(self, found: Checkpoint) -> None:
        if not 0 < found.step <= self.budget.steps:
            raise ValueError(f"step {found.step} of {self.budget.steps}")
        for step in sorted(step for step in self.milestones if step <= found.step):
            for reached in self.milestones[step]:
                reached(self.feed.whole)
        self.model.load_state_dict(found.weights)
        set_plain(self.model, found.plain)
        self.descent.restore(found.optimisers)
        self.curve = list(found.curve)
        self.best.weights = {name: t.to(self.device, copy=True) for name, t in found.best.items()} or None
        set_random_state(found.random, self.device)

    def _batch(self, images: Tensor, labels: Tensor) -> Batch:
        return Batch(observe(self.schema, images), labels)

    def _check(self, step: int) -> None:
        """Look at the losses that nobody has looked at up to a step."""
        terms_of, self.since = self.since, []
        each = [term for terms in terms_of for term in terms.values()]
        if each and not torch.stack(each).isfinite().all():
            offset, terms = next((i, t) for i, t in enumerate(terms_of) if broken(t))
            raise TrainingError(
                f"{_name(self.model)}: the loss is not finite at step {step - len(terms_of) + 1 + offset} of "
                f"{self.budget.steps}: {told(terms)}."
            )

    def _look(self, step: int) -> None:
        """Check the losses since the last look, and add one point to the curve."""
        self._check(step)
        terms = self._validation_terms()
        if broken(terms):
            raise TrainingError(
                f"{_name(self.model)}: the validation loss is not finite after step {step}: {told(terms)}."
            )
        constraints = getattr(self.model, "constraints", ())
        counted = {name: term for name, term in terms.items() if name not in constraints}
        self.curve.append((step * self.budget.batch, float(total(counted))))

    @torch.no_grad()
    def _validation_terms(self) -> Terms:
        """Return the first loss, means over the same rows under the same noise at each look, in nats: [] each."""
        self.model.eval()
        means: dict[str, Tensor] = {}
        with noise(stream(self.seed, "look"), self.val.images.device):
            for start in range(0, len(self.val), self.budget.batch):
                end = start + self.budget.batch
                batch = self._batch(self.val.images[start:end], self.val.labels[start:end])
                for name, term in next(iter(self.losses(batch, 1.0).values())).items():
                    means[name] = means.get(name, 0) + term.double() * (len(batch.x) / len(self.val))
        self.model.train()
        return means


class _Best:
    """The weights of the best look, for a model that has patience; without patience it does nothing."""

    def __init__(self, model: Any, patience: int | None) -> None:
        self.model, self.patience, self.stopped = model, patience, False
        self.weights: dict[str, Tensor] | None = None

    def exhausted(self, losses: Sequence[float]) -> bool:
        """Return whether the last ``patience`` looks brought nothing; keep the weights of a look that did."""
        if self.patience is None:
            return False
        if losses[-1] <= min(losses):
            self.weights = {name: t.clone() for name, t in self.model.state_dict().items()}
        self.stopped = len(losses) - 1 - losses.index(min(losses)) >= self.patience
        return self.stopped

    def restore(self) -> None:
        """Give the model the kept weights back."""
        if self.weights is not None:
            self.model.load_state_dict(self.weights)


def _milestones(model: Any, steps: int) -> dict[int, list[Callable[[Split], None]]]:
    """Return what is called before which step: the first whose progress is not below the share."""
    found: dict[int, list[Callable[[Split], None]]] = {}
    for share, function in getattr(model, "milestones", dict)().items():
        step = next((s for s in range(1, steps + 1) if _progress(s, steps) >= share), None)
        if step is None:
            raise TrainingError(
                f"{_name(model)}: {steps} steps end before its milestone at {share:g} of them."
            )
        found.setdefault(step, []).append(function)
    return found


def _progress(step: int, steps: int) -> float:
    return (step - 0.5) / steps


def _name(model: object) -> str:
    return type(model).__name__
