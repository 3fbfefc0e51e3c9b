import pytest
import torch
from torch.nn import functional

from lvmbench import environment, products
from lvmbench.convolutions import conv2d, conv_transpose2d
from lvmbench.products import LARGE, linear

wide = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)


@pytest.fixture
def by_onednn(monkeypatch):
    """Let products of any size be taken by oneDNN, whatever the processor."""
    monkeypatch.setattr(products, "has_wide_registers", lambda: True)
    monkeypatch.setattr(products, "LARGE", 1)


def random(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def refuse(*args):
    raise AssertionError("oneDNN was asked")


@wide
@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (1, 5), (5,), (0, 5)], ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_a_product_by_onednn_is_that_of_float64_with_its_gradients(by_onednn, shape, biased):
    torch.manual_seed(0)
    tensors = [random(*shape), random(4, 5), *([random(4)] if biased else [])]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    out, expected = linear(*tensors), functional.linear(*exact)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
    slopes, others = (torch.autograd.grad(y.sum(), of) for y, of in ((out, tensors), (expected, exact)))
    for slope, other in zip(slopes, others, strict=True):
        torch.testing.assert_close(slope.double(), other, rtol=1e-5, atol=1e-5)


@wide
@pytest.mark.parametrize("function", [conv2d, conv_transpose2d])
def test_convolutions_of_many_channels_are_products_by_onednn(by_onednn, function):
    torch.manual_seed(0)
    tensors = random(2, 512, 3, 3), random(512, 512, 3, 3)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    results = []
    for of in (tensors, exact):
        out = function(*of, None, 2, 1)
        results.append([t.double() for t in (out, *torch.autograd.grad(out.sum(), of))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


@wide
def test_operands_may_have_gaps_in_memory(by_onednn):
    torch.manual_seed(0)
    x, weight = torch.randn(9, 12)[:, ::2], torch.randn(6, 8).t()[::2]
    torch.testing.assert_close(linear(x, weight), functional.linear(x, weight))
    for bias in (torch.randn(1).expand(4), torch.randn(4, 2)[:, 0]):
        given = x.contiguous(), weight.contiguous(), bias
        torch.testing.assert_close(linear(*given), functional.linear(*given))


@wide
def test_operands_may_be_named_as_torch_names_them(by_onednn):
    given = {"input": torch.randn(2, 3), "weight": torch.randn(4, 3), "bias": torch.randn(4)}
    torch.testing.assert_close(linear(**given), functional.linear(**given))


@wide
def test_operands_that_do_not_fit_are_told_as_torch_tells_them(by_onednn):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        linear(torch.randn(2, 3), torch.randn(4, 5))


@wide
def test_a_gradient_of_a_product_has_a_gradient(by_onednn):
    torch.manual_seed(0)
    x, weight = random(3, 5), random(4, 5)
    seconds = []
    for function in (linear, functional.linear):
        (slope,) = torch.autograd.grad(function(x, weight).sin().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(slope.square().sum(), [x, weight]))
    torch.testing.assert_close(*seconds)


@wide
def test_only_gradients_that_are_wanted_are_taken(by_onednn):
    x, weight = random(3, 5), torch.randn(4, 5)
    asked = []
    out = linear(x, weight)

    def seen(*args):
        asked.append(args)
        return functional.linear(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "linear", seen)
        out.sum().backward()
    assert len(asked) == 1


@wide
def test_onednn_takes_large_products_of_wide_processors(monkeypatch):
    monkeypatch.setattr(products, "has_wide_registers", lambda: True)
    monkeypatch.setattr(products, "_product", refuse)
    x = torch.randn(64, 128)
    with pytest.raises(AssertionError, match="oneDNN"):
        linear(x, torch.randn(LARGE // x.numel(), 128))


@pytest.mark.parametrize(
    "case",
    [
        "another processor",
        "few numbers",
        "float64",
        "inside autocast",
        "a weight of one axis",
        "a bias of no axis",
        "a bias for each row",
    ],
)
def test_torch_multiplies_what_onednn_does_not_gain(monkeypatch, case):
    monkeypatch.setattr(products, "has_wide_registers", lambda: case != "another processor")
    monkeypatch.setattr(products, "_product", refuse)
    rows = LARGE // 128 // 64
    dtype = torch.float64 if case == "float64" else torch.float32
    x, weight = torch.randn(64, 128, dtype=dtype), torch.randn(rows, 128, dtype=dtype)
    if case == "few numbers":
        x = x[1:]
    if case == "a weight of one axis":
        weight = weight[0]
    biases = {"a bias of no axis": torch.tensor(5.0), "a bias for each row": torch.randn(64, rows)}
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "inside autocast"):
        found = linear(x, weight, biases.get(case))
        assert torch.equal(found, functional.linear(x, weight, biases.get(case)))


@pytest.mark.parametrize(
    ("told", "wide"),
    [
        ({"vendor_id": "AuthenticAMD", "cpu family": "26", "flags": "fma avx512f"}, True),
        ({"vendor_id": "AuthenticAMD", "cpu family": "26", "flags": "fma avx2"}, False),
        ({"vendor_id": "AuthenticAMD", "cpu family": "25", "flags": "fma avx512f"}, False),
        ({"vendor_id": "GenuineIntel", "cpu family": "26", "flags": "fma avx512f"}, False),
        ({"vendor_id": "AuthenticAMD", "flags": "fma avx512f"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_processors_with_registers_that_mkl_leaves_half_empty_are_amds_from_zen_5(monkeypatch, told, wide):
    monkeypatch.setattr(environment, "_cpuinfo", lambda key: told.get(key, ""))
    assert environment.has_wide_registers.__wrapped__() == wide
