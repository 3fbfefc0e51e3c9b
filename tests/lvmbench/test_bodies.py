import copy

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.func import vmap
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import lvmbench.bodies
from lvmbench import Budget, Schema, Split, build, decoder, encoder, fit
from lvmbench.bodies import QUICKER, WORTH, Body, Exact, bodies, computing_in, fastest
from lvmbench.catalog import Catalog
from lvmbench.nets import NETS
from lvmbench.plan import plan
from lvmbench.spec import Spec
from lvmbench.vae import VAE

SCHEMA = Schema((1, 28, 28), "bernoulli")
kinds = pytest.mark.parametrize("kind", NETS)


class _Told(nn.Module):
    """Tells the type of what its layer made."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(4, 4), None

    def forward(self, x):
        out = self.layer(x)
        self.seen = out.dtype
        return out


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_body_computes_in_the_precision_that_is_asked_for_and_answers_in_float32(precision):
    model = nn.ModuleDict({"body": Body(_Told())})
    with computing_in(precision, model):
        assert model["body"](torch.randn(WORTH, 4)).dtype == torch.float32
    assert model["body"][0].seen == getattr(torch, precision)
    model["body"](torch.randn(WORTH, 4))
    assert model["body"][0].seen == torch.float32


def test_few_rows_are_computed_in_float32_where_casts_cost_more_than_they_bring():
    model = nn.ModuleDict({"body": Body(_Told())})
    with computing_in("bfloat16", model):
        model["body"](torch.randn(WORTH - 1, 4))
    assert model["body"][0].seen == torch.float32


def test_a_decoder_counts_the_draws_of_every_picture_among_its_rows():
    net, z = decoder(SCHEMA, 3, "burda"), torch.randn(WORTH // 2, 2, 3)
    with torch.no_grad(), computing_in("bfloat16", net):
        rounded = net(z)
    assert not torch.equal(rounded, net(z).detach())


def test_a_body_computes_in_float32_again_after_an_error():
    model = nn.ModuleDict({"body": Body(_Told())})
    with pytest.raises(ZeroDivisionError), computing_in("bfloat16", model):
        raise ZeroDivisionError
    assert model["body"].precision == "float32"


@kinds
def test_both_networks_of_a_vae_are_bodies_and_bfloat16_moves_them_by_its_rounding(kind):
    torch.manual_seed(0)
    model = VAE(SCHEMA, net=kind)
    assert len(bodies(model)) == 2
    x, z = torch.rand(WORTH, *SCHEMA.shape), torch.randn(WORTH // 4, 4, 16)
    with torch.no_grad():
        exact = model.encoder(x), model.decoder(z)
    with torch.no_grad(), computing_in("bfloat16", model):
        rounded = model.encoder(x), model.decoder(z)
    for one, other in zip(exact, rounded, strict=True):
        assert other.dtype == torch.float32
        assert 0 < float((one - other).abs().max()) < 0.05 * float(one.abs().max())


@kinds
def test_gradients_in_bfloat16_reach_the_float32_weights(kind):
    net = encoder(SCHEMA, 3, kind)
    with computing_in("bfloat16", net):
        net(torch.rand(WORTH, *SCHEMA.shape)).sum().backward()
    assert {p.grad.dtype for p in net.parameters() if p.grad is not None} == {torch.float32}


@kinds
def test_the_layer_that_says_mean_and_scale_stays_exact(kind):
    head = [m for m in encoder(SCHEMA, 3, kind).modules() if isinstance(m, nn.Linear)][-1]
    assert isinstance(head, Exact)
    x = torch.randn(2, head.in_features)
    alone = head(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(x), alone)


def test_a_copy_that_a_model_makes_of_a_network_while_it_trains_is_float32_afterwards():
    model = nn.Module()
    model.net = Body(nn.Linear(4, 4))
    with computing_in("bfloat16", model):
        model.teacher = copy.deepcopy(model.net)
    assert [body.precision for body in bodies(model)] == ["float32", "float32"]


def test_a_model_without_bodies_is_left_as_it_is():
    with computing_in("bfloat16", object()):
        pass
    assert bodies(decoder(SCHEMA, 3)) != []


def test_bfloat16_is_the_default_where_the_processor_multiplies_it(monkeypatch):
    monkeypatch.setattr(lvmbench.bodies, "multiplies_bfloat16", lambda: True)
    assert fastest("cpu") == "bfloat16"
    assert fastest("cuda") == "tfloat32"
    monkeypatch.setattr(lvmbench.bodies, "multiplies_bfloat16", lambda: False)
    assert fastest("cpu") == "float32"


def cell_of(model, **asked):
    planned = plan(
        Spec(model, budget="smoke", controls=False, seeds=1, metrics="elbo", **asked), Catalog.discover()
    )
    return planned.cells[0]


def test_a_precision_that_is_asked_for_is_that_of_the_cells_and_has_fits_of_its_own():
    exact, fast = (cell_of("vae", precision=p) for p in ("float32", "bfloat16"))
    assert (exact.precision, fast.precision) == ("float32", "bfloat16")
    assert exact.fit_key != fast.fit_key


@pytest.mark.parametrize("model", ["gaussian-mixture", "made", "discrete"])
def test_a_model_whose_networks_have_no_choice_has_one_fit_for_every_precision(model):
    keys = {cell_of(model, precision=p).fit_key for p in ("float32", "bfloat16")}
    assert len(keys) == (2 if model == "discrete" else 1)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_computes_in_the_precision_it_is_given_and_leaves_a_model_of_float32(precision):
    seen = set()

    class Watched(VAE):
        def loss(self, x):
            seen.update(body.precision for body in bodies(self))
            return super().loss(x)

    rows = torch.arange(64)
    data = Split(torch.randint(0, 256, (64, *SCHEMA.shape), dtype=torch.uint8), torch.empty(64, 0), rows)
    model = build(Watched, SCHEMA, {"net": "burda"}, 0)
    fit(model, data, data.head(8), Budget("b", images=64, batch=32), SCHEMA, seed=0, precision=precision)
    assert seen == {precision}
    assert {body.precision for body in bodies(model)} == {"float32"}
    assert {t.dtype for t in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("function", QUICKER, ids=lambda function: function.__name__)
def test_a_body_computes_its_layers_by_the_quicker_functions_and_torch_its_own_afterwards(
    function, monkeypatch
):
    layers = {
        functional.linear: (nn.Linear(4, 4), (2, 4)),
        functional.conv2d: (nn.Conv2d(1, 1, 2), (2, 1, 4, 4)),
        functional.conv_transpose2d: (nn.ConvTranspose2d(1, 1, 2), (2, 1, 4, 4)),
    }
    layer, shape = layers[function]
    asked = []

    def seen(*args):
        asked.append(args)
        return function(*args)

    monkeypatch.setitem(QUICKER, function, seen)
    x = torch.randn(shape)
    torch.testing.assert_close(Body(layer)(x), layer(x))
    assert len(asked) == 1


def refuse(*_):
    raise AssertionError("not torch's own")


def test_a_body_that_torch_maps_over_members_computes_as_torch_does(monkeypatch):
    monkeypatch.setitem(QUICKER, functional.linear, refuse)
    body, x = Body(nn.Linear(4, 4)), torch.randn(3, 2, 4)
    torch.testing.assert_close(vmap(body)(x), body[0](x))


def test_what_a_layer_of_a_body_maps_is_computed_as_torch_does(monkeypatch):
    class Mapped(nn.Linear):
        def forward(self, x):
            return vmap(super().forward)(x)

    monkeypatch.setitem(QUICKER, functional.linear, refuse)
    body, x = Body(Mapped(4, 4)), torch.randn(3, 4)
    torch.testing.assert_close(body(x), functional.linear(x, body[0].weight, body[0].bias))


def test_a_body_that_is_differentiated_forwards_computes_as_torch_does(monkeypatch):
    monkeypatch.setitem(QUICKER, functional.linear, refuse)
    body, x = Body(nn.Linear(4, 4)), torch.randn(2, 4)
    with forward_ad.dual_level():
        torch.testing.assert_close(body(x), body[0](x))


def test_a_tensor_of_another_class_computes_its_layers_itself():
    class Told(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            called.append(function)
            return super().__torch_function__(function, types, args, kwargs or {})

    called = []
    Body(nn.Linear(4, 4))(torch.randn(2, 4).as_subclass(Told))
    assert functional.linear in called


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_that_are_computed_again_for_their_gradients_come_to_the_same(precision, monkeypatch):
    class Again(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return checkpoint(self.layer, x, use_reentrant=False)

    monkeypatch.setattr(lvmbench.convolutions, "MANY", 8)
    monkeypatch.setattr(lvmbench.products, "LARGE", 1)
    monkeypatch.setattr(lvmbench.products, "has_wide_registers", lambda: True)
    layers = [nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1), nn.Linear(8, 6)]
    x = torch.randn(WORTH, 3, 6, 6)
    slopes = []
    for wrap in (lambda layer: layer, Again):
        body = Body(*map(wrap, layers))
        body.precision = precision
        slopes.append(torch.autograd.grad(body(x).square().sum(), [*body.parameters()]))
    torch.testing.assert_close(slopes[1], slopes[0])
