"""Every model learns at the default budget: it beats its own untrained self, with intervals apart. Some minutes."""

import math

import pytest
import torch

import lvmbench_models
from lvmbench import Batch, bounds, build, expected, fit, observe
from lvmbench.catalog import Catalog
from lvmbench.descent import objective
from lvmbench.protocols import capabilities
from lvmbench.randomness import noise
from lvmbench.spec import BUDGETS

BUDGET = BUDGETS["quick"]
ROWS, CHUNK, DRAWS = 512, 32, 8
# so many draws or pictures for each picture of a batch are a matter of minutes, not of learning
FEWER = {
    "ciwae": {"k": 8},
    "miwae": {"m": 2, "k": 4},
    "piwae": {"m": 2, "k": 4},
    "vamp-vae": {"pseudo_inputs": 50},
}
MODELS = [name for name, entry in lvmbench_models.lvmbench_models().items() if entry.role == "model"]


@pytest.fixture(scope="module")
def faces():
    data = Catalog.discover().get("dataset", "faces").load()(size=BUDGET.size)
    return data, data.split("train", BUDGET.train), data.split("val", BUDGET.val)


@pytest.fixture(scope="module")
def held_out(faces):
    data, _, _ = faces
    return data.split("test", ROWS).images


def chunks(model, images):
    x = observe(model.schema, images, torch.Generator().manual_seed(0))
    return x.split(CHUNK), images.split(CHUNK)


def objectives(model, images):
    """What the model minimises, a value for each batch: its loss, or where it fits itself -log p(x)."""
    seen, _ = chunks(model, images)
    if "fit" in capabilities(model):
        return torch.stack([-model.log_prob(x).mean() for x in seen])
    _, losses = objective(model)
    batches = [Batch(x, torch.zeros(len(x), 0)) for x in seen]
    return torch.stack([sum(next(iter(losses(b, 1.0).values())).values()) for b in batches])


def qualities(model, images):
    """How well it does what a table tells, a value a picture, lower is better: -ELBO, or the squared error."""
    seen, whole = chunks(model, images)
    has = capabilities(model)
    if "log_prob" in has:
        return torch.cat([-model.log_prob(x) for x in seen])
    if "log_weights" in has:
        return torch.cat([-bounds(model, x, DRAWS).elbo for x in seen])
    errors = [
        (model.decode(model.encode(x)).mean - expected(model.schema, images)).square().flatten(1).mean(1)
        for x, images in zip(seen, whole, strict=True)
    ]
    return torch.cat(errors)


def interval(values):
    reach = 1.96 * float(values.std()) / math.sqrt(len(values))
    return float(values.mean()) - reach, float(values.mean()) + reach


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_it_beats_its_untrained_self_with_intervals_apart(name, faces, held_out):
    data, train, val = faces
    kind = Catalog.discover().get("model", name).load()
    untrained, trained = (build(kind, data.schema, FEWER.get(name, {}), seed=0) for _ in range(2))
    fit(trained, train, val, BUDGET, data.schema, seed=0)
    for measure in (objectives, qualities):
        with torch.no_grad(), noise(0):
            before, after = (interval(measure(model.eval(), held_out)) for model in (untrained, trained))
        assert after[1] < before[0], measure.__name__
