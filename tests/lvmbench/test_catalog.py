import sys
import types

import pytest

import lvmbench
from lvmbench.catalog import Catalog, Plugin, modules_of, source_hash
from lvmbench.errors import PluginError, UsageError
from tests_support import plugin


def test_a_name_leads_to_its_entry_and_its_origin():
    item = Catalog([plugin("a", models={"vae": "json:dumps"})]).get("model", "vae")
    assert item.origin == "dist-a 1.0"
    assert item.load() is __import__("json").dumps


def test_an_unknown_name_is_told_with_the_nearest_and_all_that_are_known():
    catalog = Catalog([plugin("a", models={"vae": 1, "beta-vae": 2})])
    with pytest.raises(
        UsageError, match=r"No model 'bta-vae'. Did you mean 'beta-vae'\? Known: vae, beta-vae."
    ):
        catalog.get("model", "bta-vae")


def test_a_plugin_that_raises_hides_no_other():
    def broken():
        raise RuntimeError("not today")

    bad = types.ModuleType("bad")
    bad.lvmbench_models = lvmbench.hookimpl(broken)
    catalog = Catalog([Plugin("bad", "dist-bad", "0.1", "bad", "", bad), plugin("good", models={"vae": 1})])
    assert catalog.get("model", "vae").load() == 1
    assert [p.reason for p in catalog.broken] == ["RuntimeError: not today"]


def test_a_misspelt_hook_breaks_its_plugin():
    catalog = Catalog([plugin("typo", model={"vae": 1})])
    assert "lvmbench_model" in catalog.broken[0].reason


def test_an_unknown_name_tells_what_was_not_loaded():
    catalog = Catalog([plugin("typo", reason="ImportError: no module x")])
    with pytest.raises(UsageError, match=r"Not loaded: dist-typo 1.0 \(ImportError: no module x\)"):
        catalog.get("model", "vae")


def test_a_broken_plugin_that_is_asked_for_is_an_error_of_that_plugin():
    catalog = Catalog([plugin("typo", reason="ImportError: no module x")])
    with pytest.raises(PluginError, match="dist-typo 1.0 is not loaded: ImportError"):
        catalog.get("model", "dist-typo:vae")


def test_two_plugins_with_one_name_are_both_named_and_can_be_told_apart():
    catalog = Catalog([plugin("a", models={"vae": 1, "other": 3}), plugin("b", models={"vae": 2})])
    with pytest.raises(PluginError, match=r"dist-a 1.0 and dist-b 1.0. Say 'dist-a:vae' or 'dist-b:vae'"):
        catalog.get("model", "vae")
    assert catalog.get("model", "dist-b:vae").load() == 2
    assert catalog.get("model", "other").load() == 3


def test_a_target_that_cannot_be_imported_names_plugin_and_version():
    catalog = Catalog([plugin("a", version="2.3", models={"vae": "nowhere:VAE"})])
    with pytest.raises(PluginError, match=r"model 'vae' of dist-a 2.3 cannot be loaded from 'nowhere:VAE'"):
        catalog.get("model", "vae").load()


def test_disabled_plugins_are_not_loaded(monkeypatch):
    monkeypatch.setenv("LVMBENCH_DISABLE_PLUGINS", "faces")
    catalog = Catalog.discover()
    assert "faces" not in {p.name for p in catalog.plugins}
    assert "models" in {p.name for p in catalog.plugins}


def test_the_built_in_plugins_register_and_are_whole():
    catalog = Catalog.discover()
    assert not catalog.broken
    for noun in ("model", "metric", "dataset"):
        for item in catalog.items(noun):
            assert item.entry.summary, item.name
            assert item.load() is not None


@pytest.fixture
def package(tmp_path, monkeypatch):
    home = tmp_path / "sourcehashed"
    home.mkdir()
    (home / "__init__.py").write_text("")
    (home / "base.py").write_text("import json\n\nclass Base: pass\n")
    (home / "model.py").write_text("from sourcehashed.base import Base\n\nclass Model(Base): pass\n")
    (home / "other.py").write_text("X = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield home
    for name in [m for m in sys.modules if m.startswith("sourcehashed")]:
        del sys.modules[name]


def test_the_source_of_a_model_is_its_module_and_what_that_imports_from_its_package(package):
    from sourcehashed.model import Model

    def digest():
        source_hash.cache_clear()
        return source_hash(*modules_of(Model))

    before = digest()
    (package / "other.py").write_text("X = 2\n")
    assert digest() == before
    (package / "base.py").write_text("import json\n\nclass Base: x = 1\n")
    assert digest() != before


def test_relative_imports_and_submodules_count_as_source(package):
    (package / "near.py").write_text("class Near: pass\n")
    (package / "model.py").write_text(
        "from . import other\nfrom .near import Near\n\nclass Model(Near): pass\n"
    )
    before = source_hash("sourcehashed.model")
    for name in ("other", "near"):
        (package / f"{name}.py").write_text("X = 3\n")
        source_hash.cache_clear()
        assert source_hash("sourcehashed.model") != before
        before = source_hash("sourcehashed.model")
