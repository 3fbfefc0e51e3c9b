"""What is minimised, by its terms, and one step down: each loss reaches its own group of parameters only."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lvmbench.adam import Adam
from lvmbench.errors import TrainingError
from lvmbench.protocols import Batch, HasLoss, HasLosses, Loss, ParameterGroup

WARM_UP = 0.03  # of the steps, until the learning rate is whole
DECAY, MOST_DECAY = 0.2, 0.5  # of the steps, in which it goes to nothing: of a short run, and of the longest
GROWTH = 0.25  # of the steps more, for each factor of ten beyond
LONG = 10_000  # steps

Terms = Mapping[str, Tensor]  # each a mean over the batch: [], or [M] for members of a cohort
Share = float | Tensor  # from 0 to 1
Losses = Callable[[Batch, Any], Mapping[str, Terms]]  # of a batch and the progress, a Share


def decay(steps: int) -> float:
    """Return the share of a run of so many steps in which the learning rate goes to nothing.

    A VAE of MNIST is as good with a half as with a fifth after 31,000 steps, and better by 0.13 nats of -log p(x) on
    validation data after 156,000; after 600 steps of the faces a fifth is better by 30 nats.
    """
    return min(MOST_DECAY, DECAY + GROWTH * max(0.0, math.log10(steps / LONG)))


def often(steps: int) -> int:
    """Return how many times as many looks at the validation data as a short run a run of so many steps has.

    Convergence is judged by those before the decay, which in a long run are a smaller share.
    """
    return 3 if steps > LONG else 1


def learning_rate(progress: float, steps: int) -> float:
    """Return the share of the learning rate at a share of a run: warm-up, constant, linear decay to 0."""
    return min(1.0, progress / WARM_UP, (1 - progress) / decay(steps))


class Descent:
    """One optimiser for each group of parameters; each loss reaches its own group only."""

    def __init__(self, groups: Mapping[str, ParameterGroup], losses: Losses, rate: float) -> None:
        self.groups, self.losses, self.rate = groups, losses, rate
        self.optimisers = {name: Adam(group.parameters, group.betas) for name, group in groups.items()}

    def step(self, batch: Batch, progress: Share, rate: Share) -> Terms:
        """Take one step of every optimiser whose loss there is; return the terms of all losses: [] each, or [M].

        ``rate`` is the share of the learning rate; in a graph of a device both shares are tensors, [].
        """
        losses = self.losses(batch, progress)
        # all gradients before the first step: a step changes the weights
        gradients = {
            name: torch.autograd.grad(
                total(terms),
                self.optimisers[name].parameters,
                retain_graph=len(losses) > 1,
                allow_unused=True,
            )
            for name, terms in losses.items()
        }
        for name, slopes in gradients.items():
            self.optimisers[name].step(slopes, self.rate * self.groups[name].rate * rate)
        return {name: term.detach() for terms in losses.values() for name, term in terms.items()}

    def state(self) -> dict[str, Tensor]:
        """Return what the optimisers remember, by group, place of the parameter and name: the tensors themselves."""
        return {
            f"{name}/{key}": value
            for name, optimiser in self.optimisers.items()
            for key, value in optimiser.state().items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Give the optimisers back what they remembered.

        Raises:
            ValueError: if it is not of these parameters.
        """
        own = self.state()
        shapes = ({name: moment.shape for name, moment in of.items()} for of in (own, state))
        if len({tuple(sorted(of.items())) for of in shapes}) > 1:
            raise ValueError("its moments are not those of parameters of these names and shapes")
        for name, moment in own.items():
            moment.copy_(state[name])


def objective(model: Any) -> tuple[Mapping[str, ParameterGroup], Losses]:
    """Return the parameter groups of a model and its losses, each by its terms; a model with one loss has one group.

    Raises:
        TrainingError: if the model has neither ``losses`` nor ``loss``.
    """
    if isinstance(model, HasLosses):
        groups = {name: _group(given) for name, given in model.parameter_groups().items()}
        return groups, lambda batch, progress: {
            name: _terms(name, loss) for name, loss in model.losses(batch, progress).items()
        }
    if not isinstance(model, HasLoss):
        raise TrainingError(
            f"{type(model).__name__} offers none of fit, losses and loss: nothing can train it."
        )
    hears = "progress" in inspect.signature(model.loss).parameters

    def losses(batch: Batch, progress: float) -> Mapping[str, Terms]:
        heard = {"progress": progress} if hears else {}
        return {"loss": _terms("loss", model.loss(batch.x, **heard))}

    return {"loss": _group(model.parameters())}, losses  # type: ignore[attr-defined]


def _group(given: Any) -> ParameterGroup:
    group = given if isinstance(given, ParameterGroup) else ParameterGroup(given)
    return replace(group, parameters=[p for p in group.parameters if p.requires_grad])


def _terms(name: str, loss: Loss) -> Terms:
    if not isinstance(loss, Mapping):
        return {name: loss.mean()}
    return {term if name == "loss" else f"{name}: {term}": value.mean() for term, value in loss.items()}


def total(terms: Terms) -> Tensor:
    """Return the sum of the terms: []."""
    return torch.stack(list(terms.values())).sum()


def broken(terms: Terms) -> dict[str, float]:
    """Return the terms that are not finite, by name."""
    return {name: float(term) for name, term in terms.items() if not term.isfinite()}


def told(terms: Terms) -> str:
    """Return which terms are not finite, and whether the weights must have been broken before."""
    found = broken(terms)
    listed = ", ".join(f"{name} is {value}" for name, value in found.items())
    whole = len(terms) > 1 and len(found) == len(terms)
    return listed + (", every term of it: the step before broke the weights" if whole else "")


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Count numbers too small for a whole mantissa as 0 inside a with-block: some processors are slow at them.

    Dead pixels leave them in the optimiser's averages.
    """
    already = not torch.tensor(torch.finfo().tiny).div(2)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(already)
