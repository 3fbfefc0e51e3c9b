from types import SimpleNamespace

import pytest
import torch

from lvmbench import Budget, Evaluation, Schema, Split

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def split(labels, first=0):
    n = len(labels)
    return Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), labels.float(), torch.arange(first, first + n))


@pytest.fixture
def coded():
    """Build an evaluation from codes and labels.

    ``draw(n, generator) -> z [n, D], labels [n, A]``, or what it would give by split.
    """

    def build(attributes, draw, sizes=(1000, 500, 1000), seed=0):
        generator = torch.Generator().manual_seed(seed)
        drawn = (
            draw
            if isinstance(draw, dict)
            else {s: draw(n, generator) for s, n in zip(SPLITS, sizes, strict=True)}
        )
        splits = {s: split(y.reshape(len(z), -1)) for s, (z, y) in drawn.items()}
        codes = {f"{s}/mean": z for s, (z, _) in drawn.items()}
        model = SimpleNamespace(encode=lambda x: x.flatten(1))
        return Evaluation(
            model, Schema((1, 1, 1), "gaussian", tuple(attributes)), splits, Budget(), codes=codes
        )

    return build


@pytest.fixture
def pictured():
    """Build an evaluation of a model on test pictures: uint8 [N, C, H, W]."""

    def build(model, images, pixels="gaussian", **budget):
        labels, rows = torch.zeros(len(images), 0), torch.arange(len(images))
        schema = Schema(tuple(images.shape[1:]), pixels)
        return Evaluation(model, schema, {"test": Split(images, labels, rows)}, Budget(**budget))

    return build
