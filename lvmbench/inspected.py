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
from lvmbench.inspection import Column, Copy, Inspection, exact

WIDTH = 100
FIRST = 5  # of each kind that are named unless all are asked for
VALUE = 28  # letters of a class, or of an attribute
MANY = 20  # classes that are told one by one unless all are asked for


def as_text(name: str, found: Inspection, files: Sequence[Path] = (), *, every: bool = False) -> str:
    """Return an inspection as text: tables of counts and of labels, then all that is amiss."""
    shape = " × ".join(map(str, found.schema.shape))
    told = f"{name}: pictures of {shape} (channels, height, width), {found.schema.pixels} pixels"
    head = [*_wrapped(told, "", "  "), *(f"  {path}" for path in files)]
    if found.limit is not None:
        head.append(f"looked at the first {found.limit:,} of each split")
    limit = None if every else FIRST
    amiss = [
        f"no picture is in {name}: a run needs train, val and test"
        for name, part in found.parts.items()
        if not part.pictures
    ]
    amiss += [
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
        amiss or ["nothing amiss" if found.limit is None else "nothing amiss in these"],
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
    drawn = (_drawn(rows, list(found.parts), many) for many in range(len(found.parts), 0, -1))
    return next(
        (text for text in drawn if max(map(len, text.splitlines())) <= WIDTH),
        _drawn(rows, list(found.parts), 1),
    )


def _drawn(rows: Sequence[list[str]], parts: Sequence[str], many: int) -> str:
    """Return rows as tables of so many splits each."""
    blocks = []
    for start in range(0, len(parts), many):
        keep = [0, 1, 2, *range(3 + start, 3 + min(start + many, len(parts)))]
        header = ["attribute", "kind", "value", *parts[start : start + many]]
        align = ("left", "left", "left", *["right"] * (len(keep) - 3))
        cells = [[row[i] for i in keep] for row in rows]
        blocks.append(tabulate(cells, header, disable_numparse=True, colalign=align))
    return "\n\n".join(blocks)


def _rows(found: Inspection, attribute: Attribute, every: bool) -> Iterator[list[str]]:
    columns = [part.labels[attribute.name] for part in found.parts.values()]
    kind = "number" if attribute.is_number else attribute.kind
    lines = list(_number_lines(attribute) if attribute.is_number else _class_lines(attribute, columns, every))
    if any(column.missing for column in columns):
        lines.append(("missing", lambda c: _share(c.missing, c.known + c.missing)))
    for place, (value, tell) in enumerate(lines):
        first = [_cut(attribute.name), kind] if place == 0 else ["", ""]
        yield [*first, _cut(value), *map(tell, columns)]


Line = tuple[str, Callable[[Column], str]]


def _number_lines(attribute: Attribute) -> Iterator[Line]:
    unit = f", {attribute.unit}" if attribute.unit else ""
    yield f"mean ± sd{unit}", lambda c: "–" if c.mean is None else f"{exact(c.mean)} ± {exact(c.sd or 0.0)}"
    yield "range", lambda c: "–" if c.low is None else f"{exact(c.low)} to {exact(c.high or 0.0)}"


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
        yield title, partial(_share_of, place)


def _share_of(place: int, column: Column) -> str:
    return _share(column.classes[place], column.known)


def _cut(text: str) -> str:
    """Return a text in one line, cut where it is long."""
    text = " ".join(text.split())
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
                [_copy(copy, found) for copy in same],
            )


def _copy(copy: Copy, found: Inspection) -> str:
    told = f": {', '.join(copy.disagree)}" if copy.disagree else ""
    return f"{_place(found, *copy.picture)} = {_place(found, *copy.equals)}{told}"


def _place(found: Inspection, split: str, row: int) -> str:
    """Return which picture a row is: its file, where that is known."""
    return f"{split} '{found.names[row]}'" if row in found.names else f"{split} row {row}"


def _leaks(found: Inspection) -> Told:
    for leak in found.leaks:
        one, other = leak.splits
        shared = zip(leak.people, leak.rows, strict=True)
        yield (
            f"people of {one} and {other}",
            [f"person {p}: {_place(found, one, a)}, {_place(found, other, b)}" for p, (a, b) in shared],
        )


def _findings(found: Inspection) -> Told:
    for kind, same in by_kind(found.findings).items():
        yield kind, list(map(named, same))


def _listed(title: str, lines: Sequence[str], limit: int | None) -> Iterator[str]:
    """Yield a heading with its count, and the first lines under it."""
    if not lines:
        return
    yield f"{title}: {len(lines):,}"
    for line in lines[:limit]:
        yield from _wrapped(line, "  ", "    ")
    if limit is not None and len(lines) > limit:
        yield f"  and {len(lines) - limit:,} more (--all)"


def _wrapped(text: str, first: str, then: str) -> list[str]:
    """Return a text in lines, in which a path stays whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
    )
