import itertools
from typing import ClassVar

import pytest
import torch
from torch import nn

import lvmbench
from lvmbench import VAE, Attribute, NotApplicable, Schema, Section, Split
from lvmbench.bodies import Body
from lvmbench.catalog import Catalog
from lvmbench.testing import (
    ContractError,
    RowMeans,
    ToyData,
    check_dataset,
    check_explanation,
    check_metric,
    check_model,
)

COUNTER = itertools.count()


class Model(torch.nn.Module):
    """A whole small model: its faults are what the tests add."""

    def __init__(self, schema):
        super().__init__()
        self.mean = torch.nn.Linear(schema.dims, 2)

    def encode(self, x):
        return self.mean(x.flatten(1))

    def loss(self, x):
        return self.encode(x).square().sum(1)


def faults(check, thing, **options):
    with pytest.raises(ContractError) as told:
        check(thing, **options)
    return str(told.value)


def test_a_model_that_meets_the_contract_passes():
    check_model(Model)


@pytest.mark.parametrize("item", Catalog.discover().items("model"), ids=lambda item: item.name)
def test_every_built_in_model_meets_the_contract(item):
    check_model(item.load())


def test_a_model_that_offers_nothing_is_told():
    class Nothing:
        def __init__(self, schema):
            pass

    assert "offers none of codes, row_codes, decoder" in faults(check_model, Nothing)


def test_a_model_that_cannot_learn_is_told():
    assert "cannot learn" in faults(
        check_model, type("Frozen", (), {"__init__": lambda s, x: None, "encode": id})
    )


def test_a_model_that_cannot_be_built_is_told_with_the_error():
    class Unbuilt(Model):
        def __init__(self, schema):
            raise RuntimeError("too small")

    assert "RuntimeError: too small" in faults(check_model, Unbuilt)


def test_a_code_that_is_drawn_anew_is_told():
    class Noisy(Model):
        def encode(self, x):
            return super().encode(x) + torch.rand(1)

    assert "another code on each call" in faults(check_model, Noisy)


def test_a_code_that_depends_on_its_neighbours_is_told():
    class Batchy(Model):
        def encode(self, x):
            codes = super().encode(x)
            return codes - codes.mean(0)

    assert "depends on the others in its batch" in faults(check_model, Batchy)


def test_a_code_of_the_wrong_shape_is_told():
    class Flat(Model):
        def encode(self, x):
            return super().encode(x)[:, 0]

        def loss(self, x):
            return self.encode(x).square()

    assert "encode gives [8] for a batch of 8: want [8, D]" in faults(check_model, Flat)


def test_a_loss_of_the_wrong_shape_is_told():
    class Wide(Model):
        def loss(self, x):
            return self.encode(x).square()

    assert "loss has shape [8, 2] for a batch of 8" in faults(check_model, Wide)


def test_a_term_of_the_wrong_shape_or_not_finite_is_told_by_its_name():
    class Terms(Model):
        def loss(self, x):
            return {"wide": self.encode(x).square(), "endless": x.sum() / (len(x) - 8)}

    told = faults(check_model, Terms)
    assert "loss 'wide' has shape [8, 2] for a batch of 8" in told
    assert "loss 'endless' is not finite" in told


def test_the_losses_of_several_groups_are_checked_each():
    class Several(Model):
        def parameter_groups(self):
            return {"all": self.parameters()}

        def losses(self, batch, progress):
            return {"all": self.encode(batch.x).square()}

    assert "all has shape [8, 2] for a batch of 8" in faults(check_model, Several)


def test_randomness_of_its_own_is_told():
    class Own(Model):
        def __init__(self, schema):
            super().__init__(schema)
            torch.nn.init.normal_(self.mean.bias, generator=torch.Generator().manual_seed(id(self) % 2**31))

    assert "the same seed gives different weights" in faults(check_model, Own)


def test_what_is_remembered_from_step_to_step_outside_the_state_is_told():
    class Forgets(Model):
        held = torch.zeros(())

        def loss(self, x):
            self.held = self.held + 1  # neither a buffer nor a number
            return super().loss(x) * self.held

    class Counts(Model):
        def __init__(self, schema):
            super().__init__(schema)
            self.steps = 0

        def loss(self, x):
            self.steps += 1
            return super().loss(x) * self.steps

    told = faults(check_model, Forgets)
    assert (
        "a fit that is killed, and goes on from its checkpoint, comes to other weights (mean.weight" in told
    )
    check_model(Counts)


def test_a_network_that_cannot_compute_in_bfloat16_is_told():
    class Places(nn.Module):
        def __init__(self, schema, outputs):
            super().__init__()
            self.layer = nn.Linear(schema.dims, outputs)

        def forward(self, x):
            out = x.new_zeros(len(x), self.layer.out_features)
            out[:, torch.arange(self.layer.out_features)] = self.layer(x.flatten(1))
            return out

    class Odd(VAE):
        def __init__(self, schema):
            super().__init__(schema, latent_dim=2, net="mlp")
            self.encoder = Body(Places(schema, 4))

    assert "its networks cannot be trained in bfloat16" in faults(check_model, Odd)
    check_model(VAE, net="mlp", latent_dim=2)


