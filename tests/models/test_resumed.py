"""What is trained in parts, each by a process that is killed, is what is trained at once: every model, bit for bit."""

import importlib

import pytest
import torch

import lvmbench_models
import tests_support
from lvmbench import Attribute, Budget, Schema, bodies, build, fit
from lvmbench import feed as feeds
from lvmbench.options import option_model
from lvmbench.protocols import capabilities
from tests_support import fit_in_parts

ENTRIES = lvmbench_models.lvmbench_models()
SMALL = {**tests_support.SMALL, "hidden": 8}
ROWS = 40
# 30 steps, looks after 2, 3, 5, 6, 8, ...; step 7 is the first beyond a fifth of them, where a milestone is
BUDGET = Budget(images=480, batch=16, train=ROWS, val=20)
PARTS = (6, 1, 9, 2)  # ends after a look and before a milestone, at the milestone, in an epoch, after a look


def kind_of(name):
    module, _, attribute = ENTRIES[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)


TRAINED = [
    n for n in ENTRIES if {"loss", "losses"} & capabilities(kind_of(n)) and not hasattr(kind_of(n), "fit")
]


def model_of(name, schema, **options):
    known = option_model(kind_of(name)).model_fields
    return build(kind_of(name), schema, {k: v for k, v in (SMALL | options).items() if k in known}, 0)


def assert_same_in_parts(make, path, *args, **how):
    whole = make()
    told = fit(whole, *args, seed=0, **how)
    parted, again = fit_in_parts(make, path, PARTS, *args, seed=0, **how)
    expected, found = whole.state_dict(), parted.state_dict()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    assert again == told
    assert not parted.training


@pytest.mark.parametrize("name", TRAINED)
def test_a_model_comes_to_the_same_weights_and_curve(name, schema, split, tmp_path):
    args = split(ROWS), split(20, 1), BUDGET, schema
    assert_same_in_parts(lambda: model_of(name, schema), tmp_path / "kept", *args)


@pytest.mark.parametrize("name", ["vae", "vq-vae", "vade", "supervised"])
def test_pictures_that_are_streamed_go_on_with_the_batch_that_is_next(
    name, schema, split, tmp_path, monkeypatch
):
    monkeypatch.setattr(feeds, "_room", lambda device: 0)
    args = split(ROWS), split(20, 1), BUDGET, schema
    assert_same_in_parts(lambda: model_of(name, schema), tmp_path / "kept", *args)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("net", ["conv", "resnet", "burda"])
def test_every_net_goes_on_however_its_weights_lie_in_memory(net, precision, split, tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "WORTH", 1)
    schema = Schema((1, 28, 28), "bernoulli", (Attribute("on", "binary"),))
    args = split(ROWS), split(20, 1), BUDGET, schema
    assert_same_in_parts(
        lambda: model_of("vae", schema, net=net), tmp_path / "kept", *args, precision=precision
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("name", TRAINED)
def test_on_a_gpu_too(name, schema, split, tmp_path):
    args = split(ROWS), split(20, 1), BUDGET, schema
    whole = model_of(name, schema)
    told = fit(whole, *args, seed=0, device="cuda")
    parted, again = fit_in_parts(
        lambda: model_of(name, schema), tmp_path / "kept", PARTS, *args, seed=0, device="cuda"
    )
    for a, b in zip(whole.state_dict().values(), parted.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)  # some sums on a GPU are in no fixed order
    assert [seen for seen, _ in again.curve] == [seen for seen, _ in told.curve]
