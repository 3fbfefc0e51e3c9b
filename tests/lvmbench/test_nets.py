import pytest
import torch

from lvmbench import Schema, decoder, encoder

SIZES = [(28, 28), (32, 32), (45, 45), (64, 64), (36, 28)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_pictures_of_any_size_pass_through_and_come_back(channels, size, kind):
    schema = Schema((channels, *size), "gaussian")
    code = encoder(schema, 5, kind)(torch.rand(2, *schema.shape))
    assert code.shape == (2, 5)
    assert decoder(schema, 5, kind)(code).shape == (2, *schema.shape)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("leading", [(), (3,), (4, 3), (2, 4, 3)])
def test_a_decoder_takes_any_number_of_leading_axes(kind, leading):
    schema = Schema((3, 28, 28), "gaussian")
    net = decoder(schema, 5, kind)
    z = torch.randn(*leading, 5)
    out = net(z)
    assert out.shape == (*leading, *schema.shape)
    flat = net(z.reshape(-1, 5))
    torch.testing.assert_close(out.reshape(flat.shape), flat)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
def test_a_row_does_not_depend_on_its_neighbours_in_the_batch(kind):
    schema = Schema((1, 28, 28), "bernoulli")
    net, x = encoder(schema, 4, kind), torch.rand(6, *schema.shape)
    torch.testing.assert_close(net(x)[:2], net(x[:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["conv", "mlp"])
@pytest.mark.parametrize("size", [28, 64])
def test_signals_neither_grow_nor_fade_on_their_way_through_new_networks(kind, size):
    torch.manual_seed(0)
    schema = Schema((3, size, size), "gaussian")
    with torch.no_grad():
        code = encoder(schema, 64, kind)(torch.rand(64, *schema.shape))
        out = decoder(schema, 64, kind)(torch.randn(64, 64))
    assert 0.1 < float(code.std()) < 3
    assert 0.1 < float(out.std()) < 3


def test_the_networks_are_those_of_the_papers_at_their_size():
    schema = Schema((3, 64, 64), "gaussian")
    shapes = [tuple(p.shape) for p in encoder(schema, 20).parameters() if p.dim() == 4]
    assert shapes == [(32, 3, 4, 4), (32, 32, 4, 4), (64, 32, 4, 4), (64, 64, 4, 4)]
