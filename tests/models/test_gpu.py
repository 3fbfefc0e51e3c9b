"""Every model on a CUDA device: it trains, and its numbers are those of the CPU to rounding. `pytest -m gpu`."""

import copy
import importlib

import pytest
import torch

import lvmbench_models
from lvmbench import NotApplicable, bounds, build, fit, observe
from lvmbench.protocols import capabilities
from lvmbench.testing import BUDGET, SCHEMAS, ToyData

ENTRIES = lvmbench_models.lvmbench_models()
FEWER = {"ciwae": {"k": 4}, "vamp-vae": {"pseudo_inputs": 8}}


def fitted(name, schema, device):
    module, _, attribute = ENTRIES[name].target.partition(":")
    model = build(getattr(importlib.import_module(module), attribute), schema, FEWER.get(name, {}), seed=0)
    data = ToyData(schema)
    fit(model, data.split("train"), data.split("val"), BUDGET, schema, seed=0, device=device)
    return model, observe(schema, data.split("test").images, torch.Generator().manual_seed(0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.pixels)
@pytest.mark.parametrize("name", ENTRIES)
def test_it_trains_on_a_gpu_and_tells_there_what_it_tells_on_the_cpu(name, schema):
    try:
        model, x = fitted(name, schema, "cuda")
    except NotApplicable as reason:
        pytest.skip(str(reason))
    here = copy.deepcopy(model).cpu()
    with torch.no_grad():
        if "codes" in capabilities(model):
            torch.testing.assert_close(model.encode(x.cuda()).cpu(), here.encode(x), atol=1e-3, rtol=1e-3)
        if "log_prob" in capabilities(model) and schema.pixels == "gaussian":
            torch.testing.assert_close(model.log_prob(x.cuda()).cpu(), here.log_prob(x), atol=0.5, rtol=1e-3)
        if "log_weights" in capabilities(model) and (
            schema.pixels == "gaussian" or "fit" not in capabilities(model)
        ):
            found = bounds(model, x.cuda(), 4)
            assert found.iwae.device.type == "cuda"
            assert found.iwae.isfinite().all()
            assert (found.elbo <= found.iwae + 1e-2).all()
