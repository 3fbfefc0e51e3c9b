"""What several tests build."""

import gc
import sys
import types
from collections import Counter
from collections.abc import Mapping

import pytest

import lvmbench
from lvmbench import fit
from lvmbench.catalog import Catalog, Plugin
from lvmbench.checkpoints import Checkpoints

SMALL = {
    "net": "mlp",
    "latent_dim": 4,
    "latent_dims": (3, 2),
    "groups": 2,
    "classes": 3,
    "codes": 6,
    "components": 3,
    "pseudo_inputs": 4,
    "features": 6,
    "k": 3,
    "m": 2,
}  # options under which any model of the catalog is small
SLACK = 1.1  # of what twice the work may cost beyond twice the calls


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


class KilledError(BaseException):
    """The process is gone: nobody catches it."""


class Cut(Checkpoints):
    """Writes a checkpoint after so many further steps, and dies of it; by default it does neither."""

    def __init__(self, path, after=None, made=None):
        super().__init__(path, made or {"fit": "a"})
        self.after = after

    def due(self):
        if self.after is not None:
            self.after -= 1
        return self.after == 0

    def write(self, found):
        super().write(found)
        raise KilledError


def fit_in_parts(model, path, parts, *args, **kwargs):
    """Fit a new model of ``model()`` in so many processes as there are parts and one, each killed but the last."""
    for after in parts:
        with pytest.raises(KilledError):
            fit(model(), *args, keep=Cut(path, after), **kwargs)
    last = model()
    return last, fit(last, *args, keep=Cut(path), **kwargs)


def calls(work):
    """Return how many functions are called, Python's own too, to do some work."""
    count = Counter()
    gc.collect()
    gc.disable()  # what others left to be cleared away is none of this
    sys.setprofile(lambda frame, event, what: count.update([event]))
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count["call"] + count["c_call"]


def assert_linear(cost):
    """Fail unless ``cost(n)`` calls grow no faster than n."""
    cost(2)  # what is done once is done
    few, many = cost(40), cost(80)
    assert few > 40
    assert many < 2 * SLACK * few


def slopes(adam):
    """Return the gradients of an optimiser's first step: its mean of them is their share of it."""
    means = (mean for _, mean, _ in adam.moments)
    return {p: mean / (1 - adam.betas[0]) for p, mean in zip(adam.parameters, means, strict=True)}
