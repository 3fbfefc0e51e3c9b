import pytest
import torch
from torch import Generator, nn
from torch.func import vmap
from torch.nn.functional import linear

from lvmbench import pixels
from lvmbench.adam import Adam
from lvmbench.bodies import Exact
from lvmbench.descent import Descent, objective
from lvmbench.mapped import Members, Unstackable
from lvmbench.protocols import Batch
from lvmbench.stacks import Stack

M = 3


def generators():
    return [Generator().manual_seed(member) for member in range(M)]


def of_members(function, *tensors):
    """Return what a function gives to each of three members, each with its slices and its generator."""
    drawn = generators()

    def one(token, *own):
        with Members(token, drawn):
            return function(*own)

    return vmap(one)(torch.arange(M), *tensors)


DRAWS = {
    "rand": lambda p, **g: torch.rand(4, 5, **g),
    "rand of a size": lambda p, **g: torch.rand((4, 5), device="cpu", **g),
    "randn": lambda p, **g: torch.randn(4, 5, **g),
    "randint": lambda p, **g: torch.randint(3, 9, (4, 5), **g),
    "randperm": lambda p, **g: torch.randperm(7, **g),
    "normal": lambda p, **g: torch.normal(p, 0.5 + p, **g),
    "bernoulli": lambda p, **g: torch.bernoulli(p, **g),
    "multinomial": lambda p, **g: torch.multinomial(p, 2, **g),
    "multinomial, a method": lambda p, **g: p.multinomial(2, **g),
    "normal in place": lambda p, **g: torch.empty(4, 5).normal_(2.0, 3.0, **g),
    "exponential in place": lambda p, **g: torch.empty_like(p).exponential_(**g),
    "normal, turned round": lambda p, **g: torch.empty_like(p.t()).normal_(**g),
    "noise of pixels": lambda p, generator=None: pixels._whole_numbers((3, 5), p.device, generator),
    "uniform in place": lambda p, **g: torch.empty_like(p).uniform_(-1, 1, **g),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_member_draws_what_its_own_generator_gives(name):
    torch.manual_seed(0)
    p = torch.rand(M, 4, 5)
    found = of_members(DRAWS[name], p)
    for own, slice_, drawn in zip(generators(), p, found, strict=True):
        assert torch.equal(drawn, DRAWS[name](slice_, generator=own))


@pytest.mark.parametrize("like", [torch.rand_like, torch.randn_like])
def test_a_member_draws_like_its_own_tensor(like):
    found = of_members(like, torch.zeros(M, 4, 5))
    for member, drawn in enumerate(found):
        torch.manual_seed(member)
        assert torch.equal(drawn, like(torch.zeros(4, 5)))


@pytest.mark.parametrize(
    "draw", [lambda p: torch.normal(mean=p, std=1.0), lambda p: torch.empty(4, 5).bernoulli_(p)]
)
def test_tensors_that_a_draw_is_given_by_name_are_refused(draw):
    with pytest.raises(Unstackable, match="is given a tensor"):
        of_members(draw, torch.rand(M, 4, 5))


def test_two_draws_of_a_member_go_on_from_one_another():
    found = of_members(lambda x: torch.stack([torch.rand(3), torch.rand(3)]) + 0 * x, torch.zeros(M, 2, 3))
    own = Generator().manual_seed(1)
    assert torch.equal(found[1], torch.stack([torch.rand(3, generator=own) for _ in range(2)]))


def test_a_generator_of_the_model_is_its_own_affair():
    own = Generator().manual_seed(9)
    with pytest.raises(RuntimeError, match="random"):  # vmap does not know whose draw it is
        of_members(lambda x: x + torch.rand(3, generator=own), torch.zeros(M, 3))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (2, 6, 4)], ids=["rows", "draws of rows"])
