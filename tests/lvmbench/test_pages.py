import sys
from types import SimpleNamespace

import pytest

from lvmbench import cells, environment, pages
from lvmbench.environment import Phases


def test_free_pages_are_given_back_where_the_c_library_can_and_nothing_happens_elsewhere(monkeypatch):
    asked = []
    monkeypatch.setattr(pages, "_trim", lambda: asked.append)
    pages.give_back()
    assert asked == [0]
    monkeypatch.setattr(pages, "_trim", lambda: None)
    pages.give_back()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc gives pages back")
def test_what_is_found_can_be_called():
    pages.give_back()


def test_a_c_library_that_cannot_is_told_by_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "elsewhere")
    pages._trim.cache_clear()
    assert pages._trim() is None
    pages._trim.cache_clear()


def test_a_phase_begins_with_no_more_memory_than_is_in_use(monkeypatch):
    told = []
    monkeypatch.setattr(environment, "give_back", lambda: told.append("given back"))
    phases = Phases()
    monkeypatch.setattr(phases, "_start", lambda: told.append("counted from here"))
    with phases("fit"):
        assert told == ["given back", "counted from here"]


def test_pages_are_given_back_after_each_metric(monkeypatch):
    told = []
    monkeypatch.setattr(cells, "give_back", lambda: told.append("given back"))
    monkeypatch.setattr(cells, "take", lambda ev, metric, measure, key: told.append(metric) or iter(()))
    measures = [SimpleNamespace(name=name, key=lambda cell: "") for name in ("elbo", "rate")]
    catalog = SimpleNamespace(get=lambda noun, name: SimpleNamespace(load=lambda: name))
    cells.measured(None, SimpleNamespace(measures=measures, cell=None), catalog, lambda *progress: None)
    assert told == ["elbo", "given back", "rate", "given back"]
