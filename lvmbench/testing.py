"""The kit for plugin authors: what the bench will ask of a model, a metric or a data set, asked now.

    from lvmbench.testing import check_model

    def test_my_model_meets_the_contract():
        check_model(MyModel)

A check runs all it can and raises one ``ContractError`` with everything that is wrong.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lvmbench.api import Budget, Estimate, Metric, Section
from lvmbench.bodies import WORTH, bodies
from lvmbench.checkpoints import Checkpoint, Checkpoints
from lvmbench.data import Attribute, Dataset, Schema, Split, SplitName
from lvmbench.errors import LvmbenchError, NotApplicable
from lvmbench.evaluation import Evaluation
from lvmbench.explanation import check_section
from lvmbench.fits import SPLITS
from lvmbench.objectives import log_weights
from lvmbench.options import resolve
from lvmbench.pixels import observe
from lvmbench.protocols import BESIDE, CAPABILITIES, Batch, HasCodes, capabilities
from lvmbench.randomness import noise
from lvmbench.training import build, fit

ATTRIBUTES = (
    Attribute("Bright", "binary"),
    Attribute("quarter", "categorical", ("a", "b", "c", "d")),
    Attribute("level", "ordinal", unit="grey levels"),
)
SCHEMAS = (Schema((1, 28, 28), "bernoulli", ATTRIBUTES), Schema((3, 32, 32), "gaussian", ATTRIBUTES))
BUDGET = Budget("check", images=96, batch=32, train=128, val=32, test=64, draws=4, density_rows=16)


class ContractError(AssertionError):
    """Everything that a plugin's thing does against its contract, a sentence each."""


class ToyData:
    """Bars of light on noise: a data set of a few rows, labels known exactly; some are missing."""

    def __init__(self, schema: Schema = SCHEMAS[0]) -> None:
        self.schema = schema

    @property
    def fingerprint(self) -> str:
        """Return the name of the content."""
        return f"toy {self.schema.shape}"

    def split(self, name: SplitName, limit: int | None = None) -> Split:
        """Return one part of the data."""
        n = getattr(BUDGET, name)
        generator = torch.Generator().manual_seed(SPLITS.index(name))
        quarter = torch.arange(n) % 4
        level = torch.randint(60, 200, (n,), generator=generator)
        images = torch.randint(0, 40, (n, *self.schema.shape), generator=generator)
        rows = torch.arange(self.schema.shape[1])
        lit = rows[None] // math.ceil(len(rows) / 4) == quarter[:, None]
        images = (images + lit[:, None, :, None] * level[:, None, None, None]).clamp(max=255).to(torch.uint8)
        labels = torch.stack([(level > 130).float(), quarter.float(), level.float()], dim=1)
        labels[::11] = math.nan
        return Split(images, labels, torch.arange(n) + 10_000 * SPLITS.index(name)).head(limit)


def check_model(model: type[Any], **options: Any) -> None:
    """Check a model class against its contract on two tiny data sets.

    Raises:
        ContractError: with every sentence that does not hold.
    """
    _raise(model, [f"on {s.pixels} {s.shape}: {told}" for s in SCHEMAS for told in _model(model, s, options)])


def _model(kind: type[Any], schema: Schema, options: Mapping[str, Any]) -> Iterator[str]:
    data = ToyData(schema)
    before = torch.get_rng_state()
    try:
        full = resolve(kind.__name__, kind, options)
        other = build(kind, schema, full, seed=1)
        if told := _unusable(capabilities(other)):
            yield told
            return
        first, second = (_fitted(kind, data, full) for _ in range(2))
        parted = second if "fit" in capabilities(first) else _in_parts(kind, data, full)
    except NotApplicable:
        return
    except Exception as error:
        yield f"it cannot be built and fitted: {type(error).__name__}: {error}"
        return
    yield from _rounded(kind, data, full) if bodies(first) else ()
    if not torch.equal(before, torch.get_rng_state()):
        yield "building or fitting it moves torch's global random state"
    if told := _apart(first, second):
        yield f"the same seed gives different weights ({told}): use torch's random functions only"
    elif told := _apart(first, parted):
        yield (
            f"a fit that is killed, and goes on from its checkpoint, comes to other weights ({told}): what it "
            "remembers from step to step belongs into its state_dict"
        )
    x = observe(schema, data.split("test").images[:8], torch.Generator().manual_seed(0))
    for check in (_learns, _encodes, _decodes, _has_density, lambda m, _, x: _round_trips(m, other, x)):
        yield from _told(check, first, schema, x)


