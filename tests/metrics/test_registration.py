import importlib
import subprocess
import sys

import pytest

import lvmbench_metrics
from lvmbench import Metric


@pytest.mark.parametrize("name", lvmbench_metrics.lvmbench_metrics())
def test_every_name_leads_to_a_metric_with_a_docstring(name):
    entry = lvmbench_metrics.lvmbench_metrics()[name]
    module, attribute = entry.target.split(":")
    metric = getattr(importlib.import_module(module), attribute)
    assert isinstance(metric, Metric)
    assert metric.compute.__doc__
    assert metric.compute.__name__ == name.replace("-", "_")
    assert entry.summary


def test_listing_the_names_does_not_import_torch():
    code = "import sys, lvmbench_metrics as m; m.lvmbench_metrics(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
