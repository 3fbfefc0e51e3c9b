"""From records to figures: seeds combined, attributes averaged, models compared in pairs. Derived, never stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from lvmbench.api import Record, Score
from lvmbench.records import Stored
from lvmbench.statistics import across_seeds, paired_difference

Attributes = tuple[str | None, ...]


@dataclass(frozen=True)
class Figure:
    """A number of a table with its 95 % interval, or why there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    n: int | None = None
    reason: str = ""
    failed: bool = False
    p: float | None = None  # of its being 0, where it is a difference

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 is not in it."""
        return self.low is not None and self.high is not None and self.low * self.high > 0


@dataclass(frozen=True)
class Sample:
    """What one row says of one metric: a value a seed, and their bootstrap where every seed has one."""

    seeds: tuple[int, ...]
    values: Tensor  # [S]
    replicates: Tensor | None  # [S, R]
    seedless: bool = False

    def over(self, seeds: tuple[int, ...]) -> Sample:
        """Return the sample for these seeds, where the first seed says what all would."""
        if not self.seedless:
            return self
        boots = None if self.replicates is None else self.replicates[:1].expand(len(seeds), -1)
        return Sample(seeds, self.values[:1].expand(len(seeds)), boots, True)


def matched(*samples: Sample) -> list[Sample]:
    """Return samples over the same seeds as far as that can be: those of seedless models as often as others."""
    longest = max(samples, key=lambda s: (not s.seedless, len(s.seeds)))
    return [sample.over(longest.seeds) for sample in samples]


def figure_of(sample: Sample, n: int | None = None) -> Figure:
    """Return the mean over seeds with its interval over seeds and test rows."""
    interval = across_seeds(sample.values, sample.replicates)
    return Figure(interval.value, interval.low, interval.high, len(sample.seeds), n)


class Fit:
    """All records of one fit, the newest score of each kind."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self.record: Record = stored[-1].record
        self.seed = int(self.record.cell["seed"])
        self.done = [s for s in stored if s.record.status == "done"]
        self.scores: dict[tuple[str, str | None], tuple[Score, Stored]] = {}
        for one in self.done:
            self.scores |= {(s.metric, s.attribute): (s, one) for s in one.record.scores}

    @property
    def facts(self) -> Record:
        """Return the record that tells what the fit cost: the first that finished."""
        return self.done[0].record if self.done else self.record

    def score(self, metric: str, attribute: str | None) -> Score | None:
        """Return the newest score of a metric for an attribute."""
        found = self.scores.get((metric, attribute)) or self.scores.get((metric, None))
        return found[0] if found else None

    def values(self, metric: str, attributes: Attributes) -> tuple[float, Tensor | None] | None:
        """Return the mean over attributes and its replicates [R]; None unless every attribute has its value."""
        found = [self.scores.get((metric, a)) for a in attributes]
        if not found or any(f is None or f[0].value is None for f in found):
            return None
        values = [f[0].value for f in found if f and f[0].value is not None]
        boots = [
            _boots(f[1].replicates).get(f"{metric}/{a or ''}")
            for f, a in zip(found, attributes, strict=True)
            if f
        ]
        whole = [b for b in boots if b is not None]
        return sum(values) / len(values), torch.stack(whole).mean(0) if len(whole) == len(boots) else None


@lru_cache(maxsize=256)
def _boots(path: Path) -> Mapping[str, Tensor]:
    """Return the replicates beside a record; none where they are lost or damaged: the values still stand."""
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError, ValueError):
        return {}


