"""What holds for every model that the plugin registers."""

import importlib
import subprocess
import sys

import pytest
import torch

import lvmbench_models
from lvmbench import Attribute, Batch, NotApplicable, Schema, bounds, build, fit, observe
from lvmbench.descent import objective
from lvmbench.options import option_model
from lvmbench.protocols import capabilities
from lvmbench.testing import check_model

ENTRIES = lvmbench_models.lvmbench_models()
ISSUE = {
    "vae", "beta-vae", "annealed-vae", "iwae", "ciwae", "miwae", "piwae", "beta-tcvae", "factor-vae", "dip-vae-i",
    "dip-vae-ii", "info-vae", "wae", "sigma-vae", "vamp-vae", "vade", "gmvae", "hvae", "vq-vae", "discrete",
    "autoencoder", "pca", "factor-analysis", "gaussian-mixture", "made",
}  # fmt: skip
NO_CODES = {"made", "gender-only"}
SIZES = {
    "discrete": {"groups": 3, "classes": 4},
    "supervised": {"features": 8},
    "vq-vae": {"groups": 2, "latent_dim": 6, "codes": 8},
    "hvae": {"latent_dims": (3, 2)},
    "gaussian-mixture": {"components": 3},
    "made": {"hidden": 8},
    "pixels": {"size": 2},
    "gender-only": {"attribute": "Bright"},
    "majority": {},
}
DRAWS = {
    "ciwae": {"k": 3},
    "miwae": {"m": 2, "k": 3},
    "piwae": {"m": 2, "k": 3},
    "vamp-vae": {"pseudo_inputs": 4},
}
# they couple a batch, so that doubled rows are another batch: pairs of one picture, shuffled dimensions
COUPLED = {"beta-tcvae", "info-vae", "wae", "factor-vae", "annealed-vae"}


def load(name):
    module, _, attribute = ENTRIES[name].target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def small(name):
    sized = SIZES.get(name, {"latent_dim": 3}) | DRAWS.get(name, {})
    nets = "net" in option_model(load(name)).model_fields
    return sized | ({"net": "mlp"} if nets and name != "beta-vae" else {})


each = pytest.mark.parametrize("name", ENTRIES)
each_with_codes = pytest.mark.parametrize("name", [name for name in ENTRIES if name not in NO_CODES])


def test_the_whole_family_is_there():
    assert set(ENTRIES) >= ISSUE


def test_listing_the_models_imports_no_torch():
    code = "import sys, lvmbench_models; lvmbench_models.lvmbench_models(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_controls_are_marked_as_such():
    roles = {name: entry.role for name, entry in ENTRIES.items() if entry.role != "model"}
    others = dict.fromkeys(("pixels", "gender-only", "majority"), "control")
    assert roles == {"pca": "floor", "random-encoder": "floor", "supervised": "ceiling", **others}


@each
def test_it_meets_the_contract(name):
    check_model(load(name), **small(name))


@each
def test_its_card_starts_with_a_sentence_and_names_a_paper(name):
    kind = load(name)
    assert kind.__doc__.splitlines()[0].endswith(".")
    assert ENTRIES[name].role == "control" or any(character.isdigit() for character in kind.paper)
    assert ENTRIES[name].summary


@each_with_codes
def test_its_state_goes_through_a_file_and_comes_back(name, schema, split, budget, tmp_path):
    from safetensors.torch import load_file, save_file

    model = build(load(name), schema, small(name), 0)
    fit(model, split(80), split(20, 1), budget, schema, seed=0)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, tmp_path / "weights")
    other = build(load(name), schema, small(name), 1).eval()
    other.load_state_dict(load_file(tmp_path / "weights"))
    x = observe(schema, split(6, 2).images)
    torch.testing.assert_close(other.encode(x), model.encode(x), rtol=0, atol=1e-6)