def test_a_linear_layer_of_members_is_that_of_each(precision, bias, shape):
    torch.manual_seed(0)
    x, weight = torch.randn(M, *shape, requires_grad=True), torch.randn(M, 5, 4, requires_grad=True)
    given = [x, weight, *([torch.randn(M, 5, requires_grad=True)] if bias else [])]

    def layer(*own):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return linear(*own).float()

    together = of_members(layer, *given)
    apart = torch.stack([layer(*own) for own in zip(*given, strict=True)])
    torch.testing.assert_close(together, apart, rtol=1e-6, atol=1e-6)
    slopes = [torch.autograd.grad(found.sin().sum(), given) for found in (together, apart)]
    assert all(slope.dtype == torch.float32 for slope in slopes[0])
    close = {"rtol": 1e-5, "atol": 1e-5} if precision == "float32" else {"rtol": 0.02, "atol": 0.05}
    torch.testing.assert_close(*slopes, **close)
    assert slopes[0][1].stride() == weight.stride()  # as Adam wants it


def test_a_linear_layer_may_be_given_its_parts_by_name():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(M, 6, 4), torch.randn(M, 4, 4), torch.randn(M, 4)
    found = of_members(lambda x, w, b: linear(bias=b, weight=w, input=x), x, weight, bias)
    torch.testing.assert_close(
        found, torch.stack([linear(*own) for own in zip(x, weight, bias, strict=True)])
    )


def test_a_layer_whose_weights_all_members_share_takes_them_as_they_are():
    x, weight = torch.randn(M, 6, 4), torch.randn(5, 4)
    torch.testing.assert_close(of_members(lambda x: linear(x, weight), x), linear(x, weight))


def test_an_exact_layer_of_members_computes_in_float32_inside_a_rounded_body():
    layer, x = Exact(4, 5), torch.randn(M, 6, 4)

    def used(x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)

    found = of_members(used, x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, layer(x), rtol=1e-6, atol=1e-6)


class Scaled(nn.Module):
    """One weight and a number beside it."""

    def __init__(self, weight, by=1.0, size=2):
        super().__init__()
        self.weight, self.by = nn.Parameter(torch.full((size,), weight)), by
        self.register_buffer("centre", torch.zeros(()))

    def loss(self, x):
        return self.by * (self.weight.sum() - self.centre) * x.flatten(1).sum(1)


def test_members_share_their_tensors_until_these_are_released():
    models = [Scaled(1.0), Scaled(2.0)]
    stack = Stack(models)
    with torch.no_grad():
        stack.trained["weight"].mul_(10)
    assert [m.weight.tolist() for m in models] == [[10, 10], [20, 20]]
    stack.release()
    with torch.no_grad():
        stack.trained["weight"].zero_()
    assert [m.weight.tolist() for m in models] == [[10, 10], [20, 20]]


def test_numbers_and_buffers_that_differ_are_those_of_each_member():
    models = [Scaled(1.0, by=1.0), Scaled(1.0, by=3.0)]
    models[1].centre.fill_(1.0)
    groups, losses = objective(models[0])
    stack = Stack(models)
    batch = Batch(torch.ones(2, 4, 1), torch.zeros(2, 4, 0))
    found = stack.losses(losses, generators()[:2])(batch, 0.5)["loss"]["loss"]
    assert found.tolist() == [1 * 2, 3 * (2 - 1)]
    assert models[0].by == 1.0
    assert stack.names_of(list(groups["loss"].parameters)) == ["weight"]


@pytest.mark.parametrize(
    "other", [Scaled(1.0, size=3), Scaled(1.0, by=2)], ids=["a shape", "a kind of number"]
)
def test_what_differs_in_more_than_numbers_is_not_stacked(other):
    with pytest.raises(Unstackable, match="different"):
        Stack([Scaled(1.0), other])


def test_the_moments_of_stacked_parameters_are_slices_of_one_tensor():
    models = [Scaled(1.0), Scaled(2.0)]
    own = [Descent(*objective(model), 0.1) for model in models]
    for descent, x in zip(own, (1.0, 2.0), strict=True):
        descent.step(Batch(torch.full((4, 1), x), torch.zeros(4, 0)), 0.5, 1.0)
    before = [{name: t.clone() for name, t in descent.state().items()} for descent in own]
    stack = Stack(models)
    whole = Adam([stack.trained["weight"]], (0.9, 0.999))
    whole.serve([descent.optimisers["loss"] for descent in own])
    for descent, state in zip(own, before, strict=True):
        assert all(torch.equal(t, state[name]) for name, t in descent.state().items())
    whole.moments[0][1].zero_()
    assert not own[1].state()["loss/0/exp_avg"].any()
