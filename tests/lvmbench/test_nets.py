import math
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lvmbench import VAE, Schema, UsageError, build, decoder, encoder
from lvmbench.catalog import Catalog, source_hash
from lvmbench.nets import NETS, centre_at, start_at
from lvmbench.options import resolve
from lvmbench.plan import plan
from lvmbench.spec import Spec

SIZES = [(28, 28), (29, 29), (30, 30), (31, 31), (32, 32), (33, 33), (45, 45), (64, 64), (36, 28), (29, 34)]
kinds = pytest.mark.parametrize("kind", NETS)


def test_these_are_the_nets_that_have_a_name():
    assert list(NETS) == ["conv", "resnet", "mlp", "burda"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
@kinds
def test_pictures_of_any_size_pass_through_and_come_back(channels, size, kind):
    schema = Schema((channels, *size), "gaussian")
    code = encoder(schema, 5, kind)(torch.rand(2, *schema.shape))
    assert code.shape == (2, 5)
    assert decoder(schema, 5, kind)(code).shape == (2, *schema.shape)


@kinds
@pytest.mark.parametrize("leading", [(), (3,), (4, 3), (2, 4, 3)])
def test_a_decoder_takes_any_number_of_leading_axes(kind, leading):
    schema = Schema((3, 28, 28), "gaussian")
    net = decoder(schema, 5, kind)
    z = torch.randn(*leading, 5)
    out = net(z)
    assert out.shape == (*leading, *schema.shape)
    flat = net(z.reshape(-1, 5))
    torch.testing.assert_close(out.reshape(flat.shape), flat)


@kinds
def test_a_row_does_not_depend_on_its_neighbours_in_the_batch(kind):
    schema = Schema((1, 28, 28), "bernoulli")
    net, x = encoder(schema, 4, kind), torch.rand(6, *schema.shape)
    torch.testing.assert_close(net(x)[:2], net(x[:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["conv", "resnet", "mlp"])  # Glorot's weights do fade towards many pixels
@pytest.mark.parametrize("size", [28, 64])
def test_signals_neither_grow_nor_fade_on_their_way_through_new_networks(kind, size):
    torch.manual_seed(0)
    schema = Schema((3, size, size), "gaussian")
    with torch.no_grad():
        x = torch.rand(64, *schema.shape)
        code = encoder(schema, 64, kind)(x)
        out = decoder(schema, 64, kind)(torch.randn(64, 64))
    assert 0.1 < float(code.std() / x.std()) < 3
    assert 0.1 < float(out.std()) < 3


@kinds
def test_every_bias_of_a_new_network_is_nothing(kind):
    schema = Schema((1, 28, 28), "gaussian")
    for net in (encoder(schema, 4, kind), decoder(schema, 4, kind)):
        biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
        assert biases
        assert not any(p.any() for p in biases)


def test_a_net_of_a_plugin_keeps_its_own_forward(monkeypatch):
    class Tenfold(nn.Sequential):
        def forward(self, x):
            return 10 * super().forward(x.flatten(1))

    schema = Schema((1, 4, 4), "gaussian")
    layer = nn.Linear(16, 3)
    own = SimpleNamespace(encoder=lambda schema, outputs: Tenfold(layer))
    monkeypatch.setitem(NETS, "own", own)
    x = torch.rand(2, *schema.shape)
    torch.testing.assert_close(encoder(schema, 3, "own")(x), 10 * layer(x.flatten(1)))


def test_without_gradients_the_tanh_of_burda_is_torchs():
    x = torch.linspace(-20, 20, 4001)
    tanh = next(m for m in encoder(Schema((1, 28, 28), "gaussian"), 4, "burda") if isinstance(m, nn.Tanh))
    with torch.no_grad():
        torch.testing.assert_close(tanh(x), x.tanh(), atol=3e-7, rtol=0)
    assert torch.equal(tanh(x), x.tanh())
    with torch.no_grad():
        assert torch.equal(tanh(x.double()), x.double().tanh())


def shapes(net, dims=2):
    return [tuple(p.shape) for p in net.parameters() if p.dim() == dims]


def test_the_convolutions_are_those_of_the_papers_at_their_size():
    schema = Schema((3, 64, 64), "gaussian")
    convolutions = [(32, 3, 4, 4), (32, 32, 4, 4), (64, 32, 4, 4), (64, 64, 4, 4)]
    assert shapes(encoder(schema, 20), 4) == convolutions
    assert shapes(decoder(schema, 10), 4) == convolutions[::-1]  # transposed: [in, out, h, w]
    assert shapes(encoder(schema, 20)) == [(256, 1024), (20, 256)]
    assert shapes(decoder(schema, 10)) == [(256, 10), (1024, 256)]


def test_the_resnet_is_the_same_with_a_block_at_each_size():
    schema = Schema((3, 64, 64), "gaussian")
    plain, residual = (shapes(encoder(schema, 20, kind), 4) for kind in ("conv", "resnet"))
    blocks = [shape for a in plain for shape in (a, (a[0], a[0], 3, 3), (a[0], a[0], 3, 3))]
    assert residual == blocks
    assert sorted(shapes(decoder(schema, 20, "resnet"), 4)) == sorted(blocks)


@pytest.mark.parametrize("make", [encoder, decoder])
def test_the_blocks_of_a_resnet_are_nothing_at_first_and_can_learn(make):
    schema = Schema((1, 12, 20), "gaussian")
    net = make(schema, 3, "resnet")
    blocks = [m for m in net.modules() if hasattr(m, "gain")]
    assert len(blocks) == 2
    for block in blocks:
        h = torch.randn(2, block.first.in_channels, 6, 5)
        assert torch.equal(block(h), h)
        (moved,) = torch.autograd.grad(block(h).square().sum(), block.gain)
        assert moved != 0
        with torch.no_grad():
            block.gain.fill_(0.5)
            change = block.second(nn.functional.silu(block.first(nn.functional.silu(h))))
            torch.testing.assert_close(block(h), h + 0.5 * change)


def test_burdas_net_has_two_layers_of_200_tanh_units_and_glorots_weights():
    schema = Schema((1, 28, 28), "bernoulli")
    for net, sizes in (
        (encoder(schema, 100, "burda"), (784, 200, 200, 100)),
        (decoder(schema, 50, "burda"), (50, 200, 200, 784)),
    ):
        layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in layers] == list(pairwise(sizes))
        assert sum(isinstance(m, nn.Tanh) for m in net.modules()) == 2
        assert not any(isinstance(m, nn.SiLU | nn.ReLU) for m in net.modules())
        for layer in layers:
            bound = math.sqrt(6 / (layer.in_features + layer.out_features))
            largest = float(layer.weight.detach().abs().max())
            assert 0.99 * bound < largest <= bound


def test_the_dense_net_has_512_and_256_units():
    schema = Schema((1, 28, 28), "bernoulli")
    assert shapes(encoder(schema, 8, "mlp")) == [(512, 784), (256, 512), (8, 256)]
    assert shapes(decoder(schema, 4, "mlp")) == [(256, 4), (512, 256), (784, 512)]


def test_the_other_nets_begin_with_the_weights_of_he():
    schema = Schema((3, 64, 64), "gaussian")
    for kind in ("conv", "resnet", "mlp"):
        for net in (encoder(schema, 50, kind), decoder(schema, 50, kind)):
            for layer in net.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    inputs = layer.weight[0].numel()
                elif isinstance(layer, nn.ConvTranspose2d):
                    inputs = layer.weight[:, 0].numel() / 4  # of the kernel's 16 places an output meets 4
                else:
                    continue
                assert float(layer.weight.detach().std()) == pytest.approx(math.sqrt(2 / inputs), rel=0.1)


# ---- where an encoder and a decoder start


@kinds
def test_an_encoder_sees_pictures_less_their_mean(kind):
    schema = Schema((3, 8, 12), "gaussian")
    net, x, mean = encoder(schema, 4, kind), torch.rand(5, *schema.shape), torch.rand(schema.shape)
    before = net(x)
    centre_at(net, mean)
    torch.testing.assert_close(net(x - 0.5 + mean), before, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(net(mean[None]), torch.zeros(1, 4))  # of a net whose biases are nothing
    fresh = encoder(schema, 4, kind)
    fresh.load_state_dict(net.state_dict())
    assert torch.equal(fresh(x), net(x))


def test_an_encoder_of_ones_own_sees_pictures_as_they_are():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    before = [p.clone() for p in net.parameters()]
    centre_at(net, torch.full((1, 4, 4), 0.3))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def silent(net):
    with torch.no_grad():
        for name, p in net.named_parameters():
            if not name.endswith("bias"):
                p.zero_()
    return net


@pytest.mark.parametrize("kind", ["mlp", "burda"])
def test_a_dense_decoder_starts_at_the_mean_picture(kind):
    schema, mean = Schema((3, 8, 8), "gaussian"), torch.rand(3, 8, 8).clamp(0.01, 0.99)
    net = silent(decoder(schema, 4, kind))
    start_at(net, mean)
    torch.testing.assert_close(net(torch.randn(5, 4)).sigmoid(), mean.expand(5, 3, 8, 8))


@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_a_convolution_starts_at_the_mean_of_each_channel(kind):
    schema, mean = (
        Schema((3, 8, 12), "gaussian"),
        torch.rand(3, 8, 12) * torch.tensor([0.3, 0.6, 0.9])[:, None, None],
    )
    net = silent(decoder(schema, 4, kind))
    start_at(net, mean)
    expected = mean.mean((1, 2))[:, None, None].expand(5, 3, 8, 12)
    torch.testing.assert_close(net(torch.randn(5, 4)).sigmoid(), expected)


@kinds
def test_pixels_that_are_always_black_or_white_leave_a_start_that_is_finite(kind):
    net = silent(decoder(Schema((1, 8, 8), "bernoulli"), 4, kind))
    for level in (0.0, 1.0):
        start_at(net, torch.full((1, 8, 8), level))
        out = net(torch.zeros(1, 4))
        assert out.isfinite().all()
        torch.testing.assert_close(out.sigmoid(), torch.full((1, 1, 8, 8), abs(level - 0.001)))


def test_a_net_whose_last_layer_has_no_fitting_bias_is_left_as_it_is():
    for last in (nn.Linear(4, 16, bias=False), nn.Linear(4, 15), nn.Identity()):
        net = nn.Sequential(last)
        before = [p.clone() for p in net.parameters()]
        start_at(net, torch.full((1, 4, 4), 0.3))
        assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


# ---- a net of one's own

SOURCE = """
from torch import nn

def encoder(schema, outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(schema.dims, outputs))

def decoder(schema, latent_dim):
    return nn.Sequential(nn.Linear(latent_dim, schema.dims), nn.Unflatten(1, schema.shape))
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A function that writes the module ``<package>.nets`` and returns its dotted name."""
    package = f"mine_{tmp_path.name}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(source=SOURCE):
        (tmp_path / package / "nets.py").write_text(source)
        source_hash.cache_clear()
        return f"{package}.nets"

    yield write
    source_hash.cache_clear()
    for module in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[module]


def test_a_module_of_ones_own_is_a_net_by_its_dotted_name(mine):
    schema, options = Schema((1, 8, 8), "gaussian"), resolve("vae", VAE, {"net": mine(), "latent_dim": 3})
    model = build(VAE, schema, options, 0)
    assert [tuple(p.shape) for p in model.encoder.parameters()] == [(6, 64), (6,)]
    assert model.decode(torch.zeros(2, 5, 3)).batch_shape == (2, 5)
    start_at(silent(model.decoder), torch.full(schema.shape, 0.3))
    torch.testing.assert_close(model.decode(torch.zeros(3)).mean, torch.full(schema.shape, 0.3))


def fit_key(net):
    spec = Spec(models=f"vae(net={net})", metrics="elbo", seeds=1, controls=False)
    return plan(spec, Catalog.discover()).cells[0].fit_key


def test_the_source_of_a_net_of_ones_own_is_part_of_the_fit_key(mine):
    first = fit_key(mine())
    assert fit_key(mine()) == first
    assert fit_key(mine(SOURCE + "\n# another\n")) != first


def test_an_unknown_net_is_refused_with_the_nearest_and_all_that_are_known():
    with pytest.raises(
        UsageError, match=r"No net 'resnte'. Did you mean 'resnet'\? Known: conv, resnet, mlp, burda"
    ):
        resolve("vae", VAE, {"net": "resnte"})
    with pytest.raises(UsageError, match=r"No net 'resnte'. Did you mean 'resnet'\?"):
        encoder(Schema((1, 8, 8), "gaussian"), 3, "resnte")


def test_a_module_that_is_not_there_is_refused_by_its_name():
    with pytest.raises(
        UsageError, match=r"net = 'nowhere.nets' cannot be imported \(No module named 'nowhere'\)"
    ):
        resolve("vae", VAE, {"net": "nowhere.nets"})


def test_a_module_without_the_two_functions_is_refused():
    with pytest.raises(
        UsageError, match=r"No net 'os.path'.* a module with the functions encoder and decoder"
    ):
        resolve("vae", VAE, {"net": "os.path"})


@pytest.mark.parametrize("source", ["def encoder(:", "1 / 0", "import nowhere_at_all"])
def test_a_module_that_breaks_when_it_is_imported_is_refused_with_the_reason(mine, source):
    with pytest.raises(UsageError, match=r"net = 'mine_\w+.nets' cannot be imported"):
        resolve("vae", VAE, {"net": mine(source)})


@pytest.mark.parametrize("name", [".nets", "..", "torch.", ""])
def test_what_is_no_name_of_a_module_is_refused(name):
    with pytest.raises(UsageError, match="net"):
        resolve("vae", VAE, {"net": name})
