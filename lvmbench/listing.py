"""What there is, told: names with their origin, and one page about each."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from tabulate import tabulate

from lvmbench.api import Entry
from lvmbench.catalog import NOUNS, Catalog, Item, Noun
from lvmbench.data import Attribute
from lvmbench.errors import LvmbenchError, PluginError, UsageError, nearest
from lvmbench.findings import check_command
from lvmbench.options import option_model
from lvmbench.protocols import CAPABILITIES, capabilities

WIDTH = 100
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def names(catalog: Catalog, noun: str) -> str:
    """Return the names of one noun, what they are, and where they came from; imports none of them."""
    items = [item for each in NOUNS if each == noun for item in catalog.items(each)]
    rows = [[i.name, i.entry.summary + _remark(i.entry), i.origin] for i in items]
    table = tabulate(rows, [noun, "what it is", "from"], maxcolwidths=[None, 56, None])
    return "\n".join([table, *_not_loaded(catalog)])


def _remark(entry: Entry) -> str:
    if entry.taken != "by default":
        return f" ({entry.taken})"
    return "" if entry.role == "model" else f" ({entry.role})"


def plugins(catalog: Catalog) -> str:
    """Return every plugin, what it registers, and why a broken one does not work."""
    rows = []
    for plugin in catalog.plugins:
        items = [i for noun in NOUNS for i in catalog.items(noun) if i.plugin == plugin]
        told = f"broken: {plugin.reason}" if plugin.reason else ", ".join(i.name for i in items)
        rows.append([f"{plugin.dist}/{plugin.name}", plugin.version, textwrap.fill(told, 64)])
    return tabulate(rows, ["plugin", "version", "registers"])


def _not_loaded(catalog: Catalog) -> Iterator[str]:
    if catalog.broken:
        yield ""
    for plugin in catalog.broken:
        yield textwrap.fill(f"not loaded: {plugin.origin}: {plugin.reason}", WIDTH, subsequent_indent="  ")


def find(catalog: Catalog, name: str) -> list[Item]:
    """Return every item of this name, whatever it is.

    Raises:
        UsageError: if there is none.
    """
    found = [catalog.get(noun, name) for noun in NOUNS if _exists(catalog, noun, name)]
    if not found:
        known = [item.name for noun in NOUNS for item in catalog.items(noun)]
        raise UsageError(
            f"Nothing is named '{name}'.{nearest(name, known)} See `lvmbench list models|metrics|datasets`."
        )
    return found


def _exists(catalog: Catalog, noun: Noun, name: str) -> bool:
    dist, _, short = name.rpartition(":")
    return any(i.name == short and dist in ("", i.plugin.dist) for i in catalog.items(noun))


def page(catalog: Catalog, name: str) -> str:
    """Return all that is known of a name: options with types and defaults, capabilities, paper, what it needs."""
    return "\n\n".join(_page(item) for item in find(catalog, name))


def _page(item: Item) -> str:
    target = item.load()
    tell = {"model": _model, "metric": _metric, "dataset": _dataset}.get(item.noun, _plain)
    told = tell(target)
    article = "an" if item.noun[0] in "aeiou" else "a"
    title = f"{item.name}: {article} {item.noun} of {item.origin}"
    return "\n".join([title, "=" * len(title), *told])


def _plain(target: Any) -> Iterator[str]:
    yield inspect.getdoc(target) or "(no description)"
    yield from _options(target)


def _model(target: Any) -> Iterator[str]:
    yield inspect.getdoc(target) or "(no description)"
    if paper := getattr(target, "paper", ""):
        yield f"\npaper: {paper}"
    has = capabilities(target)
    yield f"gives: {', '.join(name for name in CAPABILITIES if name in has) or 'nothing that the bench can measure'}"
    yield from _options(target)


def _metric(target: Any) -> Iterator[str]:
    yield inspect.getdoc(target.compute) or "(no description)"
    if target.paper:
        yield f"\npaper: {target.paper}"
    low, high = ("" if bound is None else f"{bound:g}" for bound in target.bounds)
    facts = {
        "better": target.better,
        "unit": target.unit or "none",
        "range": f"{low} to {high}" if low or high else "any",
        "chance": "" if target.chance is None else f"{target.chance:g}",
        "needs": ", ".join(target.needs) or "nothing",
        "table": f"{target.family or 'main'}{' and main' if target.family and target.main else ''} (--show)",
        "version": str(target.version),
    }
    yield "\n".join(f"{key}: {value}" for key, value in facts.items() if value)
    yield from _options(target.compute)


def _dataset(target: Any) -> Iterator[str]:
    yield inspect.getdoc(target) or "(no description)"
    fields = option_model(target).model_fields
    try:
        if needed := [name for name, field in fields.items() if field.is_required()]:
            raise UsageError(f"it depends on {', '.join(needed)}. `lvmbench data check` tells it.")
        schema = target().schema
    except (LvmbenchError, TypeError) as error:
        yield f"\nits schema is not known here: {error}"
    else:
        yield f"\npictures: {' × '.join(map(str, schema.shape))} (channels, height, width); {schema.pixels} pixels"
        rows = [[a.name, a.kind, textwrap.fill(_values(a), 44), a.source] for a in schema.attributes]
        yield "\n" + tabulate(rows, ["attribute", "kind", "values", "labels from"])
    yield from _options(target)


def _values(attribute: Attribute) -> str:
    if attribute.is_number:
        return f"a number in {attribute.unit}" if attribute.unit else "a number"
    return ", ".join(attribute.classes) or "no, yes"


def _options(target: Any) -> Iterator[str]:
    fields = option_model(target).model_fields
    if not fields:
        yield "\nno options"
        return
    rows = [
        [name, _type(field), "(needed)" if field.is_required() else _plain_value(field.default)]
        for name, field in fields.items()
    ]
    yield "\n" + tabulate(rows, ["option", "type", "default"], disable_numparse=True)


def _type(field: FieldInfo) -> str:
    """Return the type of an option with its range or its values: ``float > 0``, ``mws | mss``."""
    return field.description or _named(field.annotation, field.metadata)


def _named(kind: Any, metadata: Sequence[Any] = ()) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) is Annotated:
        kind, *metadata = get_args(kind)
    if get_origin(kind) is tuple:
        least = next((m.min_length for m in metadata if hasattr(m, "min_length")), 0)
        return f"{least} or more of {_named(get_args(kind)[0])}"
    name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    limits = [(sign, getattr(m, key)) for m in metadata for key, sign in SIGNS.items() if hasattr(m, key)]
    return " ".join([name, ", ".join(f"{sign} {limit:g}" for sign, limit in limits)]).rstrip()


def _plain_value(value: Any) -> str:
    return value if isinstance(value, str) and value else repr(value)


def draw(catalog: Catalog, name: str, path: Path) -> Path:
    """Write the contact sheet of a data set to a file, and return its path.

    Raises:
        UsageError: if the file cannot be written.
        PluginError: if the data set draws none.
    """
    from lvmbench.resolved import dataset_of  # with torch, for which a list of names does not wait

    label, dataset = dataset_of(catalog, name)
    if not hasattr(dataset, "grid"):
        raise PluginError(
            f"data set '{label}' draws no contact sheet of its own (it has no method grid). "
            f"One of its first pictures: {check_command(name, '--sheet', str(path))}"
        )
    try:
        dataset.grid().save(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: the contact sheet cannot be written ({error}).") from error
    return path
