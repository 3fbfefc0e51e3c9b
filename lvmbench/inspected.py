"""An inspection as a person reads it, in 100 columns, and as a program does."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tabulate import tabulate

from lvmbench.data import Attribute
from lvmbench.findings import by_kind, named
from lvmbench.inspection import Column, Copy, Inspection

WIDTH = 100
FIRST = 5  # of each kind that are named unless all are asked for
VALUE = 28  # letters of a class
MANY = 20  # classes that are told one by one unless all are asked for


def as_text(name: str, found: Inspection, files: Sequence[Path] = (), *, every: bool = False) -> str:
    """Return an inspection as text: tables of counts and of labels, then all that is amiss."""
    shape = " × ".join(map(str, found.schema.shape))
    head = [f"{name}: pictures of {shape} (channels, height, width), {found.schema.pixels} pixels"]
    head += [f"  {path}" for path in files]
    limit = None if every else FIRST
    amiss = [
        line
        for tell in (_copies, _leaks, _findings)
        for title, named in tell(found)
        for line in _listed(title, named, limit)
    ]
    blocks = [
        head,
        [_splits(found)],
        [_labels(found, every)],
        list(_sources(found)),
        amiss or ["nothing amiss"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if any(block))


def as_json(name: str, found: Inspection) -> str:
    """Return all of an inspection as JSON."""
    return json.dumps({"data": name, "amiss": found.is_amiss, **asdict(found)}, indent=1)


def _splits(found: Inspection) -> str:
    """Return a table of pictures by split, and of the people on them where these are known."""
    people = [part.people for part in found.parts.values()]
    columns = {
        "split": list(found.parts),
        "pictures": [f"{part.pictures:,}" for part in found.parts.values()],
        "people": ["–" if count is None else f"{count:,}" for count in people],
    }
    if not any(people):
        del columns["people"]
    align = ("left", *["right"] * (len(columns) - 1))
    return tabulate(columns, headers="keys", disable_numparse=True, colalign=align)


def _labels(found: Inspection, every: bool) -> str:
    """Return a table of what share of the pictures of each split an attribute, or a class of it, is true of."""
    rows = [row for attribute in found.schema.attributes for row in _rows(found, attribute, every)]
    if not rows:
        return "no attributes"
    header = ["attribute", "kind", "value", *found.parts]
    align = ("left", "left", "left", *["right"] * len(found.parts))
    return tabulate(rows, header, disable_numparse=True, colalign=align)


def _rows(found: Inspection, attribute: Attribute, every: bool) -> Iterator[list[str]]:
    columns = [part.labels[attribute.name] for part in found.parts.values()]
    kind = "number" if attribute.is_number else attribute.kind
    lines = list(_number_lines(attribute) if attribute.is_number else _class_lines(attribute, columns, every))
    if any(column.missing for column in columns):
        lines.append(("missing", lambda c: _share(c.missing, c.known + c.missing)))
    for place, (value, tell) in enumerate(lines):
        first = [attribute.name, kind] if place == 0 else ["", ""]
        yield [*first, value, *map(tell, columns)]


Line = tuple[str, Callable[[Column], str]]


def _number_lines(attribute: Attribute) -> Iterator[Line]:
    unit = f", {attribute.unit}" if attribute.unit else ""
    yield f"mean ± sd{unit}", lambda c: "–" if c.mean is None else f"{c.mean:.3g} ± {c.sd:.3g}"
    yield "range", lambda c: "–" if c.low is None else f"{c.low:.3g} to {c.high:.3g}"


def _class_lines(attribute: Attribute, columns: Sequence[Column], every: bool) -> Iterator[Line]:
    names = attribute.classes or ("no", "yes")
    places = [1] if attribute.kind == "binary" else list(range(len(names)))
    titles = {place: names[place] for place in places}
    if len(places) > MANY and not every:
        order = sorted(places, key=lambda i: sum(column.classes[i] for column in columns))
        titles = {
            order[-1]: f"most of {len(names)}: {names[order[-1]]}",
            order[0]: f"fewest: {names[order[0]]}",
        }
    for place, title in titles.items():
        yield _cut(title), partial(_share_of, place)


def _share_of(place: int, column: Column) -> str:
    return _share(column.classes[place], column.known)


def _cut(text: str) -> str:
    return text if len(text) <= VALUE else f"{text[: VALUE - 1]}…"


def _share(count: int, of: int) -> str:
    """Return a share in percent; what is not there at all is told apart from what is rare."""
    if not count:
        return "none" if of else "–"
    percent = 100 * count / of
    return f"{percent:.1f} %" if percent >= 0.1 else f"{count:,}"


def _sources(found: Inspection) -> Iterator[str]:
    """Yield who decided the labels."""
    sources: dict[str, list[str]] = {}
    for attribute in found.schema.attributes:
        sources.setdefault(attribute.source, []).append(attribute.name)
    for source, names in sources.items():
        of = "" if len(sources) == 1 else f" ({', '.join(names)})"
        yield from textwrap.wrap(f"labels: {source}{of}", WIDTH, subsequent_indent="  ")


Told = Iterator[tuple[str, list[str]]]


def _copies(found: Inspection) -> Told:
    """Yield pictures with equal pixels: across splits, and within one, those whose labels disagree apart."""
    for where, across in (("across splits", True), ("within a split", False)):
        for with_others in (False, True):
            same = [c for c in found.copies if c.is_across == across and bool(c.disagree) == with_others]
            yield (
                f"equal pictures {where}{', with other labels' if with_others else ''}",
                list(map(_copy, same)),
            )


def _copy(copy: Copy) -> str:
    (split, row), (other, other_row) = copy.picture, copy.equals
    told = f": {', '.join(copy.disagree)}" if copy.disagree else ""
    return f"{split} row {row} = {other} row {other_row}{told}"


def _leaks(found: Inspection) -> Told:
    for leak in found.leaks:
        yield f"people of {' and '.join(leak.splits)}", [f"person {number}" for number in leak.people]


def _findings(found: Inspection) -> Told:
    for kind, same in by_kind(found.findings).items():
        yield kind, list(map(named, same))


def _listed(title: str, lines: Sequence[str], limit: int | None) -> Iterator[str]:
    """Yield a heading with its count, and the first lines under it."""
    if not lines:
        return
    yield f"{title}: {len(lines):,}"
    for line in lines[:limit]:
        yield from textwrap.wrap(
            line,
            WIDTH,
            initial_indent="  ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    if limit is not None and len(lines) > limit:
        yield f"  and {len(lines) - limit:,} more (--all)"
