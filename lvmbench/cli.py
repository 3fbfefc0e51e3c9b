"""What a person types. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lvmbench.cli_data import data
from lvmbench.endings import check_format, finish, leave, listen, print_tables
from lvmbench.errors import ExitCode
from lvmbench.flags import (
    by_option,
    complete,
    complete_budget,
    complete_name,
    data_option,
    download_option,
    duplicates_option,
    format_option,
    results_option,
    show_option,
)

if TYPE_CHECKING:
    from lvmbench.runner import Settings
    from lvmbench.spec import Spec

NOUN_NAMES = ("models", "metrics", "datasets", "executors", "explanations", "plugins")
METRIC_SETS = ("default", "full")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="lvmbench")
def lvmbench() -> None:
    """How well does the latent z of an unsupervised model capture what people name in a picture?"""


lvmbench.add_command(data)


@lvmbench.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path))
@click.option(
    "--models",
    shell_complete=complete("model"),
    help='For example "vae,beta-vae(beta=1,4,16),iwae(k=5)"; "all" for every one.',
)
@click.option(
    "--dataset", shell_complete=complete("dataset"), help="Data set with options.  [default: faces]"
)
@click.option(
    "--metrics",
    shell_complete=complete("metric"),
    help='Metrics with options, or "full" for all that do not cost too much.  [default: the main ones]',
)
@click.option("--seeds", help="A number of seeds, or a list such as 3,7,11.  [default: 3]")
@click.option(
    "--budget",
    shell_complete=complete_budget,
    help="smoke, quick, standard, long, or a TOML file.  [default: quick]",
)
@click.option(
    "--controls/--no-controls", default=None, help="Add the floors and the ceiling.  [default: controls]"
)
@click.option("--device", help="auto, cpu, cuda, or cuda:1.  [default: auto]")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "tfloat32", "bfloat16"]),
    help="What networks compute in while they train; auto is the faster that costs no quality.  [default: auto]",
)
@click.option(
    "--jobs", type=click.IntRange(min=0), help="Worker processes; 0 runs in this one.  [default: one a core]"
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that one cell may take."
)
@click.option(
    "--executor", default="", help="Where cells run, from a plugin.", shell_complete=complete("executor")
)
@click.option("--rerun", type=click.Choice(["missing", "failed", "all"]), default="missing", show_default=True,
              help="Which cells to run.")  # fmt: skip
@click.option(
    "--strict",
    is_flag=True,
    help="Refuse data with findings, as they stand under the tables, before anything is trained; what an option had "
    "left out is allowed. `data check --strict` also looks at pixels and people.",
)
@duplicates_option
@download_option
@click.option("--dry-run", is_flag=True, help="Print the plan and what it will cost; train nothing.")
@results_option
@data_option
@format_option
@by_option
@show_option
def run(spec: Path | None, **given: Any) -> None:
    """Train models, score them, and print the tables.

    What is asked stands on the command line, in the TOML file SPEC, or both: the command line wins. What was
    computed before is not computed again.
    """
    from lvmbench.catalog import Catalog
    from lvmbench.progress import Console
    from lvmbench.runner import answer

    asked, settings = _asked(spec, given), _settings(given)
    catalog = Catalog.discover()
    if given["dry_run"]:
        from lvmbench.estimate import estimate

        click.echo(estimate(asked, catalog, settings))
        return
    check_format(given["fmt"])
    with Console() as console:
        results = answer(asked, catalog, settings, console)
    print_tables(results, catalog, given["fmt"], given["by"], given["show"] or _shown(asked))
    finish(results, settings.results)


def _asked(spec: Path | None, given: dict[str, Any]) -> Spec:
    from dataclasses import replace

    from lvmbench.spec import Spec

    names = (
        "models",
        "dataset",
        "metrics",
        "seeds",
        "budget",
        "controls",
        "device",
        "precision",
        "drop_duplicates",
    )
    changes = {name: given[name] for name in names if given[name] is not None}
    if "seeds" in changes:
        changes["seeds"] = _seeds(changes["seeds"])
    return replace(Spec.read(spec) if spec else Spec(), **changes)


def _shown(asked: Spec) -> str:
    return "main" if asked.metrics in METRIC_SETS else "all"


def _seeds(text: str) -> int | list[int]:
    try:
        return [int(part) for part in text.split(",")] if "," in text else int(text)
    except ValueError:
        raise click.BadParameter(
            f"'{text}' is neither a number of seeds nor a list such as 3,7,11."
        ) from None


def _settings(given: dict[str, Any]) -> Settings:
    from lvmbench.environment import results_dir
    from lvmbench.runner import Settings

    results = given["results"] or results_dir()
    how = given["jobs"], given["timeout"], given["rerun"], given["executor"], given["strict"]
    return Settings(results, *how)


@lvmbench.command("list")
@click.argument("noun", type=click.Choice(NOUN_NAMES))
def list_(noun: str) -> None:
    """Name what there is, and the plugin that it came from."""
    from lvmbench.catalog import Catalog
    from lvmbench.listing import names, plugins

    catalog = Catalog.discover()
    click.echo(plugins(catalog) if noun == "plugins" else names(catalog, noun[:-1]))


@lvmbench.command()
@click.argument("name", shell_complete=complete_name)
@click.option(
    "--grid", type=click.Path(path_type=Path, dir_okay=False), help="Draw a contact sheet of a data set."
)
@data_option
def show(name: str, grid: Path | None) -> None:
    """Tell all of one NAME: options with types and defaults, capabilities, paper, what it needs."""
    from lvmbench.catalog import Catalog
    from lvmbench.listing import draw, page

    catalog = Catalog.discover()
    if grid:
        click.echo(f"wrote {draw(catalog, name, grid)}")
    else:
        click.echo(page(catalog, name))


@lvmbench.command()
@results_option
@format_option
@by_option
@show_option
def table(results: Path | None, fmt: str, by: str, show: str | None) -> None:
    """Print the tables of stored results again."""
    from lvmbench.catalog import Catalog
    from lvmbench.environment import results_dir
    from lvmbench.errors import StoreError
    from lvmbench.records import Store
    from lvmbench.runner import Results

    check_format(fmt)
    folder = results or results_dir()
    reading = Store.existing(folder).read()
    if not (reading.stored or reading.problems):
        raise StoreError(
            f"{folder}: no records here yet. Run `lvmbench run`, or name a folder with --results."
        )
    print_tables(Results(reading.stored, reading.problems), Catalog.discover(), fmt, by, show or "main")


@lvmbench.command()
@click.argument("codes", type=click.Path(path_type=Path))
@click.argument("labels", type=click.Path(path_type=Path))
@click.option("--splits", metavar="COLUMN", help="Column of train, val, test (or 0, 1, 2).  [default: drawn]")
@click.option(
    "--groups", metavar="COLUMN", help="Column of identities: none is in two splits that are drawn."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="COLUMN=KIND",
    help="binary, categorical, ordinal, number, skip, or classes in their order: size=small,mid,large. "
    "May be given again.",
)
@click.option(
    "--metrics",
    default="default",
    shell_complete=complete("metric"),
    help='Metrics with options, or "full".  [default: those of a run that read codes or labels]',
)
@click.option("--seeds", default="3", show_default=True, help="A number of seeds, or a list such as 3,7,11.")
@click.option("--name", help="What the tables call the codes.  [default: the name of the file]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:1.")
@click.option("--results", type=click.Path(path_type=Path), help="Keep the records in this folder.")
@format_option
@by_option
@show_option
def score(codes: Path, labels: Path, **given: Any) -> None:
    """Score CODES of any origin against LABELS of the same rows, and print the tables.

    CODES is a .npy, .npz, .safetensors, .csv or .parquet file of numbers, a row a picture; LABELS a .csv or
    .parquet file with a line of names. Two different values in a column are yes or no (the greater is yes),
    words are classes, whole numbers of up to 20 values are classes, other numbers quantities; empty cells, NA,
    NaN and null are missing. What is no attribute is left out and told: a column of one value, of another word
    in every row, of dates.
    """
    from lvmbench.catalog import Catalog
    from lvmbench.files import read_codes, read_table
    from lvmbench.given import given as held
    from lvmbench.progress import Console
    from lvmbench.scoring import score_given

    check_format(given["fmt"])
    seeds, kinds = _seeds(given["seeds"]), dict(map(_kind, given["kinds"]))
    where = str(codes), str(labels)
    columns = {name: given[name] for name in ("splits", "groups")}
    found = held(read_codes(codes), read_table(labels), kinds=kinds, where=where, **columns)
    asked = (
        given["metrics"],
        seeds,
        given["name"] or codes.stem,
        labels.stem,
        given["results"],
        given["device"],
    )
    with Console() as console:
        results = score_given(found, *asked, console)
    shown = "main" if given["metrics"] in METRIC_SETS else "all"
    print_tables(results, Catalog.discover(), given["fmt"], given["by"], given["show"] or shown)
    finish(results, given["results"])


def _kind(text: str) -> tuple[str, Any]:
    name, equals, kind = text.rpartition("=")
    if not equals or not name or not kind:
        raise click.BadParameter(f"'{text}' is not COLUMN=KIND, such as age=number.", param_hint="--kind")
    return name, kind.split(",") if "," in kind else kind


@lvmbench.command()
@click.argument("run")
@results_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the page.  [default: explain/ in the folder of results]",
)
@click.option("--seed", type=click.IntRange(min=0), help="Which seed.  [default: the lowest there is]")
@click.option("--dataset", help="Which data set, where RUN was fitted to several.")
@click.option(
    "--only", default="", shell_complete=complete("explanation"), help='Parts, such as "clusters,map".'
)
@data_option
def explain(
    run: str, results: Path | None, out: Path | None, seed: int | None, dataset: str | None, only: str
) -> None:
    """Show in pictures what the z of one RUN holds: named clusters, pictures drawn to order, edits.

    RUN is a model as the table shows it, such as vae or "beta-vae(beta=16)", the first letters of a fit key, or the
    path of a record. Nothing is trained. The path of the page is printed: Markdown, its pictures beside it.
    """
    from lvmbench.catalog import Catalog
    from lvmbench.environment import results_dir
    from lvmbench.explanation import choose, write
    from lvmbench.records import Store

    folder = results or results_dir()
    store = Store(folder) if Path(run).is_file() else Store.existing(folder)  # a record tells its own store
    record, store = choose(run, store, seed=seed, dataset=dataset)
    names = [name.strip() for name in only.split(",") if name.strip()]
    found = write(
        record, store, Catalog.discover(), out=out, only=names,
        heard=lambda name: click.echo(f"lvmbench: {name} ...", err=True),
    )  # fmt: skip
    click.echo(found.page)
    if found.failed:
        click.echo(f"lvmbench: these parts failed: {', '.join(found.failed)}; the page says how.", err=True)
        sys.exit(ExitCode.CELLS_FAILED)


@lvmbench.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL, to be sourced by it."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(lvmbench, {}, "lvmbench", "_LVMBENCH_COMPLETE").source())


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and leave with a documented exit code; the last line tells the reason."""
    interrupted = listen()
    try:
        lvmbench.main(
            args=list(args) if args is not None else None, prog_name="lvmbench", standalone_mode=False
        )
    except BaseException as error:
        sys.exit(leave(error, bool(interrupted)))


if __name__ == "__main__":
    main()