@each_with_codes
def test_its_code_is_the_same_each_time_and_alone_or_in_company(name, schema, split, budget):
    model = build(load(name), schema, small(name), 0)
    fit(model, split(80), split(20, 1), budget, schema, seed=0)
    x = observe(schema, split(6, 2).images)
    torch.testing.assert_close(model.encode(x), model.encode(x), rtol=0, atol=0)
    torch.testing.assert_close(model.encode(x)[:2], model.encode(x[:2]), rtol=1e-4, atol=1e-5)


@each
def test_a_sample_of_z_varies_about_the_code_and_has_its_shape(name, schema, split):
    model = build(load(name), schema, small(name), 0).eval()
    views = getattr(model, "views", dict)()
    if "sample" not in views:
        pytest.skip("its code is sure")
    x = observe(schema, split(6, 2).images)
    with torch.no_grad():
        draws = torch.stack([views["sample"](x) for _ in range(400)])
        assert draws.shape[1:] == model.encode(x).shape
    assert (draws.std(0) > 0).all()


@each
def test_one_seed_gives_one_model(name, schema, split, budget):
    def weights(seed):
        model = build(load(name), schema, small(name), seed)
        told = fit(model, split(80), split(20, 1), budget, schema, seed=seed)
        return [t.clone() for t in model.state_dict().values()], told

    (a, curve), (b, again), (_, other) = weights(0), weights(0), weights(1)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert curve == again
    assert curve == other == type(curve)() or curve != other


@each
@pytest.mark.parametrize("pixels", ["bernoulli", "gaussian"])
def test_its_loss_is_a_mean_over_rows_whatever_the_batch(name, pixels):
    schema = Schema((1, 28, 28), pixels, (Attribute("on", "binary"),))
    if not {"loss", "losses"} & capabilities(load(name)) or name in COUPLED:
        pytest.skip("not trained by a loss, or by one that couples the batch")
    try:
        model = build(load(name), schema, small(name), 0).eval()
    except NotApplicable as reason:
        pytest.skip(str(reason))
    x = torch.rand(2, *schema.shape).round()
    _, losses = objective(model)

    def value(rows):
        batch = Batch(rows, torch.zeros(len(rows), 1))
        return sum(term for terms in losses(batch, 1.0).values() for term in terms.values())

    with torch.no_grad():
        once = torch.stack([value(x) for _ in range(60)])
        twice = torch.stack([value(x.repeat(4, 1, 1, 1)) for _ in range(30)])
    spread = (once.var() / 60 + twice.var() / 30).sqrt()
    assert abs(once.mean() - twice.mean()) <= 5 * spread + 1e-6 * abs(once.mean())


@each
def test_its_bounds_are_in_order(name, schema, split, budget):
    if "log_weights" not in capabilities(load(name)):
        pytest.skip("has no density")
    model = build(load(name), schema, small(name), 0)
    fit(model, split(80), split(20, 1), budget, schema, seed=0)
    found = bounds(model, observe(schema, split(20, 2).images), 32)
    assert (found.elbo <= found.iwae + 1e-3).all()
    torch.testing.assert_close(found.elbo, -(found.rate + found.distortion), rtol=1e-4, atol=1e-2)
    if hasattr(model, "log_prob"):
        exact = model.log_prob(observe(schema, split(20, 2).images))
        assert exact.shape == (20,)


@pytest.mark.parametrize("name", [name for name in ENTRIES if getattr(load(name), "seedless", False)])
def test_no_seed_changes_a_seedless_model(name, schema, split, budget):
    fits = [build(load(name), schema, small(name), seed) for seed in (0, 1)]
    for seed, model in enumerate(fits):
        fit(model, split(80), split(20, 1), budget, schema, seed=seed)
    x = observe(schema, split(6, 2).images)
    says = "log_prob" if hasattr(fits[0], "log_prob") else "encode"  # axes of equal variance may turn
    if hasattr(fits[0], says):
        torch.testing.assert_close(getattr(fits[0], says)(x), getattr(fits[1], says)(x), rtol=1e-3, atol=1e-3)
