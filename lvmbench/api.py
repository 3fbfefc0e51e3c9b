"""The nouns that every room shares, and the contracts that a plugin meets.

Axes, everywhere: B batch, N rows, K draws, D latent dimensions, A attributes, R bootstrap replicates;
[C, H, W] is one picture. K leads, as ``sample((k,))`` gives it. Nats, summed over the event, meant over rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from lvmbench.errors import NotApplicable, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor
    from torch.distributions import Distribution
    from torch.nn import Parameter

    from lvmbench.objectives import Weights

Kind = Literal["binary", "categorical", "ordinal"]
Pixels = Literal["bernoulli", "gaussian"]
SplitName = Literal["train", "val", "test"]
Better = Literal["higher", "lower", "neither"]
Status = Literal["done", "failed", "timeout", "skipped"]
Labels = Literal["given", "permuted", "identity"]  # against what codes are scored
Loss: TypeAlias = "Tensor | Mapping[str, Tensor]"  # in nats, [B] or []; named terms are summed


@dataclass(frozen=True)
class Attribute:
    """One thing people would name in a picture.

    ``classes`` names the label values 0, 1, ... in their order; an ordinal attribute without classes is a
    number in ``unit``. ``source`` says who decided the labels.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    unit: str = ""
    source: str = "exact"
    note: str = ""

    @property
    def is_number(self) -> bool:
        """Whether the label is a quantity rather than a class."""
        return self.kind == "ordinal" and not self.classes

    @property
    def n_classes(self) -> int:
        """The number of classes: 2 for a binary attribute, 0 for a number."""
        return 2 if self.kind == "binary" else len(self.classes)


@dataclass(frozen=True)
class Schema:
    """What is known of a data set before it is read: shape of a picture, family of its pixels, attributes.

    The family and measure of the pixels belong here, never to a model: otherwise no two likelihoods compare.
    ``bernoulli`` pixels are binarised anew for each look at them (a data set that wants a static binarisation
    gives 0 and 255); ``gaussian`` pixels are 8-bit values dequantised as (x + u) / 256. ``identities`` says
    whether it is known which pictures show the same person.
    """

    shape: tuple[int, int, int]
    pixels: Pixels
    attributes: tuple[Attribute, ...] = ()
    identities: bool = False

    @property
    def dims(self) -> int:
        """The number of pixel values in one picture."""
        return math.prod(self.shape)

    def index(self, attribute: str) -> int:
        """Return the column of an attribute in ``Split.labels``."""
        return [a.name for a in self.attributes].index(attribute)


@dataclass(frozen=True)
class Split:
    """One part of a data set, in memory or mapped from a file.

    ``images`` uint8 [N, C, H, W]; ``labels`` float32 [N, A], NaN where missing or undefined; ``rows`` int64 [N]
    stable row numbers; ``groups`` int64 [N] identities, where pictures of one person are known.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, limit: int | None) -> Split:
        """Return the first ``limit`` rows, all of them when it is None."""
        groups = None if self.groups is None else self.groups[:limit]
        return Split(self.images[:limit], self.labels[:limit], self.rows[:limit], groups)


@runtime_checkable
class Dataset(Protocol):
    """A data set: an object whose constructor's keyword arguments are its options.

    ``fingerprint`` changes whenever a row would. ``split`` gives at most ``limit`` rows, the same first rows
    whatever the limit. Building the object must be cheap: files are read in ``split``.
    """

    schema: Schema

    @property
    def fingerprint(self) -> str:
        """Name the content: equal for equal rows, different when any row differs."""
        ...

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return one part of the data."""
        ...


@runtime_checkable
class HasFactors(Protocol):
    """A data set that can draw pictures to order: what interventions are made with."""

    factor_names: tuple[str, ...]

    def sharing(self, factor: str, groups: int, each: int) -> Tensor:
        """Return pictures in groups that share one factor, all others independent: uint8 [G, each, C, H, W]."""
        ...


