"""The commands about data sets. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lvmbench.errors import ExitCode
from lvmbench.flags import complete, data_option, download_option, duplicates_option


@click.group()
def data() -> None:
    """Tell what data sets there are, and what is in them."""


@data.command("list")
@data_option
def list_() -> None:
    """Tell which data sets are ready, where their files are, and what is missing for the others."""
    from lvmbench.catalog import Catalog
    from lvmbench.readiness import table

    click.echo(table(Catalog.discover()))


@data.command()
@click.argument("name", shell_complete=complete("dataset"))
@click.option("--limit", type=click.IntRange(min=1), help="Rows of each split to look at.  [default: all]")
@click.option("--all", "every", is_flag=True, help="Name all that is found, not the first of each kind.")
@click.option("--format", "fmt", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw pictures with their labels to a file.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Leave with exit code 3 at any finding that `run --strict` refuses, and at what only the pictures show: equal "
    "pixels, people in two splits.",
)
@duplicates_option
@download_option
@data_option
def check(
    name: str,
    limit: int | None,
    every: bool,
    fmt: str,
    sheet: Path | None,
    strict: bool,
    drop_duplicates: bool | None,
) -> None:
    """Examine the data set NAME, with options where it needs some: images(root=faces).

    Told are the pictures of each split, the labels of each attribute and those that are missing, pictures that are
    there twice and whether their labels agree, people in two splits, and the findings: all that is wrong with the
    files. A run counts the findings in its records and tells them under its tables.
    """
    from lvmbench.catalog import Catalog
    from lvmbench.contact_sheet import check_sheet, write_sheet
    from lvmbench.data import HasFiles
    from lvmbench.inspected import as_json, as_text
    from lvmbench.inspection import inspect
    from lvmbench.preparation import read
    from lvmbench.progress import Console
    from lvmbench.resolved import dataset_of

    if sheet:
        check_sheet(sheet)
    label, dataset = dataset_of(Catalog.discover(), name, drop_duplicates=bool(drop_duplicates))
    with Console() as console:
        splits = read(dataset, label, lambda _: limit, console)
    found = inspect(dataset, splits, limit)
    files = dataset.locate() if isinstance(dataset, HasFiles) else ()
    click.echo(as_json(label, found) if fmt == "json" else as_text(label, found, files, every=every))
    if sheet:
        part, shown = next(((n, s) for n, s in splits.items() if len(s)), ("train", splits["train"]))
        write_sheet(f"{label}, {part}", dataset.schema, shown, sheet)
        click.echo(f"wrote {sheet}", err=True)
    if strict and found.is_amiss:
        click.echo(f"lvmbench: {label}: not all is as it should be (--strict).", err=True)
        sys.exit(ExitCode.USAGE)
