"""What stands in a table: figures as text, with as many digits as their intervals allow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lvmbench.aggregate import Figure, Row

ARROWS = {"higher": "↑", "lower": "↓", "neither": ""}
BOLD = {"github": "**{}**", "pipe": "**{}**", "html": "<b>{}</b>", "unsafehtml": "<b>{}</b>"}
ROUNDING = 1e-9  # what double precision leaves of a number that is exact


@dataclass(frozen=True)
class Table:
    """A title, a header, rows of text, and what has to be said below."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def without_empty(table: Table) -> Table:
    """Return a table without the columns that say nothing in any row."""
    told = [i for i in range(len(table.header)) if any(row[i] != "–" for row in table.rows)]
    rows = [[row[i] for i in told] for row in table.rows]
    return Table(table.title, [table.header[i] for i in told], rows, table.notes)


def mark(fmt: str) -> str:
    """Return how a format sets apart what is best."""
    return "bold" if fmt in BOLD else "*"


def name_of(row: Row) -> str:
    """Return what a table calls a row: a control says that it is one."""
    return row.label if row.role == "model" else f"{row.label} ({row.role})"


def cell(figure: Figure, best: bool, fmt: str) -> str:
    """Return a figure as a table shows it, set apart where it is the best."""
    if figure.value is None:
        return "failed" if figure.failed else "n/a" if figure.reason else "–"
    text = number(figure)
    if not best:
        return text
    return BOLD[fmt].format(text) if fmt in BOLD else f"{text} *"


def number(figure: Figure) -> str:
    """Return a figure with as many digits as its interval allows; without one it says so by ``±–``."""
    value = figure.value if figure.value is not None else math.nan
    if figure.low is None or figure.high is None:
        return f"{value:.4g} ±–"
    half = (figure.high - figure.low) / 2
    if half <= ROUNDING:
        return f"{value if abs(value) > ROUNDING else 0:.4g} ±0"
    digits = min(4, max(0, 1 - math.floor(math.log10(half) + 0.3)))
    return f"{value:,.{digits}f} ±{half:,.{digits}f}"


def percent(figure: Figure) -> str:
    """Return a share as a percentage with half of its interval."""
    if figure.value is None:
        return "n/a"
    if figure.low is None or figure.high is None:
        return f"{round(100 * figure.value)} ±–"
    return f"{round(100 * figure.value)} ±{50 * (figure.high - figure.low):.0f}"
