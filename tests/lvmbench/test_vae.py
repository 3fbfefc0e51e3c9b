import pytest
import torch
from torch.distributions import Bernoulli, Distribution, Independent, Normal, kl_divergence
from torch.nn.functional import softplus

from lvmbench import VAE, Autoencoder, Schema, Split, bounds, build, diagonal
from lvmbench.protocols import capabilities

SCHEMAS = [Schema((1, 12, 12), "bernoulli"), Schema((3, 12, 12), "gaussian")]


@pytest.fixture(params=SCHEMAS, ids=lambda s: s.pixels)
def model(request):
    return build(VAE, request.param, {"latent_dim": 4}, 0).eval()


@pytest.fixture
def x(model):
    torch.manual_seed(0)
    return torch.rand(5, *model.schema.shape).round()


def test_its_distributions_have_the_shapes_of_the_contract(model, x):
    assert (model.prior().batch_shape, model.prior().event_shape) == ((), (4,))
    q = model.posterior(x)
    assert (q.batch_shape, q.event_shape) == ((5,), (4,))
    p = model.decode(q.rsample((2,)))
    assert (p.batch_shape, p.event_shape) == ((2, 5), model.schema.shape)


def test_its_loss_is_distortion_and_the_closed_form_rate_at_one_draw(model, x):
    torch.manual_seed(1)
    loss = model.loss(x)
    torch.manual_seed(1)
    q = model.posterior(x)
    mu, sigma = q.base_dist.loc, q.base_dist.scale
    z = mu + sigma * torch.randn(5, 4)
    assert set(loss) == {"distortion", "rate"}
    torch.testing.assert_close(loss["rate"], 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(1))
    torch.testing.assert_close(loss["distortion"], -model.decode(z).log_prob(x))


def test_its_loss_is_minus_its_elbo_in_expectation(model, x):
    torch.manual_seed(2)
    with torch.no_grad():
        loss = torch.stack([sum(model.loss(x).values()) for _ in range(200)])
    error = loss.mean(1).std() / 200**0.5 * 6
    torch.testing.assert_close(-loss.mean(), bounds(model, x, 200).elbo.mean(), atol=float(error), rtol=0)


def test_its_densities_pass_torchs_own_validation(model, x):
    q, p = model.posterior(x), model.prior()
    checked = Normal(q.base_dist.loc, q.base_dist.scale, validate_args=True)
    unit = Normal(torch.zeros(4), torch.ones(4), validate_args=True)
    expected = kl_divergence(Independent(checked, 1), Independent(unit, 1))
    torch.testing.assert_close(kl_divergence(q, p), expected)
    assert isinstance(model.decode(p.sample((3,))), Distribution)


def test_codes_are_the_posterior_mean_and_the_sample_is_a_view(model, x):
    torch.testing.assert_close(model.encode(x), model.posterior(x).mean, atol=0, rtol=0)
    torch.testing.assert_close(model.encode(x), model.encode(x), atol=0, rtol=0)
    sample = model.views()["sample"]
    assert sample(x).shape == (5, 4)
    assert not torch.equal(sample(x), sample(x))


def test_duplicating_a_batch_leaves_each_rows_density_unchanged(model, x):
    z = model.encode(x)
    once, twice = model.decode(z).log_prob(x), model.decode(z.repeat(2, 1)).log_prob(x.repeat(2, 1, 1, 1))
    torch.testing.assert_close(twice, once.repeat(2), rtol=1e-4, atol=1e-2)


def test_only_gaussian_pixels_have_a_scale_to_learn(model):
    learned = [name for name, p in model.named_parameters() if p.requires_grad and "scale" in name]
    assert bool(learned) == (model.schema.pixels == "gaussian")


def test_posteriors_stay_proper_when_their_scale_underflows(model, x):
    with torch.no_grad():
        model.encoder[-1].bias.fill_(-200.0)
        model.encoder[-1].weight.zero_()
    assert (model.posterior(x).base_dist.scale > 0).all()


