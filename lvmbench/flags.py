"""What commands share: options, and the completion of names. Imports no plugin and nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

BUDGET_NAMES = ("smoke", "quick", "standard", "long")
Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def complete(noun: Any) -> Completer:
    """Return a completer of comma-separated names, which imports no plugin's code."""

    def completed(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from lvmbench.catalog import Catalog

        before, comma, last = typed.rpartition(",")
        names = dict.fromkeys(item.name for item in Catalog.discover().items(noun))
        return [CompletionItem(before + comma + name) for name in names if name.startswith(last)]

    return completed


def complete_name(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Return the names of anything that begin as it was typed."""
    nouns = ("model", "metric", "dataset", "executor", "explanation")
    return [item for noun in nouns for item in complete(noun)(context, parameter, typed)]


def complete_budget(_: click.Context, __: click.Parameter, typed: str) -> list[str]:
    """Return the budgets that begin as it was typed."""
    return [name for name in BUDGET_NAMES if name.startswith(typed)]


def _environment(variable: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that hands an option on to this process and its workers as a variable: a flag as 1."""

    def put(_: click.Context, __: click.Parameter, value: Any) -> Any:
        import os

        if value:
            os.environ[variable] = "1" if value is True else value
        return value

    return put


results_option = click.option(
    "--results", type=click.Path(path_type=Path), help="Folder of results.  [default: results/runs]"
)
data_option = click.option(
    "--data-root",
    expose_value=False,
    callback=_environment("LVMBENCH_DATA"),
    help="Folder of downloaded data sets.  [default: $LVMBENCH_DATA or datasets/data]",
)
download_option = click.option(
    "--download",
    is_flag=True,
    expose_value=False,
    callback=_environment("LVMBENCH_DOWNLOAD"),
    help="Fetch what a data set lacks, where its licence allows it.",
)
duplicates_option = click.option(
    "--drop-duplicates",
    is_flag=True,
    default=None,
    help="Keep one of the files that are equal byte for byte, in every data set asked for.",
)
format_option = click.option(
    "--format", "fmt", default="simple", show_default=True, help="Any format of tabulate, or csv, or json."
)
by_option = click.option(
    "--by",
    type=click.Choice(["model", "attribute", "both", "pair", "aggregate"]),
    default="both",
    show_default=True,
    help="Which tables; pair: differences of models; aggregate: all attributes and seeds in one number.",
)
show_option = click.option(
    "--show", help="Which metrics: main, a family, or all.  [default: main, or those asked for by --metrics]"
)
