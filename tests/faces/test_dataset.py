import numpy as np
import pytest
import torch

from lvmbench import Dataset
from lvmbench.data import HasFactors
from lvmbench_faces import dataset, renderer
from lvmbench_faces.dataset import Faces
from lvmbench_faces.factors import draw_sharing


@pytest.fixture(scope="module")
def faces():
    return Faces(size=32)


def test_the_faces_are_a_data_set(faces):
    assert isinstance(faces, Dataset)
    assert faces.schema.shape == (3, 32, 32)
    assert faces.schema.pixels == "gaussian"


def test_a_split_holds_pictures_labels_and_rows(faces):
    split = faces.split("val", 5)
    assert split.images.shape == (5, 3, 32, 32)
    assert split.images.dtype == torch.uint8
    assert split.labels.shape == (5, len(faces.schema.attributes))
    assert split.labels.dtype == torch.float32
    assert split.rows.dtype == torch.int64


def test_the_first_rows_are_the_same_whatever_the_limit(faces):
    short, long = faces.split("train", 4), faces.split("train", 9)
    assert torch.equal(short.images, long.images[:4])
    assert torch.equal(short.labels.nan_to_num(-1), long.labels[:4].nan_to_num(-1))
    assert torch.equal(short.rows, long.rows[:4])


def test_a_split_without_limit_has_its_published_length(faces, monkeypatch):
    monkeypatch.setattr(dataset, "LENGTH", {"val": 11})
    assert len(faces.split("val")) == 11


def test_splits_share_no_row(faces):
    rows = [set(faces.split(name, 6).rows.tolist()) for name in ("train", "val", "test")]
    assert len(set.union(*rows)) == 18


def test_labels_follow_from_the_published_factors(faces):
    split = faces.split("test", 50)
    factors = faces.factors(split)
    assert torch.equal(split.labels[:, faces.schema.index("age")], torch.as_tensor(factors["age"]).float())
    bald = torch.as_tensor(factors["bald"] == 1)
    assert torch.equal(split.labels[:, faces.schema.index("hair_color")].isnan(), bald)


def test_factors_can_be_asked_for_by_row_number(faces):
    split = faces.split("test", 5)
    assert np.array_equal(faces.factors(split.rows[2:3])["age"], faces.factors(split)["age"][2:3])


def test_the_ends_of_the_dial_are_the_two_modes():
    for rho, mode in ((0.0, "independent"), (1.0, "celeba")):
        mixed, pure = Faces(size=32, mode="correlated", rho=rho), Faces(size=32, mode=mode)
        assert mixed.fingerprint == pure.fingerprint
        assert torch.equal(mixed.split("val", 4).images, pure.split("val", 4).images)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 64},
        {"mode": "independent"},
        {"mode": "correlated", "rho": 0.9},
        {"seed": 1},
        {"eye_scale": 1.0},
        {"background_std": 0.0},
    ],
)
def test_the_fingerprint_changes_with_every_option(faces, options):
    assert Faces(**{"size": 32, **options}).fingerprint != faces.fingerprint


def test_the_fingerprint_ignores_what_changes_no_row(faces):
    assert Faces(size=32, rho=0.9).fingerprint == faces.fingerprint


def test_the_fingerprint_changes_with_the_renderer(faces, monkeypatch):
    monkeypatch.setattr(dataset, "VERSION", renderer.VERSION + 1)
    assert Faces(size=32).fingerprint != faces.fingerprint


def test_the_fingerprint_changes_with_the_factors(faces, monkeypatch):
    drawn = dataset.draw
    monkeypatch.setattr(dataset, "draw", lambda *a: {**drawn(*a), "age": drawn(*a)["age"] + 1e-5})
    assert Faces(size=32).fingerprint != faces.fingerprint


def test_pairs_differ_in_one_factor_and_in_pixels(faces):
    before, after, rows = faces.pairs("glasses", 6)
    assert torch.equal(before, faces.images(rows))
    assert (before != after).flatten(1).any(1).all()
    outside = slice(24, 32)  # below the chin
    assert torch.equal(before[:, :, outside], after[:, :, outside])


def test_the_faces_are_cached_under_their_fingerprint(cache_folder):
    faces = Faces(size=32)
    faces.split("val", 3)
    assert (cache_folder / f"faces-{faces.fingerprint[:16]}" / "val.pictures").exists()


def test_faces_in_a_group_share_one_factor_and_no_other():
    faces, each = Faces(size=32), 4
    places = np.arange(12)
    for name in ("glasses", "age", "background_hue"):
        table = draw_sharing(0, 100 + places, name, places // each)
        groups = {key: values.reshape(3, each) for key, values in table.items()}
        assert (groups[name] == groups[name][:, :1]).all()
        for key in {"age", "skin_tone", "pos_x"} - {name}:
            assert len(np.unique(groups[key])) == 12
    assert len(np.unique(groups["background_hue"])) == 3
    assert set(faces.factor_names) == set(table)


def test_groups_are_drawn_independently_in_every_mode():
    one, other = (Faces(size=32, mode=mode).sharing("male", 2, 3) for mode in ("celeba", "independent"))
    assert one.shape == (2, 3, 3, 32, 32)
    assert torch.equal(one, other)
    assert not torch.equal(one, Faces(size=32, seed=1).sharing("male", 2, 3))


def test_a_picture_of_a_group_is_drawn_once(faces, cache_folder, monkeypatch):
    first = faces.sharing("male", 2, 12)
    assert (cache_folder / f"faces-{faces.fingerprint[:16]}" / "sharing-male-12.pictures").exists()
    drawn = []
    monkeypatch.setattr(dataset, "render", lambda *a, **k: drawn.append(a) or renderer.render(*a, **k))
    assert torch.equal(faces.sharing("male", 2, 12), first)
    assert sum(len(table["male"]) for table, _ in drawn) < 24  # what the cache looks at to trust the file
    assert not torch.equal(first[:, :3], faces.sharing("bald", 2, 3))


def test_the_faces_can_draw_to_order(faces):
    assert isinstance(faces, HasFactors)
