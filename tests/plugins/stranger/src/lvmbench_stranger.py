"""A stranger's plugin: a model, a metric and a data set in one small file."""

import torch
from torch import Tensor

import lvmbench
from lvmbench import Attribute, Evaluation, Schema, Split, rate_distortion


class FreeBits(lvmbench.VAE):
    """The VAE whose rate costs nothing up to so many nats."""

    paper = "Kingma et al. 2016, appendix C.8"

    def __init__(self, schema: Schema, *, nats: float = 8.0, **options: object) -> None:
        super().__init__(schema, **options)
        self.nats = nats

    def loss(self, x: Tensor) -> Tensor:
        """Return -log p(x|z) and the rate beyond the free nats: [B, C, H, W] -> [B]."""
        rate, distortion = rate_distortion(self, x)
        return distortion + rate.mean().clamp(min=self.nats)


@lvmbench.metric(better="neither", unit="", needs=("codes",))
def code_norm(ev: Evaluation) -> lvmbench.Estimate:
    """Return the mean length of a code."""
    return lvmbench.Estimate.of_rows(ev.codes().norm(dim=1))


class Stripes:
    """Pictures of upright or lying stripes."""

    schema = Schema((1, 28, 28), "bernoulli", (Attribute("Upright", "binary"),))
    fingerprint = "stripes 1"

    def split(self, name: str, limit: int | None = None) -> Split:
        """Return the first rows of one part."""
        n = min(limit or 512, {"train": 512, "val": 64, "test": 64}[name])
        start = {"train": 0, "val": 1000, "test": 2000}[name]
        upright = torch.arange(n) % 2
        bars = 255 * (torch.arange(28) // 4 % 2)
        lying = bars[:, None].expand(28, 28)
        images = torch.where(upright.bool()[:, None, None], lying.T, lying)[:, None]
        return Split(images.to(torch.uint8), upright.float()[:, None], torch.arange(n) + start)


@lvmbench.hookimpl
def lvmbench_models():
    return {"free-bits": FreeBits}


@lvmbench.hookimpl
def lvmbench_metrics():
    return {"code-norm": code_norm}


@lvmbench.hookimpl
def lvmbench_datasets():
    return {"stripes": Stripes}
