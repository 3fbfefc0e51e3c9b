import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, with a cache and a data root of its own beside it."""
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LVMBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("LVMBENCH_DOWNLOAD", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"
