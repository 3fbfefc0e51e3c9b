"""Which data sets are ready, where their files are, and what is missing for the others."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tabulate import tabulate

from lvmbench.catalog import Catalog, Item
from lvmbench.data import HasFiles
from lvmbench.errors import LvmbenchError, PluginError
from lvmbench.options import option_model

WIDTH = 100

State = Literal["ready", "missing", "to be named", "broken"]


@dataclass(frozen=True)
class Readiness:
    """Whether a data set can be read: where its files are, or what it lacks."""

    name: str
    state: State
    told: str


def readiness(catalog: Catalog) -> Iterator[Readiness]:
    """Yield of every data set whether it is ready; no picture is opened."""
    for item in catalog.items("dataset"):
        yield Readiness(item.name, *_found(item))


def _found(item: Item) -> tuple[State, str]:
    try:
        factory = item.load()
        needed = [name for name, field in option_model(factory).model_fields.items() if field.is_required()]
        if needed:
            asked = ", ".join(f"{name}=..." for name in needed)
            return "to be named", f"reads what is named: {item.name}({asked})"
        dataset = factory()
        return "ready", _where(dataset.locate()) if isinstance(dataset, HasFiles) else "needs no files"
    except PluginError as error:
        return "broken", str(error)
    except LvmbenchError as error:
        return "missing", str(error)
    except (Exception, SystemExit) as error:  # one that breaks hides no other
        return "broken", f"{type(error).__name__}: {error}"


def _where(paths: Sequence[Path]) -> str:
    """Return where files are: their folder, then their names."""
    folders = dict.fromkeys(path.parent for path in paths)
    return "\n".join(
        f"{folder}: {', '.join(path.name for path in paths if path.parent == folder)}" for folder in folders
    )


def table(catalog: Catalog) -> str:
    """Return a table of all data sets."""
    found = list(readiness(catalog))
    used = [
        max((len(text) for text in column), default=0)
        for column in zip(*((f.name, f.state) for f in found), strict=True)
    ]
    rows = [[one.name, one.state, _wrapped(one.told, WIDTH - sum(used) - 4)] for one in found]
    return tabulate(rows, ["data set", "", "files, or what is missing"])


def _wrapped(text: str, width: int) -> str:
    return "\n".join(
        line for part in text.split("\n") for line in textwrap.wrap(part, width, break_on_hyphens=False)
    )
