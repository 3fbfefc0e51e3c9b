import numpy as np
import pytest

from lvmbench_faces.dataset import Faces
from lvmbench_faces.factors import FACTORS
from lvmbench_faces.sheet import COLUMNS, PLAIN, SWITCHES, TILE


@pytest.fixture(scope="module")
def sheet():
    return Faces(size=32).grid()


def test_the_sheet_is_as_wide_as_its_tiles(sheet):
    assert sheet.mode == "RGB"
    assert sheet.width > COLUMNS * TILE


def test_the_sheet_shows_more_than_paper(sheet):
    assert np.asarray(sheet).std() > 20


def test_the_plain_face_has_every_factor():
    assert list(PLAIN) == [factor.name for factor in FACTORS]


def test_switches_are_factors():
    assert all(set(values) <= set(PLAIN) for _, values in SWITCHES)
