import importlib
import subprocess
import sys

import pytest

import lvmbench
from lvmbench.resolved import ENGINE


def test_every_public_name_is_there_and_no_other():
    assert set(lvmbench.__all__) == {"hookimpl", *lvmbench._WHERE}
    for name in lvmbench.__all__:
        assert getattr(lvmbench, name) is not None


def test_a_name_that_is_not_public_is_no_attribute():
    assert not hasattr(lvmbench, "cells_and_more")


def modules_after(code):
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_lvmbench_and_reading_its_catalog_imports_no_torch():
    loaded = modules_after(
        "from lvmbench.catalog import Catalog\n[Catalog.discover().items(n) for n in ('model', 'metric')]"
    )
    assert not {"torch", "pandas", "sklearn", "pydantic"} & loaded


@pytest.mark.parametrize("noun", ["models", "plugins"])
def test_listing_names_imports_no_torch(noun):
    loaded = modules_after(
        "from click.testing import CliRunner\nfrom lvmbench.cli import lvmbench as command\n"
        f"assert CliRunner().invoke(command, ['list', '{noun}']).exit_code == 0"
    )
    assert not {"torch", "numpy", "pandas", "sklearn"} & loaded


def test_what_training_computes_with_is_in_the_name_of_a_fit():
    loaded = modules_after("import lvmbench.training, lvmbench.evaluation, lvmbench.vae, lvmbench.resolved")
    nothing_computed = {
        "api", "calls", "catalog", "checkpoints", "data", "environment", "errors", "hookspecs", "options", "pages",
        "protocols", "records", "resolved", "standing", "statistics", "trials",
    }  # fmt: skip
    ours = {name for name in loaded if name.startswith("lvmbench.")}
    assert ours - {f"lvmbench.{name}" for name in nothing_computed} == set(ENGINE)


def test_help_and_completion_import_no_torch():
    loaded = modules_after(
        "from click.testing import CliRunner\nfrom lvmbench.cli import lvmbench as command\n"
        "from lvmbench.flags import complete\n"
        "CliRunner().invoke(command, ['run', '--help'])\nassert complete('model')(None, None, 'vae,be')"
    )
    assert not {"torch", "numpy", "pandas", "sklearn"} & loaded


def test_the_command_line_module_imports_nothing_but_click_and_the_errors():
    importlib.import_module("lvmbench.cli")
    loaded = modules_after("import lvmbench.cli")
    assert not {"torch", "numpy", "pydantic", "tabulate"} & loaded