def test_a_diagonal_gaussian_is_read_from_its_mean_and_a_raw_scale_side_by_side():
    outputs = torch.randn(3, 2, 8)
    q = diagonal(outputs)
    assert (q.batch_shape, q.event_shape) == ((3, 2), (4,))
    torch.testing.assert_close(q.mean, outputs[..., :4])
    torch.testing.assert_close(q.base_dist.scale, softplus(outputs[..., 4:]) + 1e-6)
    z = torch.randn(3, 2, 4)
    by_hand = Normal(outputs[..., :4], softplus(outputs[..., 4:]) + 1e-6).log_prob(z).sum(-1)
    torch.testing.assert_close(q.log_prob(z), by_hand)


# ---- the base, and where a decoder starts


@pytest.fixture(params=SCHEMAS, ids=lambda s: s.pixels)
def plain(request):
    return build(Autoencoder, request.param, {"latent_dim": 4}, 0).eval()


def pictures(schema, n=30):
    shade = torch.linspace(0.2, 0.9, schema.dims).reshape(schema.shape)
    images = (255 * shade * torch.rand(n, *schema.shape)).to(torch.uint8)
    return Split(images, torch.zeros(n, 0), torch.arange(n))


def test_an_autoencoder_has_a_code_and_a_decoder_and_no_density(plain):
    assert capabilities(plain) == {"codes", "decoder", "loss"}
    x = torch.rand(5, *plain.schema.shape)
    torch.testing.assert_close(plain.encode(x), plain.encoder(x), atol=0, rtol=0)
    assert plain.encode(x).shape == (5, 4)


def test_the_loss_of_an_autoencoder_is_the_distortion_at_its_code(plain):
    x = torch.rand(5, *plain.schema.shape).round()
    outputs = plain.decoder(plain.encoder(x))
    scale = (plain.scale().exp().square() + 1 / 256**2).sqrt()
    p = Bernoulli(logits=outputs) if plain.schema.pixels == "bernoulli" else Normal(outputs.sigmoid(), scale)
    loss = plain.loss(x)
    assert set(loss) == {"distortion"}
    torch.testing.assert_close(loss["distortion"], -p.log_prob(x).flatten(1).sum(1))


@pytest.mark.parametrize("kind", [Autoencoder, VAE])
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.pixels)
def test_a_decoder_starts_at_the_mean_of_the_training_pictures(kind, schema):
    train = pictures(schema)
    model = build(kind, schema, {"latent_dim": 4, "net": "mlp"}, 0)
    with torch.no_grad():
        for p in model.decoder.parameters():
            p.zero_()
    model.start(train)
    levels = train.images.double().mean(0)
    mean = levels / 255 if schema.pixels == "bernoulli" else (levels + 0.5) / 256
    torch.testing.assert_close(model.decode(torch.randn(4)).mean.double(), mean, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [Autoencoder, VAE])
@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: s.pixels)
def test_the_mean_of_the_training_pictures_starts_with_a_code_of_zeros(kind, schema):
    model, train = build(kind, schema, {"latent_dim": 4}, 0), pictures(schema)
    mean = train.images.float().mean(0, keepdim=True) / 255
    assert model.encode(mean).abs().max() > 0.01
    model.start(train)
    torch.testing.assert_close(model.encode(mean), torch.zeros(1, 4), atol=0.01, rtol=0)


def test_the_start_leaves_every_other_weight_as_it_is():
    model, other = (build(VAE, SCHEMAS[0], {"net": "mlp"}, 0) for _ in range(2))
    model.start(pictures(SCHEMAS[0]))
    moved = [
        name
        for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert moved == [list(dict(model.decoder.named_parameters(prefix="decoder")))[-1]]


def test_a_start_looks_at_some_thousand_pictures_and_no_more():
    schema = Schema((1, 2, 2), "gaussian")
    images = torch.cat([torch.full((4_096, 1, 2, 2), 60), torch.full((4_096, 1, 2, 2), 200)]).to(torch.uint8)
    model = build(VAE, schema, {"latent_dim": 1, "net": "burda"}, 0)
    model.start(Split(images, torch.zeros(8_192, 0), torch.arange(8_192)))
    start = list(model.decoder.parameters())[-1].sigmoid()
    torch.testing.assert_close(start, torch.full((4,), 60.5 / 256))
