"""What a plugin may implement. Each hook returns names with what makes them.

A value is the thing itself, ``"module:attribute"`` to be imported only when asked for, or an ``Entry`` around
either. Listing names must not import torch: prefer the string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pluggy

from lvmbench.api import Record

PROJECT = "lvmbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """The hooks of lvmbench; a misspelt one is an error of its plugin."""

    @hookspec
    def lvmbench_models(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return models: name -> class whose constructor takes a ``Schema`` and its options by keyword."""

    @hookspec
    def lvmbench_metrics(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return metrics: name -> ``Metric``."""

    @hookspec
    def lvmbench_datasets(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return data sets: name -> class whose constructor takes its options by keyword."""

    @hookspec
    def lvmbench_executors(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return executors: name -> class that runs tasks somewhere else."""

    @hookspec
    def lvmbench_explanations(self) -> Mapping[str, Any]:  # type: ignore[empty-body]
        """Return explanations: name -> function from an ``Evaluation`` to the ``Section`` of a page."""

    @hookspec
    def lvmbench_cell_done(self, record: Record) -> None:
        """Hear of every finished cell, in the main process: for trackers and progress."""
