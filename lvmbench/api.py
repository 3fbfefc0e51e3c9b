"""The nouns that every room shares: budgets, metrics and their estimates, records, what a plugin registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from lvmbench.errors import NotApplicable, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Better = Literal["higher", "lower", "neither"]
Status = Literal["done", "failed", "timeout", "skipped"]


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

    ``cell`` holds what was asked, with all options resolved; ``seconds`` and ``peak_mib`` are by phase. ``findings``
    counts what was wrong with the files of the data, as far as the cell read them. ``way`` tells how the steps of
    training were taken, where it was not one by one on a processor.
    """

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    fit_key: str
    cell: Mapping[str, Any]
    status: Status
    reason: str = ""
    scores: tuple[Score, ...] = ()
    converged: bool | None = None
    way: str = ""
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
    findings: Mapping[str, int] = field(default_factory=dict)


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
