"""Figures on speed, one thread: ``pytest tests/perf -o addopts= --benchmark-only``. Nothing here asserts a time."""

import pytest
import torch

from lvmbench.api import Budget, Schema, Split
from lvmbench.catalog import Catalog
from lvmbench.training import build, fit

STEPS, BATCH = 5, 64


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_rendering_256_faces(benchmark, size):
    faces = Catalog.discover().get("dataset", "faces").load()(size=size)
    benchmark.pedantic(faces.images, (range(256),), rounds=3, warmup_rounds=1)


def test_loading_2000_cached_faces(benchmark, tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path))
    faces = Catalog.discover().get("dataset", "faces").load()(size=32)
    faces.split("train", 2000)
    benchmark.pedantic(faces.split, ("train", 2000), rounds=3)


@pytest.mark.parametrize(
    ("name", "size"), [("vae", 32), ("vae", 64), ("lvmbench:iwae", 32), ("discrete", 32), ("supervised", 32)]
)
def test_five_training_steps(benchmark, name, size):
    model = Catalog.discover().get("model", name).load()
    schema = Schema(
        (3, size, size), "gaussian", Catalog.discover().get("dataset", "faces").load()().schema.attributes
    )
    budget = Budget("speed", images=STEPS * BATCH, batch=BATCH, val=16)
    rows = torch.arange(1024)
    labels = (rows[:, None] % 2).float().expand(-1, len(schema.attributes)).clone()
    images = torch.randint(0, 256, (1024, *schema.shape), dtype=torch.uint8)
    data = Split(images, labels, rows)

    def train():
        fit(build(model, schema, {}, 0), data, data.head(16), budget, schema, seed=0)

    benchmark.pedantic(train, rounds=3, warmup_rounds=1)
