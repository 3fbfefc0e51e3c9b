import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Keep tests apart from what else the machine does: threads that wait for each other wait long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder into which the test plugins are installed, each a distribution of its own."""
    target = tmp_path_factory.mktemp("site")
    sources = [str(path.parent) for path in sorted(PLUGINS.glob("*/pyproject.toml"))]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--disable-pip-version-check", "--target", str(target), *sources], check=True)
    return target


@pytest.fixture
def strangers(installed, monkeypatch):
    """Make the test plugins visible to this process and to those that it starts."""
    monkeypatch.syspath_prepend(installed)
    path = os.pathsep.join(filter(None, [str(installed), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)
    return installed