def _unusable(has: frozenset[str]) -> str:
    if not has:
        return f"it offers none of {', '.join(CAPABILITIES)}: nothing can be measured"
    if not {"loss", "losses", "fit"} & has:
        return (
            "it has no loss, no losses and no fit: it cannot learn (a model that need not gives an empty fit)"
        )
    return ""


def _told(
    check: Callable[[Any, Schema, Tensor], Iterator[str]], model: Any, schema: Schema, x: Tensor
) -> list[str]:
    try:
        with torch.no_grad(), noise(0):
            return list(check(model, schema, x))
    except NotApplicable:
        return []
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]


class _KilledError(BaseException):
    """A fit that ends where it stands."""


class _Memory(Checkpoints):
    """Keeps what a fit is after its second step, and ends it there: the next goes on from it."""

    def __init__(self) -> None:
        super().__init__(Path("memory"), {})
        self.found: Checkpoint | None = None
        self.steps = 0

    def due(self) -> bool:
        self.steps += 1
        return self.steps == 2

    def write(self, found: Checkpoint) -> None:
        self.found = deepcopy(found)
        raise _KilledError

    def last(self) -> Checkpoint | None:
        return self.found

    def say(self, what: str) -> None:
        pass


def _fitted(
    kind: type[Any], data: ToyData, options: Mapping[str, Any], budget: Budget = BUDGET, **how: Any
) -> Any:
    model = build(kind, data.schema, options, seed=0)
    fit(model, data.split("train"), data.split("val"), budget, data.schema, seed=0, **how)
    return model


