"""Tables as text: in a terminal of 100 columns, in every format of tabulate, as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from tabulate import tabulate

from lvmbench.aggregate import Attributes, Group, Row, groups
from lvmbench.attributes import attribute_table
from lvmbench.bodies import WORTH
from lvmbench.capture import capture, models_of, questions_of, shared
from lvmbench.cards import MAIN, Cards
from lvmbench.catalog import Catalog
from lvmbench.errors import LvmbenchError
from lvmbench.figures import Table
from lvmbench.findings import check_command, summary
from lvmbench.plan import GIVEN
from lvmbench.records import Stored
from lvmbench.resolved import label_of
from lvmbench.runner import Results
from lvmbench.summary import summary_lines, summary_tables
from lvmbench.tables import model_table, pair_table, pairs_of

Findings: TypeAlias = Mapping[tuple[str, str], Mapping[str, int]]  # by the content of data: counts by kind
WIDTH = 100
WHOLE = (
    "html",
    "unsafehtml",
    "latex",
    "latex_raw",
    "latex_booktabs",
    "latex_longtable",
    "tsv",
    "jira",
    "textile",
)


def report(
    stored: Sequence[Stored],
    catalog: Catalog,
    fmt: str = "simple",
    by: str = "both",
    show: str = MAIN,
    findings: Findings | None = None,
) -> str:
    """Return the tables of records: by model, attribute, both, pair, or aggregate; all figures in one for csv and json.

    ``show`` names the metrics that text shows: the main ones, those of a family, or all. ``findings`` counts what is
    wrong with the files of data, by their content; of other data the newest record tells it.

    Raises:
        UsageError: if there is no such family.
    """
    cards = Cards(catalog)
    found = groups(stored)
    if fmt in ("csv", "json"):
        lines = [line for group in found for line in _flat(group, cards, by)]
        return json.dumps(lines, indent=1) if fmt == "json" else _csv(lines)
    return "\n\n".join(_text(group, cards, fmt, by, show, findings or {}) for group in found)


def table(results: Results, fmt: str = "simple", by: str = "both", show: str = MAIN) -> str:
    """Return the tables of results as text, as the command line prints them."""
    return report(results.stored, Catalog.discover(), fmt, by, show, results.findings)


def _text(group: Group, cards: Cards, fmt: str, by: str, show: str, findings: Findings) -> str:
    tables = []
    if by in ("model", "both"):
        tables.append(model_table(group, cards, fmt, show))
    if by in ("attribute", "both"):
        tables.append(attribute_table(group, cards, fmt, show))
    if by == "aggregate":
        tables += summary_tables(group, cards, show)
        if not tables:
            return f"{heading(group)}\n\nno aggregate: no metric here says how well z holds an attribute"
    if by == "pair":
        if not pairs_of(group):
            return f"{heading(group)}\n\nno pair: there is but one model"
        tables.append(pair_table(group, cards, fmt, show))
    drawn = [_draw(table, fmt) for table in tables if table.rows]
    found = "\n".join(_findings(group, cards.catalog, findings))
    return "\n\n".join(filter(None, [heading(group), *drawn, found]))


def _findings(group: Group, catalog: Catalog, findings: Findings) -> Iterator[str]:
    """Yield what is wrong with the files of the data: an effect a line, then the whole command that names each."""
    records = [stored.record for row in group.rows for fit in row.fits for stored in fit.done]
    newest = max(records, key=lambda record: record.started, default=None)
    if newest is None:
        return
    content = newest.cell.get("dataset", ""), newest.cell["fingerprint"]
    if counts := findings.get(content, newest.findings):
        yield from _wrap([f"data, {line}" for line in summary(counts)])
        yield f"data: each is named by: {check_command(_asked_of(newest.cell, catalog))}"


def _asked_of(cell: Mapping[str, Any], catalog: Catalog) -> str:
    """Return a data set as a person would ask for it, its title where its plugin is gone."""
    try:
        return label_of(catalog.get("dataset", cell["dataset"]), cell["dataset_options"])
    except (LvmbenchError, KeyError):
        return str(cell["dataset_label"])


def heading(group: Group) -> str:
    """Return what all numbers of a group have in common: data, budget, K, seeds, hardware, versions."""
    records = [fit.facts for row in group.rows for fit in row.fits]
    seeds = sorted({fit.seed for row in group.rows for fit in row.fits})
    hardware = dict(records[-1].hardware)
    machine = hardware.get("gpu") or f"{hardware.get('cpu', '?')}, {hardware.get('cores', '?')} cores"
    versions = {
        f"lvmbench {r.versions.get('lvmbench', '?')}, torch {r.versions.get('torch', '?')}" for r in records
    }
    data, how = _about(group, records[-1].cell)
    over = f"{how}; seeds {', '.join(map(str, seeds))}"
    made = f"{machine}; {'; '.join(sorted(versions))}"
    return "\n".join([data, over, made, *_rounded(group)])


def _rounded(group: Group) -> Iterator[str]:
    """Yield lines that tell which models were trained in less than float32."""
    labels: dict[str, list[str]] = {}
    for row in group.rows:
        labels.setdefault(row.fits[0].facts.cell.get("precision", "float32"), []).append(row.label)
    for precision in sorted(labels.keys() - {"float32"}):
        few = precision == "bfloat16" and group.budget["batch"] < WORTH
        where = f" where a network was given {WORTH} rows or more" if few else ""
        told = f"trained in {precision}{where}: {'; '.join(labels[precision])}"
        yield from textwrap.wrap(told, WIDTH, subsequent_indent="  ")


def _about(group: Group, cell: Mapping[str, Any]) -> tuple[str, str]:
    """Return what rows there are, and how they were used."""
    b = group.budget
    if cell.get("dataset") == GIVEN:
        asked = cell["dataset_options"]
        return f"{group.data}: {asked['rows']:,} rows of codes and labels", asked["split"]
    return (
        f"{group.data}: at most {b['train']:,} train, {b['val']:,} val, {b['test']:,} test pictures",
        f"budget {b['name']}: {b['images']:,} images seen, batch {b['batch']}; K = {b['draws']:,} on "
        f"{b['density_rows']:,} test pictures",
    )


def _draw(table: Table, fmt: str) -> str:
    blocks = [table] if fmt in WHOLE else list(_blocks(table))
    drawn = [tabulate(b.rows, b.header, tablefmt=fmt, disable_numparse=True, stralign="right",
                      colalign=("left", *["right"] * (len(b.header) - 1))) for b in blocks]  # fmt: skip
    return "\n\n".join([*drawn, "\n".join(_wrap(table.notes))]).rstrip()


def _blocks(table: Table) -> Iterator[Table]:
    """Yield the columns of a table in parts that fit the width, each with the first column."""
    widths = [
        max(len(line) for text in (head, *column) for line in text.split("\n"))
        for head, column in zip(table.header, zip(*table.rows, strict=True), strict=True)
    ]
    start = 1
    while start < len(widths):
        stop, used = start, widths[0]
        while stop < len(widths) and (stop == start or used + 3 + widths[stop] <= WIDTH):
            used += 3 + widths[stop]
            stop += 1
        keep = [0, *range(start, stop)]
        yield Table(
            table.title, [table.header[i] for i in keep], [[r[i] for i in keep] for r in table.rows], []
        )
        start = stop


def _wrap(notes: Sequence[str]) -> Iterator[str]:
    for note in notes:
        yield from textwrap.wrap(note, WIDTH, subsequent_indent="  ")


def _flat(group: Group, cards: Cards, by: str) -> Iterator[dict[str, Any]]:
    return summary_lines(group, cards) if by == "aggregate" else _lines(group, cards, by)


def _lines(group: Group, cards: Cards, by: str) -> Iterator[dict[str, Any]]:
    """Yield every figure of a group as one flat line."""
    for row, other in _rows(group, by):
        for metric in group.metrics:
            for name, attributes in _columns(group, metric, by):
                figure = (
                    row.difference(other, metric, attributes) if other else row.figure(metric, attributes)
                )
                yield {
                    "dataset": group.data,
                    "budget": group.budget["name"],
                    "device": group.device,
                    "model": row.label,
                    **({"minus": other.label} if other else {"role": row.role}),
                    "metric": metric,
                    "attribute": name,
                    **asdict(figure),
                    "unit": cards[metric].unit,
                    "better": cards[metric].better,
                }
    if by != "pair" and any(row.role == "ceiling" for row in group.rows):
        yield from _captures(group, cards, by)


def _captures(group: Group, cards: Cards, by: str) -> Iterator[dict[str, Any]]:
    """Yield the capture of every model: of each attribute, and the mean over those that all models have."""
    asked = list(questions_of(group, cards, group.metrics))
    common = shared(group, asked)
    wanted = [(f"all of {len(common)}", common)] if by != "attribute" and common else []
    if by != "model":
        wanted += [(q.attribute or q.metric, [q]) for q in asked]
    for row in models_of(group):
        for name, questions in wanted:
            yield {
                "dataset": group.data,
                "budget": group.budget["name"],
                "device": group.device,
                "model": row.label,
                "role": row.role,
                "metric": "capture",
                "attribute": name,
                **asdict(capture(group, row, questions)),
                "unit": "",
                "better": "higher",
            }


def _rows(group: Group, by: str) -> Iterator[tuple[Row, Row | None]]:
    """Yield what a line is of: a row, or a row and the one that is taken from it."""
    if by == "pair":
        yield from ((b, a) for a, b in pairs_of(group))
    else:
        yield from ((row, None) for row in group.rows)


def _columns(group: Group, metric: str, by: str) -> Iterator[tuple[str | None, Attributes]]:
    """Yield what one metric is a number of: the mean over attributes, and each of them."""
    common, each = group.common(metric), group.attributes(metric)
    if each == (None,):
        yield None, each
        return
    if by != "attribute" and common:
        yield f"mean of {len(common)}", common
    if by != "model":
        yield from ((a, (a,)) for a in each)


def _csv(lines: Sequence[dict[str, Any]]) -> str:
    if not lines:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue().rstrip("\n")
