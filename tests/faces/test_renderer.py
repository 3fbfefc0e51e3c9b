import numpy as np
import pytest
import torch

from lvmbench_faces import renderer
from lvmbench_faces.attributes import RULES
from lvmbench_faces.dataset import Faces
from lvmbench_faces.factors import draw
from lvmbench_faces.renderer import render
from lvmbench_faces.sheet import PLAIN, SWITCHES

ROWS = np.arange(70)
FLOOR = 1.5  # grey levels, RMS over the picture


@pytest.fixture(scope="module")
def table():
    return draw(0, ROWS, rho=0.0)


@pytest.fixture(scope="module")
def pictures(table):
    return render(table, 64)


def part(table, rows):
    return {name: values[rows] for name, values in table.items()}


def test_a_picture_is_uint8_of_the_size_asked_for(table, pictures):
    assert pictures.shape == (70, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    assert render(part(table, slice(2)), 32).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_picture_does_not_depend_on_the_batch(table, pictures, batch, monkeypatch):
    monkeypatch.setattr(renderer, "PIXELS_AT_ONCE", batch * 64 * 64)
    assert torch.equal(render(table, 64), pictures)


def test_a_picture_drawn_alone_is_the_one_drawn_among_many(table, pictures):
    assert torch.equal(render(part(table, slice(9, 10)), 64)[0], pictures[9])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_picture_does_not_depend_on_the_number_of_threads(table, pictures, count, threads):
    threads(count)
    assert torch.equal(render(part(table, slice(24)), 64), pictures[:24])


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_windows_of_rows_cut_nothing_off(size, rho):
    table = draw(1, np.arange(100), rho)
    assert torch.equal(render(table, size), render(table, size, windowed=False))


def test_a_small_picture_looks_like_a_large_one_shrunk(table, pictures):
    large = render(part(table, slice(10)), 128).float()
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert (shrunk - pictures[:10].float()).abs().mean() < 2.5


@pytest.mark.parametrize("factor", sorted({rule.factor for rule in RULES}))
def test_every_attribute_moves_pixels(factor):
    before, after, _ = Faces(mode="independent").pairs(factor, 24)
    assert (after.float() - before.float()).square().mean().sqrt() > FLOOR


def test_continuous_factors_move_pixels_without_steps():
    turned = {name: np.full(41, value) for name, value in PLAIN.items()}
    turned["pos_x"] = np.linspace(0, 2 / 64, 41)  # one pixel
    pictures = render(turned, 64).flatten(1)
    assert len(torch.unique(pictures, dim=0)) == 41


def test_background_std_of_nothing_gives_one_background(table):
    corners = render(table, 32, background_std=0.0)[:, :, 0, 0].float()
    lights = torch.as_tensor(table["light_intensity"]).float()
    assert (corners / lights[:, None]).std(0).max() < 25
    assert render(table, 32, background_std=0.25)[:, :, 0, 0].float().std(0).min() > 30


def test_eye_scale_makes_the_eyes_larger(table):
    few = part(table, slice(8))
    assert not torch.equal(render(few, 64, eye_scale=0.8), render(few, 64, eye_scale=1.5))


def test_every_switch_of_the_sheet_changes_the_face():
    faces = {name: np.full(1, value) for name, value in PLAIN.items()}
    plain = render(faces, 64)
    for caption, values in SWITCHES[1:]:
        switched = render({**faces, **{name: np.full(1, value) for name, value in values.items()}}, 64)
        assert not torch.equal(plain, switched), caption


@pytest.mark.gpu
def test_a_gpu_differs_by_at_most_one_grey_level(table, pictures):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    drawn = render(table, 64, device="cuda")
    assert (drawn.int() - pictures.int()).abs().max() <= 1
