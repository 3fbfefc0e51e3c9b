from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lvmbench import NotApplicable
from lvmbench_metrics.reconstruction import mse, psnr, similarity, ssim


def pictures(n=5, shape=(3, 24, 20), seed=0):
    return torch.randint(0, 256, (n, *shape), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


class Blend:
    """Codes are the observed pixels; the decoder mixes them with grey."""

    def __init__(self, shape, keep=0.7):
        self.shape, self.keep = shape, keep

    def encode(self, x):
        return x.flatten(1)

    def decode(self, z):
        return SimpleNamespace(mean=(self.keep * z + (1 - self.keep) * 0.5).view(-1, *self.shape))


def both(ev):
    x = (ev.images() + 0.5) / 256
    return x.numpy(), ev.model.decode(ev.codes()).mean.numpy()


def test_mse_and_psnr_agree_with_scikit_image_picture_by_picture(pictured):
    images = pictures(300)  # more than one batch
    ev = pictured(Blend(images.shape[1:]), images)
    x, y = both(ev)
    assert mse.compute(ev).rows.numpy() == pytest.approx(((x - y) ** 2).mean((1, 2, 3)), rel=1e-4)
    expected = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(x, y, strict=True)]
    assert psnr.compute(ev).rows.numpy() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(3, 24, 20), (1, 11, 11)])
def test_ssim_agrees_with_scikit_image(pictured, shape):
    images = pictures(4, shape)
    ev = pictured(Blend(shape), images)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    x, y = both(ev)
    expected = [structural_similarity(a, b, channel_axis=0, **options) for a, b in zip(x, y, strict=True)]
    assert ssim.compute(ev).rows.numpy() == pytest.approx(expected, abs=2e-4)


def test_a_picture_is_perfectly_like_itself():
    x = torch.rand(2, 3, 16, 16)
    assert similarity(x, x).tolist() == pytest.approx([1, 1])


def test_a_perfect_reconstruction_has_100_decibels_and_not_infinitely_many(pictured):
    images = torch.zeros(3, 1, 12, 12, dtype=torch.uint8)
    model = Blend((1, 12, 12))
    model.decode = lambda z: SimpleNamespace(mean=torch.full((len(z), 1, 12, 12), 0.5 / 256))
    assert psnr.compute(pictured(model, images)).value == pytest.approx(100)


def test_bernoulli_pixels_are_compared_with_their_grey_value(pictured):
    images = torch.full((3, 1, 12, 12), 51, dtype=torch.uint8)
    model = Blend((1, 12, 12))
    model.decode = lambda z: SimpleNamespace(mean=torch.full((len(z), 1, 12, 12), 0.5))
    assert mse.compute(pictured(model, images, pixels="bernoulli")).value == pytest.approx(0.3**2)


def test_pictures_smaller_than_the_window_have_no_ssim_but_an_mse(pictured):
    images = pictures(3, (1, 8, 8))
    ev = pictured(Blend((1, 8, 8)), images)
    with pytest.raises(NotApplicable, match="11×11"):
        ssim.compute(ev)
    assert np.isfinite(mse.compute(ev).value)


def test_a_discrete_latent_is_decoded_from_the_symbols_it_chose(pictured):
    images = pictures(3, (1, 12, 12))
    model = Blend((1, 12, 12), keep=1.0)
    model.decoded_view = "one-hot"
    model.views = lambda: {"one-hot": lambda x: torch.zeros(len(x), 144)}
    found = mse.compute(pictured(model, images)).value
    assert found == pytest.approx(float(((images + 0.5) / 256).square().mean()), rel=1e-4)
