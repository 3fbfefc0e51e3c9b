"""How a run goes, on standard error: a bar on a terminal, a line a cell elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Never

from tqdm import tqdm

from lvmbench.api import Record
from lvmbench.cells import Task

SHARE = {"load": (0.0, 0.05), "fit": (0.05, 0.75), "encode": (0.8, 0.05), "measure": (0.85, 0.15)}


class Console:
    """Shows progress while cells run."""

    def __init__(self) -> None:
        self.bar: tqdm[Never] | None = None
        self.at: dict[str, tuple[str, float]] = {}
        self.finished = self.total = 0

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def making(self, label: str, done: int, total: int) -> None:
        """Move the bar of the pictures that are made."""
        if self.bar is None or self.bar.total != total or self.bar.n > done:
            self._close()
            layout = "data: {desc}: {n:,.0f} of {total:,.0f} pictures {bar} {elapsed}<{remaining}"
            self.bar = self._new_bar(total, layout, label)
        self.bar.n = done
        self.bar.refresh()

    def made(self, label: str, count: int, seconds: float) -> None:
        """Say how many pictures were made."""
        self._close()
        self._say(f"data: {label}: {count:,} pictures made in {seconds:.0f} s")

    def begin(self, tasks: Sequence[Task], present: int) -> None:
        """Say what will be run."""
        if not tasks:
            return
        self.total = len(tasks)
        there = f", {present} are there already" if present else ""
        self._say(f"{len(tasks)} cells to run{there}")
        layout = "{percentage:3.0f}% {bar} {elapsed}<{remaining} {postfix}"
        self.bar = self._new_bar(len(tasks), layout)

    def progress(self, task: Task, phase: str, done: int, total: int) -> None:
        """Move the bar."""
        start, share = SHARE.get(phase, (0.0, 0.0))
        self.at[task.attempt] = (f"{_name(task)} {phase}", start + share * done / max(total, 1))
        self._draw()

    def cell(self, task: Task, record: Record) -> None:
        """Say how a cell ended."""
        self.at.pop(task.attempt, None)
        self.finished += 1
        seconds = sum(record.seconds.values())
        broken = [s for s in record.scores if s.status == "failed"]
        ending = record.reason or (f"{broken[0].metric}: {broken[0].reason}" if broken else "")
        status = "done, a score failed" if broken and record.status == "done" else record.status
        slow = ", not converged" if record.converged is False else ""
        told = f": {ending}" if ending else ""
        self._say(f"[{self.finished}/{self.total}] {_name(task)}: {status} in {seconds:.1f} s{slow}{told}")
        self._draw()

    def _new_bar(self, total: int, layout: str, label: str = "") -> tqdm[Never]:
        return tqdm(
            desc=label,
            total=float(total),
            bar_format=layout,
            dynamic_ncols=True,
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _draw(self) -> None:
        if self.bar is not None:
            self.bar.n = self.finished + sum(share for _, share in self.at.values())
            self.bar.set_postfix_str(" | ".join(text for text, _ in self.at.values()), refresh=False)
            self.bar.refresh()

    def _say(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)


def _name(task: Task) -> str:
    return f"{task.cell.label} seed {task.cell.seed}"