def test_something_learned_outside_the_state_is_told():
    class Forgetful(Model):
        def __init__(self, schema):
            super().__init__(schema)
            self.scale = torch.rand(1)

        def encode(self, x):
            return super().encode(x) * self.scale

    assert "not in state_dict" in faults(check_model, Forgetful)


def test_log_weights_that_are_upside_down_are_told():
    class UpsideDown(lvmbench.VAE):
        def log_weights(self, x, k):
            return torch.zeros(len(x), k)

    assert "want [3, 8]" in faults(check_model, UpsideDown)


def test_a_likelihood_of_the_wrong_event_is_told():
    class Loose(lvmbench.VAE):
        def decode(self, z):
            return torch.distributions.Normal(super().decode(z).mean, 1.0)

        def loss(self, x):
            return self.encode(x).square().sum(1)

    assert "decode gives batch" in faults(check_model, Loose)


def test_a_metric_that_meets_the_contract_passes():
    check_metric(lvmbench.metric(better="higher")(lambda ev: float(ev.codes().mean())))


@pytest.mark.parametrize("item", Catalog.discover().items("metric"), ids=lambda item: item.name)
def test_every_built_in_metric_meets_the_contract(item):
    check_metric(item.load())


@pytest.mark.parametrize(
    ("card", "compute", "told"),
    [
        ({"better": "more"}, lambda ev: 1.0, "better = 'more'"),
        ({"needs": ("a brain",)}, lambda ev: 1.0, "no such capability"),
        ({}, lambda ev: "much", "gives str: want a number"),
        ({}, lambda ev: float("nan"), "gives nan: want a finite number"),
        ({"bounds": (0, 1)}, lambda ev: 2.0, "outside its bounds"),
        ({}, lambda ev: 1 / 0, "raises ZeroDivisionError"),
        ({}, lambda ev: float(next(COUNTER)), "another number on each call"),
    ],
)
def test_a_metric_against_its_contract_is_told(card, compute, told):
    assert told in faults(check_metric, lvmbench.metric(**{"better": "higher", **card})(compute))


def test_a_metric_may_be_not_applicable():
    def never(ev):
        raise NotApplicable("not here")

    check_metric(lvmbench.metric(better="higher")(never))
    check_metric(lvmbench.metric(better="higher", needs=("log_prob",))(lambda ev: "never asked"), RowMeans())


@pytest.mark.parametrize("item", Catalog.discover().items("explanation"), ids=lambda item: item.name)
def test_every_built_in_explanation_meets_the_contract(item):
    check_explanation(item.load())


@pytest.mark.parametrize(
    ("explanation", "told"),
    [
        (lambda ev: "much", "it gives str: want a Section"),
        (lambda ev: Section("A", "![a](a.png)"), "the text shows a.png"),
        (lambda ev: Section("A", f"{next(COUNTER)}"), "another text on each call"),
        (lambda ev: 1 / 0, "it raises ZeroDivisionError"),
    ],
)
def test_an_explanation_against_its_contract_is_told(explanation, told):
    assert told in faults(check_explanation, explanation)


def test_a_data_set_that_meets_the_contract_passes():
    check_dataset(lambda: ToyData())


def test_the_faces_meet_the_contract():
    check_dataset(Catalog.discover().get("dataset", "faces").load(), size=32)


class Odd:
    """A data set with one fault at a time."""

    schema = Schema((1, 8, 8), "bernoulli", (Attribute("Lit", "binary"),))
    fingerprint = "odd"
    first: ClassVar = {"train": 0, "val": 100, "test": 200}

    def split(self, name, limit=None):
        n = min(limit or 50, 50)
        return Split(
            torch.zeros(n, 1, 8, 8, dtype=torch.uint8), torch.zeros(n, 1), torch.arange(n) + self.first[name]
        )


def test_a_data_set_against_its_contract_is_told_all_at_once():
    class Faulty(Odd):
        first: ClassVar = {"train": 0, "val": 0, "test": 200}

        def split(self, name, limit=None):
            good = super().split(name, limit)
            images = good.images + (limit or 0)
            return Split(images, good.labels + 2, good.rows)

    said = faults(check_dataset, Faulty)
    assert "labels of Lit are [2.0]: want 0 to 1, or NaN" in said
    assert "the first rows depend on the limit" in said
    assert "row 0 stands in train and in val" in said


def test_images_that_are_no_bytes_are_told():
    class Floats(Odd):
        def split(self, name, limit=None):
            good = super().split(name, limit)
            return Split(good.images.float(), good.labels.double(), good.rows)

    said = faults(check_dataset, Floats)
    assert "images are torch.float32" in said
    assert "labels are torch.float64" in said


def test_a_fingerprint_that_changes_is_told():
    class Restless(Odd):
        @property
        def fingerprint(self):
            return str(id(self))

    assert "its fingerprint changes" in faults(check_dataset, Restless)
