"""Figures on speed, one thread: ``pytest tests/perf -o addopts= --benchmark-only``. Nothing here asserts a time."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.cells import take
from lvmbench.data import Attribute, Schema, Split
from lvmbench.evaluation import Evaluation
from lvmbench.plan import measures_of
from lvmbench.spec import Spec
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


@pytest.mark.parametrize("side", [178, 1000])
def test_decoding_100_jpegs(benchmark, side):
    from lvmbench_images.decode import Frame, decode

    pixels = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    benchmark(lambda: [decode(file.getvalue(), Frame(64)) for _ in range(100)])


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


def _labelled(rows, dims, attributes):
    """Codes of which each attribute is a noisy reading of one dimension, by split."""
    generator = torch.Generator().manual_seed(0)
    schema = Schema((1, 1, 1), "gaussian", tuple(Attribute(f"a{i}", "binary") for i in range(attributes)))
    splits, codes = {}, {}
    for first, (name, n) in enumerate(rows.items()):
        z = torch.randn(n, dims, generator=generator)
        shown = z[:, torch.arange(attributes) % dims]
        labels = (shown + torch.randn(shown.shape, generator=generator) > 0.5).float()
        nothing = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(n, 1, 1, 1)
        splits[name] = Split(nothing, labels, first * 10**6 + torch.arange(n))
        codes[f"{name}/mean"] = z
    model = SimpleNamespace(encode=lambda x: x.flatten(1))
    return lambda: Evaluation(model, schema, splits, Budget(), codes=codes)


FAMILIES = ("probes", "clusters", "disentanglement", "latents")


@pytest.mark.parametrize("family", [*FAMILIES, "all"])
def test_the_metrics_of_a_cell_of_20000_codes_of_64_dimensions_and_40_attributes(benchmark, family):
    catalog = Catalog.discover()
    measures = measures_of(Spec(metrics="full"), catalog)
    cards = {m.name: catalog.get("metric", m.name).load() for m in measures}
    read = [m for m in measures if cards[m.name].needs and set(cards[m.name].needs) <= {"codes", "labels"}]
    asked = [m for m in read if family in (cards[m.name].family, "all")]
    evaluation = _labelled({"train": 20_000, "val": 2_000, "test": 5_000}, 64, 40)

    def measure():
        ev = evaluation()
        return [score for m in asked for score, _ in take(ev, cards[m.name], m, "")]

    scores = benchmark.pedantic(measure, rounds=1)
    assert not [s for s in scores if s.status == "failed"]
