"""Everything that can go wrong and be told to a person.

LvmbenchError              a sentence to read; carries the exit code of its kind
├── UsageError       3     an unknown name, a misspelt option, a value out of range, an unusable file
├── DataError        3     a data set whose files are missing or damaged
├── StoreError       3     results that cannot be written or read
├── PluginError      4     a plugin that was asked for and cannot be used
└── TrainingError    2     a fit that broke: a loss that is not finite
NotApplicable              not an error: why a number does not exist for this model or attribute
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the process says to the shell that started it."""

    OK = 0
    REGRESSION = 1
    CELLS_FAILED = 2
    USAGE = 3
    PLUGIN = 4
    NOTHING_RUN = 5
    BASELINE = 6
    INCONCLUSIVE = 7
    INTERRUPTED = 130


class LvmbenchError(Exception):
    """The root of every error that is meant to be read, not traced."""

    exit_code = ExitCode.CELLS_FAILED


class UsageError(LvmbenchError):
    """What was asked does not exist or is out of range; raised before anything is trained."""

    exit_code = ExitCode.USAGE


class DataError(LvmbenchError):
    """A data set whose files are missing or damaged; names the file, the place and the remedy."""

    exit_code = ExitCode.USAGE


class StoreError(LvmbenchError):
    """A results folder that cannot be written, or a file in it that cannot be read."""

    exit_code = ExitCode.USAGE


class PluginError(LvmbenchError):
    """A plugin that was asked for and cannot be used; names the plugin and its version."""

    exit_code = ExitCode.PLUGIN


class TrainingError(LvmbenchError):
    """A fit that broke; names the step."""


class NotApplicable(Exception):
    """Why a number does not exist for this model, metric or attribute: a table shows ``n/a``."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""
