import pytest
import torch

from lvmbench import Attribute, Budget, Schema, Split


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def budget():
    return Budget(images=64, batch=16, train=80, val=20)


@pytest.fixture
def schema():
    return Schema(
        (1, 28, 28),
        "gaussian",
        (
            Attribute("Bright", "binary"),
            Attribute("half", "categorical", ("left", "right")),
            Attribute("level", "ordinal", unit="grey levels"),
        ),
    )


@pytest.fixture
def split(schema):
    """A function that gives n pictures of a level, with labels of which every fifth is missing."""

    def make(n, seed=0):
        generator = torch.Generator().manual_seed(seed)
        level = torch.randint(30, 220, (n, 1, 1, 1), generator=generator)
        images = (level + torch.randint(-20, 20, (n, *schema.shape), generator=generator)).to(torch.uint8)
        half = torch.arange(n) % 2
        for i, side in enumerate(half.tolist()):
            images[i, :, :, side * 14 : side * 14 + 14] //= 2
        labels = torch.stack([(level.flatten() > 125).float(), half.float(), level.flatten().float()], dim=1)
        labels[::5] = torch.nan
        return Split(images, labels, torch.arange(n))

    return make
