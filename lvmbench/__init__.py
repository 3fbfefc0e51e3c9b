"""lvmbench: how well does the continuous latent z of a latent variable model capture what people name in a picture?

Everything public is here; a plugin needs no other module. Names are imported when first used, so that
``import lvmbench`` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lvmbench.hookspecs import hookimpl

if TYPE_CHECKING:
    from lvmbench.api import Budget, Entry, Estimate, Metric, Record, Score, Section, Value, metric
    from lvmbench.bodies import Exact
    from lvmbench.cache import cache_dir, cached, kept
    from lvmbench.data import Attribute, Dataset, Finding, Schema, Split
    from lvmbench.errors import (
        DataError,
        LvmbenchError,
        NotApplicable,
        PluginError,
        StoreError,
        TrainingError,
        UsageError,
    )
    from lvmbench.evaluation import Evaluation
    from lvmbench.explanation import explain
    from lvmbench.files import read_table
    from lvmbench.nets import Net, centre_at, decoder, encoder, start_at
    from lvmbench.objectives import Weights, bounds, elbo, iwae_bound, log_weights, rate_distortion, weigher
    from lvmbench.pixels import bits_per_dim, expected, gaussian, likelihood, mean_picture, observe
    from lvmbench.protocols import Batch, Loss, ParameterGroup
    from lvmbench.report import table
    from lvmbench.runner import Results, load, run
    from lvmbench.scoring import score
    from lvmbench.shelf import Made, Remark
    from lvmbench.statistics import holm
    from lvmbench.tabular import read_labels, table_of, texts
    from lvmbench.training import History, build, fit
    from lvmbench.vae import VAE, Autoencoder, diagonal

_HOME = {
    "lvmbench.api": ("Budget", "Entry", "Estimate", "Metric", "Record", "Score", "Section", "Value", "metric"),
    "lvmbench.bodies": ("Exact",),
    "lvmbench.cache": ("cache_dir", "cached", "kept"),
    "lvmbench.data": ("Attribute", "Dataset", "Finding", "Schema", "Split"),
    "lvmbench.errors": (
        "DataError", "LvmbenchError", "NotApplicable", "PluginError", "StoreError", "TrainingError", "UsageError",
    ),
    "lvmbench.evaluation": ("Evaluation",),
    "lvmbench.explanation": ("explain",),
    "lvmbench.files": ("read_table",),
    "lvmbench.nets": ("Net", "centre_at", "decoder", "encoder", "start_at"),
    "lvmbench.objectives": (
        "Weights", "bounds", "elbo", "iwae_bound", "log_weights", "rate_distortion", "weigher",
    ),
    "lvmbench.protocols": ("Batch", "Loss", "ParameterGroup"),
    "lvmbench.report": ("table",),
    "lvmbench.runner": ("Results", "load", "run"),
    "lvmbench.scoring": ("score",),
    "lvmbench.pixels": ("bits_per_dim", "expected", "gaussian", "likelihood", "mean_picture", "observe"),
    "lvmbench.shelf": ("Made", "Remark"),
    "lvmbench.statistics": ("holm",),
    "lvmbench.tabular": ("read_labels", "table_of", "texts"),
    "lvmbench.training": ("History", "build", "fit"),
    "lvmbench.vae": ("Autoencoder", "VAE", "diagonal"),
}  # fmt: skip
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "VAE",
    "Attribute",
    "Autoencoder",
    "Batch",
    "Budget",
    "DataError",
    "Dataset",
    "Entry",
    "Estimate",
    "Evaluation",
    "Exact",
    "Finding",
    "History",
    "Loss",
    "LvmbenchError",
    "Made",
    "Metric",
    "Net",
    "NotApplicable",
    "ParameterGroup",
    "PluginError",
    "Record",
    "Remark",
    "Results",
    "Schema",
    "Score",
    "Section",
    "Split",
    "StoreError",
    "TrainingError",
    "UsageError",
    "Value",
    "Weights",
    "bits_per_dim",
    "bounds",
    "build",
    "cache_dir",
    "cached",
    "centre_at",
    "decoder",
    "diagonal",
    "elbo",
    "encoder",
    "expected",
    "explain",
    "fit",
    "gaussian",
    "holm",
    "hookimpl",
    "iwae_bound",
    "kept",
    "likelihood",
    "load",
    "log_weights",
    "mean_picture",
    "metric",
    "observe",
    "rate_distortion",
    "read_labels",
    "read_table",
    "run",
    "score",
    "start_at",
    "table",
    "table_of",
    "texts",
    "weigher",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'lvmbench' has no public name '{name}'")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
