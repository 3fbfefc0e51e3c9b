"""The cards of the metrics that stand in a table, and which of them it shows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence

from lvmbench.api import Metric
from lvmbench.calls import parse_calls
from lvmbench.catalog import Catalog
from lvmbench.errors import PluginError, UsageError, nearest

UNKNOWN = Metric(lambda ev: math.nan, better="neither")
MAIN, ALL = "main", "all"


class Cards:
    """The cards of metrics by the label under which they were measured."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.known: dict[str, Metric] = {}

    def __getitem__(self, label: str) -> Metric:
        if label not in self.known:
            name = parse_calls(label)[0].name
            same = [item for item in self.catalog.items("metric") if item.name == name]
            with contextlib.suppress(PluginError):  # its plugin is gone; its numbers are not
                self.known[label] = same[0].load() if same else UNKNOWN
        return self.known.get(label, UNKNOWN)

    def shown(self, metrics: Sequence[str], show: str) -> tuple[str, ...]:
        """Return those that a table shows: the main ones, all of a family, or all; headlines first.

        With its options told, a metric is no main one where it stands there without them.

        Raises:
            UsageError: if there is no such family.
        """
        families = self.families(metrics)
        if show not in (MAIN, ALL, *families):
            known = ", ".join((MAIN, *families, ALL))
            raise UsageError(f"No metrics '{show}'.{nearest(show, (MAIN, *families, ALL))} Known: {known}.")
        if show == ALL:
            return tuple(metrics)
        if show in families:
            return tuple(m for m in metrics if self[m].family == show)
        plain = {m for m in metrics if not parse_calls(m)[0].options}
        main = [m for m in metrics if self[m].main and (m in plain or parse_calls(m)[0].name not in plain)]
        return tuple(sorted(main or metrics, key=lambda m: not self[m].headline))

    def families(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """Return the families of some metrics."""
        return tuple(dict.fromkeys(self[m].family for m in metrics if self[m].family))

    def of_labels(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """Return those of some metrics that tell of the labels alone: they say the same of every model."""
        return tuple(m for m in metrics if self[m].needs == ("labels",))

    def headlines(self, metrics: Sequence[str]) -> tuple[str, ...]:
        """Return those of some metrics that say how well z holds an attribute."""
        return tuple(m for m in metrics if self[m].headline)