@dataclass(frozen=True)
class Budget:
    """What every model compared in one table may spend, and how finely it is scored."""

    name: str = "custom"
    images: int = 30_000  # images seen in training
    batch: int = 64
    learning_rate: float = 1e-3
    train: int = 20_000  # rows to learn from
    val: int = 1_000  # rows to choose by
    size: int | None = None  # side of the pictures, where the data set has a choice
    test: int = 2_000  # rows to report on
    draws: int = 64  # K of the importance-weighted bound
    density_rows: int = 500  # test rows whose density is estimated

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int | float) and value <= 0:
                raise UsageError(f"budget '{self.name}': {f.name} = {value} must be greater than 0.")

    @property
    def steps(self) -> int:
        """The number of optimiser steps."""
        return max(1, self.images // self.batch)

    def fit_part(self) -> dict[str, Any]:
        """Return what decides the weights, as opposed to how they are scored."""
        return {k: getattr(self, k) for k in ("images", "batch", "learning_rate", "train", "val")}

    def score_part(self) -> dict[str, Any]:
        """Return what decides how the weights are scored."""
        return {k: getattr(self, k) for k in ("test", "draws", "density_rows")}


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
        that the model ends with.
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


@dataclass(frozen=True)
class Estimate:
    """A number with what its uncertainty is computed from.

    ``rows`` [n]: the value is their mean, over the first n test rows. ``replicates`` [R]: the value under each
    bootstrap of ``Evaluation.weights``. With neither, the number has no interval over test rows. ``n`` is the
    number of rows that it rests on. ``note`` says in a few words what was chosen on the way (a view, a dimension).
    """

    value: float
    rows: Tensor | None = None
    replicates: Tensor | None = None
    n: int | None = None
    note: str = ""

    @classmethod
    def of_rows(cls, rows: Tensor) -> Estimate:
        """Return the mean over test rows: [n] -> a number."""
        return cls(float(rows.double().mean()), rows=rows, n=len(rows))


Value = float | Estimate | NotApplicable


@dataclass(frozen=True)
class Metric:
    """A pure function of an ``Evaluation``, and its card.

    It returns a number, or a number for each attribute. Its keyword arguments are its options. ``needs`` names
    capabilities of the model, or what stands beside it (``BESIDE``): a metric that reads labels says so, and is
    measured on permuted labels too. Without them it is ``n/a``. Raise or return ``NotApplicable`` with a reason
    where a number does not exist. A ``headline`` metric says, attribute by attribute, how well z holds it: the
    attribute table shows these. What a run prints are its ``main`` metrics; a table of a ``family`` is shown when
    asked for, with all of its metrics.
    """

    compute: Callable[..., Value | Mapping[str, Value]]
    better: Better
    unit: str = ""
    needs: tuple[str, ...] = ()
    bounds: tuple[float | None, float | None] = (None, None)
    chance: float | None = None  # what a code without information scores
    paper: str = ""
    version: int = 1
    headline: bool = False
    family: str = ""
    main: bool = True


def metric(
    *,
    better: Better,
    unit: str = "",
    needs: tuple[str, ...] = (),
    bounds: tuple[float | None, float | None] = (None, None),
    chance: float | None = None,
    paper: str = "",
    version: int = 1,
    headline: bool = False,
    family: str = "",
    main: bool = True,
) -> Callable[[Callable[..., Value | Mapping[str, Value]]], Metric]:
    """Return a decorator that gives a function its card and makes it a ``Metric``."""
    return lambda compute: Metric(
        compute, better, unit, needs, bounds, chance, paper, version, headline, family, main
    )


@dataclass(frozen=True)
class Section:
    """One part of the page that explains a fit.

    ``text`` is Markdown that shows its pictures as ``![what it shows](name.png)``; ``images`` holds them by these
    names. What cannot be shown of a model raises ``NotApplicable``: the page gives the reason under the summary of
    its ``Entry``.
    """

    title: str
    text: str
    images: Mapping[str, Image] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One number of a record, or why it does not exist.

    ``low`` and ``high`` bound the middle 95 % of the bootstrap over test rows; None where there is none.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    metric: str
    version: int
    status: Literal["done", "n/a", "failed"]
    key: str
    options: Mapping[str, Any] = field(default_factory=dict)
    attribute: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    reason: str = ""
    note: str = ""


@dataclass(frozen=True)
class Record:
    """What one cell produced, or why it did not: one immutable file.

    ``cell`` holds what was asked, with all options resolved; ``seconds`` and ``peak_mib`` are by phase.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    fit_key: str
    cell: Mapping[str, Any]
    status: Status
    reason: str = ""
    scores: tuple[Score, ...] = ()
    converged: bool | None = None
    parameters: int | None = None
    code_dims: int | None = None
    latents: int | None = (
        None  # the variables that a code consists of, where they are fewer than its dimensions
    )
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mib: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    hardware: Mapping[str, str] = field(default_factory=dict)
    commit: str = ""
    started: str = ""


@dataclass(frozen=True)
class Entry:
    """What a plugin registers under a name: the thing itself, or lazily ``"module:attribute"``.

    ``role`` says how a model enters a table: ``floor`` and ``ceiling`` models are the controls that a run adds
    by itself; a ``control`` is one more of them, no bracket. A metric ``on_request`` is no part of a run that names
    no metrics: it costs too much. Such a run takes the others with their default options, and once more with
    each of the options in ``also``. ``summary`` is one line for ``lvmbench list``, and the heading of an explanation
    that cannot be given.
    """

    target: Any
    summary: str = ""
    role: Literal["model", "floor", "control", "ceiling"] = "model"
    taken: Literal["by default", "in full", "by name"] = "by default"
    also: tuple[Mapping[str, Any], ...] = ()