@dataclass(frozen=True)
class Row:
    """One model with its options: a fit a seed."""

    label: str
    role: str
    fits: tuple[Fit, ...]
    cache: dict[Any, Sample | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> int | None:
        """The number of variables in the code: its dimensions, unless a variable takes several of them."""
        known = (f.facts.latents or f.facts.code_dims for f in self.fits if f.facts.code_dims)
        asked = self.fits[0].record.cell.get("model_options", {}).get("latent_dim")  # of a fit that failed
        return next(known, asked)

    @property
    def labels(self) -> str:
        """Against which labels the row was scored."""
        return str(self.fits[0].record.cell.get("labels", "given"))

    def sample(self, metric: str, attributes: Attributes) -> Sample | None:
        """Return the values of a metric, a seed each."""
        if (metric, attributes) not in self.cache:
            self.cache[metric, attributes] = self._sample(metric, attributes)
        return self.cache[metric, attributes]

    def _sample(self, metric: str, attributes: Attributes) -> Sample | None:
        found = [(fit.seed, got) for fit in self.fits if (got := fit.values(metric, attributes)) is not None]
        if not found:
            return None
        boots = [boot for _, (_, boot) in found if boot is not None]
        return Sample(
            tuple(seed for seed, _ in found),
            torch.tensor([value for _, (value, _) in found], dtype=torch.float64),
            torch.stack(boots).double() if len(boots) == len(found) else None,
            bool(self.fits[0].record.cell.get("seedless")),
        )

    def figure(self, metric: str, attributes: Attributes) -> Figure:
        """Return the mean over seeds with its interval over seeds and test rows."""
        sample = self.sample(metric, attributes)
        if sample is None:
            return self._absent(metric, attributes)
        scores = [fit.score(metric, a) for fit in self.fits for a in attributes]
        n = [s.n for s in scores if s and s.n is not None]
        return figure_of(sample, min(n, default=None))

    def _absent(self, metric: str, attributes: Attributes) -> Figure:
        for fit in self.fits:
            if not fit.done:
                return Figure(reason=fit.record.reason, failed=fit.record.status != "skipped")
            for attribute in attributes or (None,):
                score = fit.score(metric, attribute)
                if score and score.status != "done":
                    return Figure(reason=score.reason, failed=score.status == "failed")
        # a row of other labels has no metric that reads none
        return Figure(reason="not measured" if self.labels == "given" else "")

    def gaps(self, metric: str, attributes: Attributes) -> Iterator[tuple[str, Figure]]:
        """Yield which seeds of this row have no record, or attributes no value, where others have, and why."""
        for fit in self.fits:
            if not fit.done:
                yield (
                    f"seed {fit.seed}",
                    Figure(reason=fit.record.reason, failed=fit.record.status != "skipped"),
                )
            for attribute in attributes if fit.done else ():
                score = fit.score(metric, attribute)
                if score is not None and score.status != "done":
                    yield attribute or "", Figure(reason=score.reason, failed=score.status == "failed")

    def difference(self, other: Row, metric: str, attributes: Attributes) -> Figure:
        """Return this row's value minus another's, in pairs of seeds and test rows."""
        a, b = self.sample(metric, attributes), other.sample(metric, attributes)
        if a is None or b is None:
            return next(f for r in (self, other) if (f := r.figure(metric, attributes)).value is None)
        a, b = matched(a, b)
        paired, seeds = a.seeds == b.seeds, min(len(a.seeds), len(b.seeds))
        found = paired_difference(a.values, a.replicates, b.values, b.replicates, paired=paired)
        if not paired and seeds == 1:
            return Figure(found.value, seeds=1)  # nothing tells how far the lone seed may be off
        return Figure(found.value, found.low, found.high, seeds, p=found.p)


@dataclass(frozen=True)
class Group:
    """What may stand in one table: the same data, budget and kind of device."""

    data: str
    budget: Mapping[str, Any]
    device: str
    rows: tuple[Row, ...]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Return the metrics that any row has, in the order in which they were measured."""
        return tuple(self._valued)

    @cached_property
    def _valued(self) -> Mapping[str, Mapping[str | None, int]]:
        """In how many fits each attribute of each metric has a value."""
        found: dict[str, dict[str | None, int]] = {}
        for fit in (fit for row in self.rows for fit in row.fits):
            for (metric, attribute), (score, _) in fit.scores.items():
                counts = found.setdefault(metric, {})
                counts[attribute] = counts.get(attribute, 0) + (score.value is not None)
        return found

    @cached_property
    def _attributes(self) -> Mapping[str, Attributes]:
        return {m: tuple(a for a in counts if a is not None) or (None,) for m, counts in self._valued.items()}

    @cached_property
    def _measured(self) -> Mapping[str, int]:
        """In how many fits each metric has a value for any of its attributes."""
        unnamed = {metric for metric, attributes in self._attributes.items() if attributes == (None,)}
        with_value = (
            {
                m
                for (m, a), (s, _) in fit.scores.items()
                if s.value is not None and (a is None) == (m in unnamed)
            }
            for row in self.rows
            for fit in row.fits
        )
        return Counter(chain.from_iterable(with_value))

    def attributes(self, metric: str) -> Attributes:
        """Return the attributes of a metric, (None,) where it has none."""
        return self._attributes.get(metric, (None,))

    def common(self, metric: str) -> Attributes:
        """Return the attributes that have a value in every fit that has any: what a mean may be taken over."""
        counts, fits = self._valued.get(metric, {}), self._measured.get(metric, 0)
        return tuple(a for a in self.attributes(metric) if counts.get(a, 0) == fits)

    def best(self, metric: str, attributes: Attributes, better: str) -> Row | None:
        """Return the best model where its paired difference from every other model excludes 0."""
        sign = {"higher": 1.0, "lower": -1.0, "neither": 0.0}[better]
        rows = [r for r in self.rows if r.role == "model" and r.sample(metric, attributes)]
        if sign == 0.0 or len(rows) < 2:
            return None
        first = max(rows, key=lambda r: sign * (r.figure(metric, attributes).value or 0.0))
        apart = [first.difference(other, metric, attributes) for other in rows if other is not first]
        # one seed says nothing of the next
        return first if all(d.seeds > 1 and d.excludes_zero for d in apart) else None

    def floor(self, metric: str, attributes: Attributes, better: str, size: int | None = None) -> Row | None:
        """Return the better of the floors for these attributes, of those whose code has this size."""
        floors = [r for r in self.rows if r.role == "floor" and (size is None or r.size == size)]
        return _better(floors, metric, attributes, better)

    def floors(self, size: int | None) -> list[Row]:
        """Return the floors whose code has this size."""
        return [r for r in self.rows if r.role == "floor" and r.size == size]

    def ceiling(self, metric: str, attributes: Attributes, better: str) -> Row | None:
        """Return the better of the ceilings for these attributes."""
        return _better([r for r in self.rows if r.role == "ceiling"], metric, attributes, better)

    def chance(self, metric: str, attributes: Attributes) -> Row | None:
        """Return the row that was scored on permuted labels: what it says is what chance says."""
        found = (r for r in self.rows if r.labels == "permuted" and r.sample(metric, attributes))
        return next(found, None)


def _better(rows: Sequence[Row], metric: str, attributes: Attributes, better: str) -> Row | None:
    sign = -1.0 if better == "lower" else 1.0
    measured = [r for r in rows if r.sample(metric, attributes)]
    return max(measured, key=lambda r: sign * (r.figure(metric, attributes).value or 0.0), default=None)


def groups(stored: Iterable[Stored]) -> list[Group]:
    """Return the records sorted into what may be compared, rows in the order in which they were asked for.

    Of a model whose source has changed since, the newest stands alone. Data of one name and other contents are told
    apart by the first letters of their fingerprints.
    """
    found: dict[tuple[str, ...], dict[RowName, dict[int, list[Stored]]]] = {}
    about: dict[tuple[str, ...], tuple[str, Mapping[str, Any], str]] = {}
    newest: dict[tuple[str, ...], str] = {}
    for one in sorted(stored, key=lambda s: s.path.name):
        newest[(*_group_key(one), *_row_name(one)[:2])] = one.record.cell["model_source"]
    for one in stored:
        cell, key, name = one.record.cell, _group_key(one), _row_name(one)
        if newest[(*key, *name[:2])] == cell["model_source"]:
            about[key] = (cell["dataset_label"], cell["budget"], cell["device"])
            found.setdefault(key, {}).setdefault(name, {}).setdefault(cell["seed"], []).append(one)
    contents: dict[str, set[str]] = {}
    for label, fingerprint, *_ in found:
        contents.setdefault(label, set()).add(fingerprint)
    grouped = []
    for key, rows in found.items():
        label, budget, device = about[key]
        data = label if len(contents[key[0]]) == 1 else f"{label} [{key[1][:8]}]"
        grouped.append(Group(data, budget, device, tuple(_row(name, rows) for name in rows)))
    return grouped


def _group_key(one: Stored) -> tuple[str, ...]:
    cell = one.record.cell
    budget = sorted((k, v) for k, v in cell["budget"].items() if k != "name")
    return cell["dataset_label"], cell["fingerprint"], str(budget), cell["device"]


RowName = tuple[str, str, str]  # label, role, precision


def _row_name(one: Stored) -> RowName:
    cell = one.record.cell
    return cell["label"], cell["role"], cell.get("precision", "float32")


def _row(name: RowName, rows: Mapping[RowName, Mapping[int, list[Stored]]]) -> Row:
    """Return a row, its precision told where the same model stands there in another as well."""
    label, role, precision = name
    seeds, alike = rows[name], [other for other in rows if other[:2] == name[:2]]
    ordered = [sorted(seeds[seed], key=lambda s: s.path.name) for seed in sorted(seeds)]
    return Row(
        f"{label}, {precision}" if len(alike) > 1 else label, role, tuple(Fit(same) for same in ordered)
    )
