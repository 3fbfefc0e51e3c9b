"""Names to plugins: who registered what, and what could not be loaded.

Entry points of the group ``lvmbench`` are loaded one by one. A plugin that fails is listed with its reason and
stops only the run that asks for it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

import pluggy

from lvmbench.api import Entry
from lvmbench.errors import PluginError, UsageError, nearest
from lvmbench.hookspecs import PROJECT, Hooks

Noun = Literal["model", "metric", "dataset", "executor", "explanation"]
NOUNS: tuple[Noun, ...] = ("model", "metric", "dataset", "executor", "explanation")
LIBRARIES = {"builtins", "torch", "abc", "typing", "sklearn", "numpy"}
PLURAL: Mapping[Noun, str] = {noun: f"{noun}s" for noun in NOUNS}


@dataclass(frozen=True)
class Plugin:
    """One entry point: where it came from, and why it does not work where it does not."""

    name: str
    dist: str
    version: str
    target: str
    reason: str = ""
    module: Any = field(default=None, repr=False, compare=False)

    @property
    def origin(self) -> str:
        """Return the distribution and its version."""
        return f"{self.dist} {self.version}"


@dataclass(frozen=True)
class Item:
    """One registered name."""

    noun: Noun
    name: str
    entry: Entry
    plugin: Plugin

    @property
    def full_name(self) -> str:
        """Return the name that no other plugin can take: ``dist:name``."""
        return f"{self.plugin.dist}:{self.name}"

    @property
    def origin(self) -> str:
        """Return the distribution and version that registered it."""
        return self.plugin.origin

    def load(self) -> Any:
        """Return the thing itself, importing its module now.

        Raises:
            PluginError: if the import fails or the module has no such attribute.
        """
        target = self.entry.target
        if not isinstance(target, str):
            return target
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise PluginError(
                f"{self.noun} '{self.name}' of {self.origin} cannot be loaded from '{target}': "
                f"{type(error).__name__}: {error}"
            ) from error


class Catalog:
    """Every name that a plugin registered, and every plugin, broken ones too."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(Hooks)
        self.plugins: list[Plugin] = []
        self._items: dict[Noun, dict[str, list[Item]]] = {noun: {} for noun in NOUNS}
        for plugin in plugins:
            self._admit(plugin)

    @classmethod
    def discover(cls) -> Catalog:
        """Return the catalog of all installed plugins, but those that ``LVMBENCH_DISABLE_PLUGINS`` names."""
        disabled = set(filter(None, os.environ.get("LVMBENCH_DISABLE_PLUGINS", "").split(",")))
        found = sorted(entry_points(group=PROJECT), key=lambda ep: (_dist(ep) != PROJECT, _dist(ep), ep.name))
        return cls(_load(ep) for ep in found if not {ep.name, _dist(ep)} & disabled)

    def _admit(self, plugin: Plugin) -> None:
        if not plugin.reason:
            try:
                items = list(_registered(plugin))
                self.manager.register(plugin.module, f"{plugin.dist}/{plugin.name}")
            except Exception as error:
                plugin = replace(plugin, reason=f"{type(error).__name__}: {error}", module=None)
            else:
                for item in items:
                    self._items[item.noun].setdefault(item.name, []).append(item)
        self.plugins.append(plugin)

    @cached_property
    def broken(self) -> list[Plugin]:
        """Return the plugins that could not be loaded."""
        return [p for p in self.plugins if p.reason]

    def items(self, noun: Noun) -> list[Item]:
        """Return all items of a noun in the order of their registration, contested names too."""
        return [item for same in self._items[noun].values() for item in same]

    def get(self, noun: Noun, name: str) -> Item:
        """Return the item of this name; ``dist:name`` tells two plugins' equal names apart.

        Raises:
            UsageError: if no plugin registers the name.
            PluginError: if two plugins do, or the plugin that is named by ``dist:`` is broken.
        """
        dist, _, short = name.rpartition(":")
        same = [i for i in self._items[noun].get(short, []) if dist in ("", i.plugin.dist)]
        if not same:
            raise self._unknown(noun, name, dist)
        if len(same) > 1:
            origins = " and ".join(item.origin for item in same)
            choices = " or ".join(f"'{item.plugin.dist}:{short}'" for item in same)
            raise PluginError(f"Two plugins give the {noun} '{short}': {origins}. Say {choices}.")
        return same[0]

    def _unknown(self, noun: Noun, name: str, dist: str) -> Exception:
        for plugin in self.broken:
            if plugin.dist == dist:
                return PluginError(f"No {noun} '{name}': {plugin.origin} is not loaded: {plugin.reason}.")
        known = list(self._items[noun])
        not_loaded = "".join(f" Not loaded: {p.origin} ({p.reason})." for p in self.broken)
        listed = ", ".join(known) or "none"
        return UsageError(f"No {noun} '{name}'.{nearest(name, known)} Known: {listed}.{not_loaded}")


