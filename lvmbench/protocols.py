"""What a model may offer: each protocol decides what can be measured; none is mandatory, nothing is inherited."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from lvmbench.api import Budget
from lvmbench.data import Split

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributions import Distribution
    from torch.nn import Parameter

    from lvmbench.objectives import Weights

Loss: TypeAlias = "Tensor | Mapping[str, Tensor]"  # in nats, [B] or []; named terms are summed


@dataclass(frozen=True)
class Batch:
    """What a training step sees: ``x`` float [B, C, H, W] as the schema observes it, ``labels`` [B, A]."""

    x: Tensor
    labels: Tensor


@runtime_checkable
class HasCodes(Protocol):
    """Gives codes; ``views() -> {name: function of x}`` may name further ones.

    Where a variable of the code takes several of its dimensions, ``latents`` is the number of variables.
    """

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean: [B, C, H, W] -> [B, D]."""
        ...


@runtime_checkable
class HasRowCodes(Protocol):
    """Gives codes of rows rather than of pictures: a control that is told labels."""

    def encode_rows(self, split: Split) -> Tensor:
        """Return the codes of a split: [N] rows -> [N, D]."""
        ...


@runtime_checkable
class HasDecoder(Protocol):
    """Gives reconstruction, traversals, generation."""

    def decode(self, z: Tensor) -> Distribution:
        """Return p(x|z) as the schema's family: [..., D] -> batch [...], event [C, H, W]."""
        ...


@runtime_checkable
class HasDensity(Protocol):
    """Gives the rate; with a decoder, the bound."""

    def prior(self) -> Distribution:
        """Return p(z): batch [], event [D]."""
        ...

    def posterior(self, x: Tensor) -> Distribution:
        """Return q(z|x): batch [B], event [D]."""
        ...


@runtime_checkable
class HasWeigher(Protocol):
    """Written by models whose latent is richer than one z: the terms of their log weights."""

    def weigher(self, x: Tensor) -> Callable[[int], Weights]:
        """Return a function from k to the terms of k draws, for which x is encoded once: k -> [K, B] each."""
        ...


@runtime_checkable
class HasLogWeights(Protocol):
    """Written by models that know their log weights only as a whole; others have them for free."""

    def log_weights(self, x: Tensor, k: int) -> Tensor:
        """Return log p(x, z) - log q(z|x) of k draws, in nats: [B, C, H, W] -> [K, B]."""
        ...


@runtime_checkable
class HasLogProb(Protocol):
    """Gives p(x) exactly."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats: [B, C, H, W] -> [B]."""
        ...


@runtime_checkable
class HasLoss(Protocol):
    """Is fitted by gradients: the engine trains it."""

    def loss(self, x: Tensor) -> Loss:
        """Return what is to be minimised, in nats: [B, C, H, W] -> [B], or a scalar that couples the batch.

        Given as named terms, their sum is minimised, and a fit that breaks tells which of them did. A ``loss``
        with a parameter ``progress`` hears of it, from 0 to 1 over the steps: 1, its default, is the loss
        that the model ends with. In steps that a GPU repeats it is a tensor, [].
        """
        ...


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with an optimiser of their own: the share of the learning rate that it has, and Adam's betas."""

    parameters: Iterable[Parameter]
    rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)


@runtime_checkable
class HasLosses(Protocol):
    """The same in general: each loss reaches its own parameter group only.

    The first group's loss, on validation data, is the learning curve.
    """

    def parameter_groups(self) -> Mapping[str, Iterable[Parameter] | ParameterGroup]:
        """Return disjoint groups of parameters by name."""
        ...

    def losses(self, batch: Batch, progress: float) -> Mapping[str, Loss]:
        """Return a loss for each group, as ``loss`` gives it; ``progress`` runs from 0 to 1 over the steps."""
        ...


@runtime_checkable
class FitsItself(Protocol):
    """Closed forms, scikit-learn models, other people's libraries."""

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn from the training split, reproducibly by the seed."""
        ...


@runtime_checkable
class HasAnswers(Protocol):
    """Was told the labels: names what it sees. A ceiling with answers judges what other models draw."""

    def answers(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return each attribute's log-probabilities, [B, C], or its value where it is a number, [B]."""
        ...


CAPABILITIES: Mapping[str, type] = {
    "codes": HasCodes,
    "row_codes": HasRowCodes,
    "decoder": HasDecoder,
    "density": HasDensity,
    "weigher": HasWeigher,
    "log_weights": HasLogWeights,
    "log_prob": HasLogProb,
    "loss": HasLoss,
    "losses": HasLosses,
    "fit": FitsItself,
    "answers": HasAnswers,
}
# what an evaluation may hold beside the model, and what is to be said where it does not
BESIDE: Mapping[str, str] = {
    "labels": "the data set has no attributes",
    "generator": "the data set cannot draw pictures that share a factor",
    "judge": "no network that saw the labels can judge pictures: the run has no ceiling",
}


def capabilities(model: object) -> frozenset[str]:
    """Return what a model, or its class, offers: names of ``CAPABILITIES``."""
    has = {
        name
        for name, protocol in CAPABILITIES.items()
        if all(hasattr(model, member) for member in _members(protocol))
    }
    if {"decoder", "density"} <= has or "weigher" in has:
        has.add("log_weights")
    if "row_codes" in has:
        has.add("codes")
    return frozenset(has)


def _members(protocol: type) -> list[str]:
    return [name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")]
