from types import SimpleNamespace

import pytest
import torch

from lvmbench import Budget, Evaluation, Schema, Split

SPLITS = ("train", "val", "test")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def split(labels, people=None):
    n = len(labels)
    groups = None if people is None else torch.arange(n) % people
    return Split(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), labels.float(), torch.arange(n), groups)


@pytest.fixture
def coded():
    """Build an evaluation from codes and labels.

    ``draw(n, generator) -> z [n, D], labels [n, A]``, or what it would give by split; in place of z, codes by
    view. With ``people``, the rows are pictures of so many identities.
    """

    def build(attributes, draw, sizes=(1000, 500, 1000), seed=0, people=None):
        generator = torch.Generator().manual_seed(seed)
        drawn = (
            draw
            if isinstance(draw, dict)
            else {s: draw(n, generator) for s, n in zip(SPLITS, sizes, strict=True)}
        )
        seen = {s: z if isinstance(z, dict) else {"mean": z} for s, (z, _) in drawn.items()}
        splits = {s: split(y.reshape(len(seen[s]["mean"]), -1), people) for s, (_, y) in drawn.items()}
        codes = {f"{s}/{view}": z for s in seen for view, z in seen[s].items()}
        views = {view: torch.Tensor for view in seen["test"] if view != "mean"}
        model = SimpleNamespace(encode=lambda x: x.flatten(1), views=lambda: views)
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