def _rounded(kind: type[Any], data: ToyData, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what goes wrong where its networks compute in bfloat16, as a run has them do by itself."""
    try:
        _fitted(kind, data, options, replace(BUDGET, images=4 * WORTH, batch=2 * WORTH), precision="bfloat16")
    except Exception as error:
        yield (
            f"its networks cannot be trained in bfloat16, which runs choose where a processor multiplies it "
            f"({type(error).__name__}: {error}): what a layer makes may be of another type than what it is given"
        )


def _in_parts(kind: type[Any], data: ToyData, options: Mapping[str, Any]) -> Any:
    keep = _Memory()
    with contextlib.suppress(_KilledError):
        _fitted(kind, data, options, keep=keep)
    return _fitted(kind, data, options, keep=keep)


def _apart(first: Any, second: Any) -> str:
    """Return the first names under which the weights of two models differ."""
    a, b = (model.state_dict() if hasattr(model, "state_dict") else {} for model in (first, second))
    return ", ".join([key for key in a if not torch.equal(a[key], b[key])][:3])


def _learns(model: Any, schema: Schema, x: Tensor) -> Iterator[str]:
    has = capabilities(model)
    if "losses" in has:
        losses = model.losses(Batch(x, x.new_zeros(len(x), len(schema.attributes))), 1.0)
    else:
        losses = {"loss": model.loss(x)} if "loss" in has else {}
    for name, loss in losses.items():
        terms = loss if isinstance(loss, Mapping) else {"": loss}
        for term, value in terms.items():
            called = f"{name} '{term}'" if term else name
            if value.shape not in (torch.Size([len(x)]), torch.Size([])):
                yield f"{called} has shape {list(value.shape)} for a batch of {len(x)}: want [{len(x)}], or a scalar"
            if not value.isfinite().all():
                yield f"{called} is not finite"


def _encodes(model: Any, schema: Schema, x: Tensor) -> Iterator[str]:
    if not isinstance(model, HasCodes):
        return
    codes, again, alone = model.encode(x), model.encode(x), model.encode(x[:1])
    if codes.ndim != 2 or len(codes) != len(x):
        yield f"encode gives {list(codes.shape)} for a batch of {len(x)}: want [{len(x)}, D]"
        return
    if not codes.isfinite().all():
        yield "encode is not finite"
    if not torch.equal(codes, again):
        yield "encode gives another code on each call: it is the posterior mean, a sample is a view of its own"
    elif not torch.allclose(codes[:1], alone, atol=1e-4):
        yield "the code of a picture depends on the others in its batch"


def _decodes(model: Any, schema: Schema, x: Tensor) -> Iterator[str]:
    if not {"codes", "decoder"} <= capabilities(model):
        return
    p = model.decode(model.encode(x))
    if tuple(p.event_shape) != schema.shape or tuple(p.batch_shape) != (len(x),):
        found = f"batch {list(p.batch_shape)}, event {list(p.event_shape)}"
        yield f"decode gives {found}: want [{len(x)}], {list(schema.shape)}"
    elif not p.log_prob(x).isfinite().all():
        yield "the likelihood of a picture is not finite"


def _has_density(model: Any, schema: Schema, x: Tensor) -> Iterator[str]:
    if "log_weights" in capabilities(model):
        log_w = log_weights(model, x, 3)
        if tuple(log_w.shape) != (3, len(x)):
            yield f"three log weights of {len(x)} pictures have shape {list(log_w.shape)}: want [3, {len(x)}]"
        elif not log_w.isfinite().all():
            yield "a log weight is not finite"
    if "log_prob" in capabilities(model):
        exact = model.log_prob(x)
        if tuple(exact.shape) != (len(x),) or not exact.isfinite().all():
            yield f"log_prob gives {list(exact.shape)}, or is not finite: want [{len(x)}] in nats"


def _round_trips(model: Any, other: Any, x: Tensor) -> Iterator[str]:
    if not (hasattr(model, "state_dict") and hasattr(model, "encode")):
        return
    other.load_state_dict(model.state_dict())
    if isinstance(other, torch.nn.Module):
        other.eval()
    if not torch.equal(model.encode(x), other.encode(x)):
        yield "a model with the same state_dict gives other codes: something learned is not in state_dict"


def check_metric(metric: Metric, model: Any = None, **options: Any) -> None:
    """Check a metric against its contract, on a model of your own or on one that encodes the mean of each row.

    Raises:
        ContractError: with every sentence that does not hold.
    """
    _raise(metric.compute, list(_metric(metric, model or RowMeans(), options)))


class RowMeans:
    """A model of four lines: the code of a picture is the mean of each of its rows."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean of each row of pixels: [B, C, H, W] -> [B, H]."""
        return x.mean(dim=(1, 3))

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn nothing."""


def _metric(metric: Metric, model: Any, options: Mapping[str, Any]) -> Iterator[str]:
    known = {**CAPABILITIES, **BESIDE}
    unknown = [need for need in metric.needs if need not in known]
    if unknown:
        yield f"it needs {', '.join(unknown)}: no such capability; known: {', '.join(known)}"
    if metric.better not in ("higher", "lower", "neither"):
        yield f"better = {metric.better!r}: want 'higher', 'lower' or 'neither'"
    data = ToyData()
    if set(metric.needs) - capabilities(model) - {"labels"}:
        return
    splits = {name: data.split(name) for name in SPLITS}
    try:
        full = resolve("the metric", metric.compute, options)
        first, second = (_take(metric, model, data, splits, full) for _ in range(2))
    except NotApplicable:
        return
    except Exception as error:
        yield f"it raises {type(error).__name__}: {error} (raise NotApplicable where a number does not exist)"
        return
    faults = [told for attribute, value in first.items() for told in _value(metric, attribute, value)]
    yield from faults
    if not faults and any(_number(first[name]) != _number(second.get(name)) for name in first):
        yield "it gives another number on each call: draw from ev.generator(name) or inside ev.shared"


def _take(
    metric: Metric, model: Any, data: Dataset, splits: Mapping[SplitName, Split], options: Mapping[str, Any]
) -> Any:
    ev = Evaluation(model, data.schema, splits, BUDGET)
    found = ev.shared(metric.compute, **options)
    return found if isinstance(found, Mapping) else {None: found}


def _value(metric: Metric, attribute: str | None, value: Any) -> Iterator[str]:
    where = f"for {attribute}" if attribute else "overall"
    if isinstance(value, NotApplicable):
        return
    if not isinstance(value, float | int | Estimate):
        yield f"{where} it gives {type(value).__name__}: want a number, an Estimate or NotApplicable"
        return
    number = _number(value)
    if number is None or not math.isfinite(number):
        yield f"{where} it gives {number}: want a finite number, or NotApplicable with a reason"
        return
    low, high = metric.bounds
    if (low is not None and number < low - 1e-6) or (high is not None and number > high + 1e-6):
        yield f"{where} it gives {number}, outside its bounds {metric.bounds}"


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, NotApplicable):
        return None
    return float(value.value if isinstance(value, Estimate) else value)


def check_explanation(explanation: Callable[[Evaluation], Section], model: Any = None) -> None:
    """Check an explanation against its contract, on a model of your own or on one that encodes the mean of each row.

    Raises:
        ContractError: with every sentence that does not hold.
    """
    _raise(explanation, list(_explanation(explanation, model or RowMeans())))


def _explanation(explanation: Callable[[Evaluation], Section], model: Any) -> Iterator[str]:
    data = ToyData()
    splits = {name: data.split(name) for name in SPLITS}
    try:
        first, second = (Evaluation(model, data.schema, splits, BUDGET).shared(explanation) for _ in range(2))
        if not isinstance(first, Section):
            yield f"it gives {type(first).__name__}: want a Section"
            return
        check_section(first)
    except NotApplicable:
        return
    except Exception as error:
        yield f"it raises {type(error).__name__}: {error} (raise NotApplicable where there is nothing to show)"
        return
    if first.text != second.text:
        yield "it gives another text on each call: draw from ev.generator(name), or from torch's random functions"


def check_dataset(dataset: Callable[..., Dataset], limit: int = 16, **options: Any) -> None:
    """Check a data set against its contract, on ``limit`` rows of each split.

    Raises:
        ContractError: with every sentence that does not hold.
    """
    try:
        full = resolve(getattr(dataset, "__name__", "it"), dataset, options)
        made, again = dataset(**full), dataset(**full)
    except LvmbenchError as error:
        raise ContractError(f"it cannot be made: {error}") from error
    told = [] if made.fingerprint == again.fingerprint else ["its fingerprint changes from object to object"]
    seen: dict[int, str] = {}
    for name in SPLITS:
        split = made.split(name, limit)
        told += [f"{name}: {problem}" for problem in _split(split, made.schema, limit)]
        few = made.split(name, limit // 2)
        if not torch.equal(few.images, split.images[: len(few)]) or len(few) != min(limit // 2, len(split)):
            told.append(f"{name}: the first rows depend on the limit")
        for row in split.rows.tolist():
            if seen.setdefault(row, name) != name:
                told.append(f"row {row} stands in {seen[row]} and in {name}")
    _raise(dataset, told)


def _split(split: Split, schema: Schema, limit: int) -> Iterator[str]:
    n = len(split)
    if not 0 < n <= limit:
        yield f"{n} rows for a limit of {limit}"
    if split.images.dtype != torch.uint8 or tuple(split.images.shape) != (n, *schema.shape):
        found = f"{split.images.dtype} {list(split.images.shape)}"
        yield f"images are {found}: want torch.uint8 {[n, *schema.shape]}"
    if split.labels.dtype != torch.float32 or tuple(split.labels.shape) != (n, len(schema.attributes)):
        found = f"{split.labels.dtype} {list(split.labels.shape)}"
        yield f"labels are {found}: want torch.float32 {[n, len(schema.attributes)]}"
        return
    if split.rows.dtype != torch.int64 or len(set(split.rows.tolist())) != n:
        yield "rows are not distinct int64 numbers"
    for attribute, column in zip(schema.attributes, split.labels.T, strict=True):
        known = column[~column.isnan()]
        if not attribute.is_number and not set(known.tolist()) <= set(range(attribute.n_classes)):
            values = sorted(set(known.tolist()))[:5]
            yield f"labels of {attribute.name} are {values}: want 0 to {attribute.n_classes - 1}, or NaN"


def _raise(thing: Any, told: list[str]) -> None:
    if told:
        name = getattr(thing, "__name__", str(thing))
        raise ContractError(
            "\n".join([f"{name} does not meet its contract:", *(f"- {line}" for line in told)])
        )
