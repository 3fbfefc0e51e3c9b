from types import SimpleNamespace

import pytest
import torch
from torch.distributions import Independent, Normal

from lvmbench import Attribute, Budget, Evaluation, Schema, Split

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


class Mirror:
    """A model whose code is the picture: two pixels in a row, each a number between 0 and 1."""

    def encode(self, x):
        return x.flatten(1)

    def decode(self, z):
        return Independent(Normal(z.view(*z.shape[:-1], 1, 1, 2), 0.1), 3)


class Judge:
    """Sees in which half each pixel lies."""

    def answers(self, x):
        sides = (x.flatten(1) > 0.5).float()
        return {
            name: torch.stack([1 - sides[:, i], sides[:, i]], 1).log()
            for i, name in enumerate(("Left", "Right"))
        } | {"number": x.flatten(1)[:, 0]}


@pytest.fixture
def mirrored():
    """Build an evaluation in which z is the picture: Left and Right say whether a pixel is bright, exactly."""

    def build(model=None, judge=Judge, labels=None, rows=(400, 100, 200), seed=0, pixels="gaussian"):
        g = torch.Generator().manual_seed(seed)
        splits, codes = {}, {}
        for n, name in zip(rows, SPLITS, strict=True):
            bright = torch.randint(0, 2, (n, 2), generator=g)
            z = 0.25 + 0.5 * bright + 0.02 * torch.randn(n, 2, generator=g)
            told = torch.cat([bright.float(), z[:, :1]], 1)
            images = (z * 256).byte().view(n, 1, 1, 2)
            splits[name] = Split(images, told if labels is None else labels(told), torch.arange(n))
            codes[f"{name}/mean"] = z
        attributes = (
            Attribute("Left", "binary"),
            Attribute("Right", "binary"),
            Attribute("number", "ordinal"),
        )
        schema = Schema((1, 1, 2), pixels, attributes)
        told = (lambda: judge()) if judge else None
        return Evaluation(model or Mirror(), schema, splits, Budget(), codes=codes, judge=told)

    return build
