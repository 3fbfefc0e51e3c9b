"""The file: parts that are made apart, each by its script, with tables for a hundred columns."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from peers.rounds import Spread

PARTS = PEERS, SPENT, OTHER_PEERS, OTHER_SPENT, BY_HAND, GPU, QUALITY, GPU_QUALITY, START, SCALING = (
    "Against peers", "Where a step's time goes", "Against peers, another processor",
    "Where a step's time goes, another processor", "Other ways to take a step", "One GPU", "Time to quality",
    "Time to quality on one GPU", "Start and end", "Scaling",
)  # fmt: skip
TITLE = "# Performance\n\nMade by the scripts named below, and by nothing else.\n"
OUT = Path(__file__).parents[3] / "results" / "performance.md"
QUICK = "**Made with `--quick`: too few rounds, too short. Not a figure to quote.**"


def write(path: Path, part: str, text: str) -> None:
    """Put a part in the place of the one that the file has; the others stay as they are."""
    old = split(path.read_text(encoding="utf-8")) if path.exists() else {}
    whole = {**old, part: text.strip()}
    body = "\n\n".join(f"## {name}\n\n{whole[name]}" for name in PARTS if name in whole)
    beside = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.write_text(f"{TITLE}\n{body}\n", encoding="utf-8")
    beside.replace(path)


def attempted(section: Callable[[], str], name: str) -> str:
    """Return the text of a section, or a sentence that says why there is none: the figures of the others are kept."""
    try:
        return section()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        last = (str(error).strip().splitlines() or [""])[-1]
        return f"Not measured: {name}: {type(error).__name__}: {last}"


def split(text: str) -> dict[str, str]:
    """Return the parts of such a file by their names."""
    chunks = ("\n" + text).split("\n## ")[1:]
    named = (chunk.partition("\n") for chunk in chunks)
    return {name: rest.strip() for name, _, rest in named if name in PARTS}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    rule = ["-" * widths[0], *("-" * (w - 1) + ":" for w in widths[1:])]
    return "\n".join(_line(row, widths) for row in (head, rule, *rows))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
    return "| " + " | ".join(cells) + " |"


def number(value: float) -> str:
    """Return a number with some three figures: ``26.6k``, ``266``, ``2.66``."""
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{number(value / (size if letter == 'M' else 1e3))}{letter}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def spread(of: Spread) -> str:
    """Return a median with its least and most: ``3.10 (2.95-3.22)``."""
    return f"{number(of.median)} ({number(of.low)}-{number(of.high)})"


def verdict(reached: bool, idle: bool = True) -> str:
    """Return whether an aim was reached; of a machine that was not idle, that it was not."""
    return ("reached" if reached else "not reached") + ("" if idle else ", not idle")
