"""How a command ends: its tables, its last line, its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lvmbench.errors import ExitCode, LvmbenchError

if TYPE_CHECKING:
    from lvmbench.catalog import Catalog
    from lvmbench.runner import Results


def check_format(fmt: str) -> None:
    """Refuse a format that no table can be printed in, before anything is computed.

    Raises:
        UsageError: if there is no such format; names the nearest.
    """
    from tabulate import tabulate_formats

    from lvmbench.errors import UsageError, nearest

    known = ("csv", "json", *tabulate_formats)
    if fmt not in known:
        raise UsageError(f"No format '{fmt}'.{nearest(fmt, known)} Known: {', '.join(known)}.")


def print_tables(results: Results, catalog: Catalog, fmt: str, by: str, show: str) -> None:
    """Print the tables of results, and what could not be read of them."""
    from lvmbench.report import report

    click.echo(report(results.stored, catalog, fmt, by, show, results.findings))
    for problem in results.problems:
        click.echo(f"lvmbench: not read: {problem}", err=True)


def finish(results: Results, folder: Path | None) -> None:
    """Say in the last line how it went, and leave with the exit code that says the same."""
    cells = len({(r.fit_key, r.cell["labels"]) for r in results.records})
    if failed := results.failed:
        first = failed[0]
        reason = first.reason or next(s.reason for s in first.scores if s.status == "failed")
        click.echo(
            f"lvmbench: {len(failed)} of {cells} cells failed; the first: {first.cell['label']}, seed "
            f"{first.cell['seed']}: {reason}\nIts log: {results.log_of(first)}. Again: --rerun failed.",
            err=True,
        )
        sys.exit(ExitCode.CELLS_FAILED)
    what = (
        f"{results.computed} of {cells} cells computed"
        if results.computed
        else f"all {cells} cells were there"
    )
    click.echo(
        f"lvmbench: {what}; {f'results in {folder}' if folder else 'nothing kept (--results)'}", err=True
    )


def listen() -> list[int]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt, and return the list that notes them."""
    import signal

    heard: list[int] = []

    def interrupt(number: int, _: object) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    return heard


def leave(error: BaseException, interrupted: bool) -> int:
    """Say why a command ended, and return its exit code; what is a bug is raised."""
    # wherever an interrupt strikes, cleaning up may turn it into another error: the note stands
    if interrupted or isinstance(error, (click.Abort, KeyboardInterrupt)):
        click.echo(
            "lvmbench: interrupted; finished cells and pictures are kept, and the same command goes on from there.",
            err=True,
        )
        return ExitCode.INTERRUPTED
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.ClickException):
        error.show()
        return ExitCode.USAGE
    if isinstance(error, LvmbenchError):
        click.echo(f"lvmbench: {error}", err=True)
        return error.exit_code
    raise error