def _dist(ep: EntryPoint) -> str:
    return ep.dist.name if ep.dist else "unknown"


def _load(ep: EntryPoint) -> Plugin:
    plugin = Plugin(ep.name, _dist(ep), ep.dist.version if ep.dist else "?", ep.value)
    try:
        return replace(plugin, module=ep.load())
    except (Exception, SystemExit) as error:  # a stranger's module may do anything when imported
        return replace(plugin, reason=f"{type(error).__name__}: {error}")


def _registered(plugin: Plugin) -> Iterator[Item]:
    """Yield what one plugin registers, checked alone so that it cannot hide others."""
    alone = pluggy.PluginManager(PROJECT)
    alone.add_hookspecs(Hooks)
    alone.register(plugin.module)
    alone.check_pending()
    for noun in NOUNS:
        for names in getattr(alone.hook, f"lvmbench_{PLURAL[noun]}")():
            for name, value in names.items():
                yield Item(noun, name, value if isinstance(value, Entry) else Entry(value), plugin)


def modules_of(target: Any) -> list[str]:
    """Return the modules of a class and of its bases, or of a function; torch's and Python's own do not count."""
    classes = target.__mro__ if isinstance(target, type) else (target,)
    return sorted({c.__module__ for c in classes if c.__module__.partition(".")[0] not in LIBRARIES})


@lru_cache
def source_hash(*modules: str) -> str:
    """Return a digest of the source of modules, and of what these import from their own package.

    Other libraries do not count: their versions stand in the record.
    """
    seen: dict[str, bytes] = {}
    for module in modules:
        _collect(module, seen)
    digest = hashlib.sha256()
    for module in sorted(seen):
        digest.update(module.encode() + b"\0" + seen[module])
    return digest.hexdigest()


def _collect(module: str, seen: dict[str, bytes]) -> None:
    source = _source(module)
    if module in seen or source is None:
        return
    seen[module] = source
    for node in ast.walk(ast.parse(source)):
        for name in _imports(node, module):
            if name.partition(".")[0] == module.partition(".")[0]:
                _collect(name, seen)


def _imports(node: ast.AST, module: str) -> Iterator[str]:
    """Yield the modules that a statement may import, relative ones too; a name may turn out to be no module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        home = node.module or ""
        if node.level:
            spec = importlib.util.find_spec(module)
            here = module if spec and spec.submodule_search_locations else module.rpartition(".")[0]
            home = importlib.util.resolve_name("." * node.level + home, here)
        yield home
        yield from (f"{home}.{alias.name}" for alias in node.names)


def _source(module: str) -> bytes | None:
    try:
        spec = importlib.util.find_spec(module) if module != "__main__" else None
    except (ImportError, ValueError):
        return None
    origin = Path(spec.origin) if spec and spec.origin else None
    return origin.read_bytes() if origin and origin.suffix == ".py" and origin.exists() else None
