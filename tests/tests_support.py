"""What several tests build."""

import types
from collections.abc import Mapping

import lvmbench
from lvmbench.catalog import Catalog, Plugin


def plugin(name, dist="", version="1.0", reason="", **names):
    """Return a plugin whose hooks give these names: ``models={...}``, ``metrics={...}``."""
    module = types.ModuleType(name)
    for noun, given in names.items():
        setattr(module, f"lvmbench_{noun}", lvmbench.hookimpl(lambda given=given: given))
    return Plugin(name, dist or f"dist-{name}", version, name, reason, module)


def catalog_of(**names):
    """Return a catalog of one plugin."""
    return Catalog([plugin("a", **names)])


def total(loss):
    """Return a loss whole: the sum of its terms where it has names for them, [B] or []."""
    return sum(loss.values()) if isinstance(loss, Mapping) else loss
