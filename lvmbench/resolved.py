"""What a name and its options come to: the fields of a cell that tell its model, or its data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvmbench.api import Budget
from lvmbench.bodies import bodies
from lvmbench.calls import UNNAMED, Call, parse_calls
from lvmbench.catalog import Catalog, Item, modules_of, source_hash
from lvmbench.data import Dataset, Schema
from lvmbench.errors import NotApplicable, PluginError, UsageError
from lvmbench.options import option_model, resolve
from lvmbench.protocols import FitsItself
from lvmbench.randomness import noise

ENGINE = tuple(
    f"lvmbench.{name}"
    for name in (
        "training",
        "convergence",
        "members",
        "ways",
        "tape",
        "replays",
        "mapped",
        "stacks",
        "branches",
        "graphs",
        "cohorts",
        "descent",
        "adam",
        "feed",
        "randomness",
        "nets",
        "bodies",
        "products",
        "convolutions",
        "vae",
        "objectives",
        "pixels",
        "evaluation",
    )
)

DROP = "drop_duplicates"


def model_fields(item: Item, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a cell that tell its model."""
    target = item.load()
    options = resolve(item.name, target, given)
    nets = [value for value in options.values() if isinstance(value, str) and "." in value]  # a plugin's own
    return {
        "model": item.full_name,
        "model_options": options,
        "model_source": digest([item.origin, source_hash(*modules_of(target), *nets, *ENGINE)]),
        "role": item.entry.role,
        "seedless": bool(getattr(target, "seedless", False)),
        "label": label_of(item, options),
    }


def label_of(item: Item, options: Mapping[str, Any]) -> str:
    """Return a name with the options that differ from their defaults, as a person would write it.

    Those that a class lists in ``named`` are always told.
    """
    defaults, named = option_model(item.load()).model_fields, getattr(item.load(), "named", ())
    changed = {k: v for k, v in options.items() if k in named or v != defaults[k].get_default()}
    whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in changed.items()}
    return str(Call(item.name, whole))


@dataclass(frozen=True)
class Data:
    """A data set: as it is built, and the fields of a cell that tell it."""

    dataset: Dataset
    fields: Mapping[str, Any]


def without_duplicates(catalog: Catalog, item: Item, call: Call) -> Call:
    """Return a data set asked for with one picture of those that are equal.

    Raises:
        UsageError: if it has no such option; names the data sets that have it.
    """
    if DROP in option_model(item.load()).model_fields:
        return replace(call, options={**call.options, DROP: True})
    able = ", ".join(other.name for other in catalog.items("dataset") if _drops(other))
    raise UsageError(
        f"{item.name} has no option {DROP}, which --drop-duplicates sets. These data sets have it: {able or 'none'}."
    )


def _drops(item: Item) -> bool:
    try:
        return DROP in option_model(item.load()).model_fields
    except PluginError:  # it is told where it is asked for
        return False


def data_of(item: Item, call: Call, budget: Budget) -> Data:
    """Return a data set with the fields of a cell that tell it."""
    factory = item.load()
    options = resolve(call.name, factory, call.options)
    if "size" in options and "size" not in call.options and budget.size is not None:
        options = resolve(call.name, factory, {**call.options, "size": budget.size})
    dataset: Dataset = factory(**options)
    fields = {
        "dataset": item.full_name,
        "dataset_options": options,
        "dataset_label": str(getattr(dataset, "title", "")) or label_of(item, options),
        "fingerprint": content_of(dataset),
    }
    return Data(dataset, fields)


def content_of(dataset: Dataset) -> str:
    """Name what is in a data set: its rows, and what its schema makes of them."""
    schema = dataset.schema
    attributes = [(a.name, a.kind, a.classes) for a in schema.attributes]
    return digest([dataset.fingerprint, schema.shape, schema.pixels, attributes, schema.identities])


def dataset_of(catalog: Catalog, text: str, *, drop_duplicates: bool = False) -> tuple[str, Dataset]:
    """Return the data set that a text such as ``images(root=faces)`` asks for, and what tables call it.

    Raises:
        UsageError: if it does not exist, has no such option, or is not one alone.
    """
    try:
        calls = parse_calls(text)
    except UsageError as error:
        raise UsageError(f"{error}{_of_path(catalog, text)}") from None
    if len(calls) != 1:
        raise UsageError(f"'{text}' asks for {len(calls)} data sets. Name one.")
    item = catalog.get("dataset", calls[0].name)
    call = without_duplicates(catalog, item, calls[0]) if drop_duplicates else calls[0]
    found = data_of(item, call, Budget())
    return str(found.fields["dataset_label"]), found.dataset


def _of_path(catalog: Catalog, text: str) -> str:
    """Return `` '...' is a path: images(...) reads it.`` where a text is one, and a data set needs its root alone."""
    asked = (
        str(Call(item.name, {UNNAMED: text})) for item in catalog.items("dataset") if _needs(item) == ["root"]
    )
    readers = " or ".join(asked) if Path(text).exists() else ""
    return f" It is a path: {readers} reads it." if readers else ""


def _needs(item: Item) -> list[str]:
    try:
        return [name for name, field in option_model(item.load()).model_fields.items() if field.is_required()]
    except PluginError:  # it is told where it is asked for
        return []


def code_size(catalog: Catalog, schema: Schema, model: Mapping[str, Any]) -> int | None:
    """Return how many variables a model's code has, None where it has none or tells only once it is fitted.

    The model is built, and encodes a black picture. What else goes wrong here goes wrong in its cell as well, and
    is told there.

    Raises:
        UsageError: if its constructor refuses options that go ill together.
        NotApplicable: if its constructor says that it cannot be had of these data.
    """
    import torch

    kind = catalog.get("model", model["model"]).load()
    try:
        # not on "meta", where torch loads its compiler: a second and 150 MiB
        with noise(0), torch.no_grad():
            built = kind(schema, **model["model_options"])
            width = int(built.encode(torch.zeros(1, *schema.shape)).flatten(1).shape[1])
            return int(getattr(built, "latents", width))
    except NotApplicable:
        raise
    except UsageError as error:
        raise UsageError(f"{model['label']}: {error}") from None
    except (Exception, SystemExit):
        return None


def has_bodies(catalog: Catalog, schema: Schema, model: Mapping[str, Any]) -> bool:
    """Return whether a model is trained by gradients, and has networks whose precision can be chosen."""
    kind = catalog.get("model", model["model"]).load()
    try:
        with noise(0):
            built = kind(schema, **model["model_options"])
            return not isinstance(built, FitsItself) and bool(bodies(built))
    except (Exception, SystemExit):  # its cell will tell
        return False


def digest(value: Any) -> str:
    """Return a name for a value that differs whenever the value does."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
