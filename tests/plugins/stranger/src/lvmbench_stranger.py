"""A stranger's plugin: a model, a metric and a data set in one small file."""

import torch
from torch import Tensor

import lvmbench
from lvmbench import Attribute, Evaluation, Schema, Split, elbo, iwae_bound, log_weights


class CIWAE(lvmbench.VAE):
    """The VAE's p and q, fitted to a convex mix of the ELBO and the K-sample bound."""

    paper = "Rainforth et al. 2018, eq. 12"

    def __init__(self, schema: Schema, *, mix: float = 0.05, k: int = 8, **options: object) -> None:
        super().__init__(schema, **options)
        self.mix, self.k = mix, k

    def loss(self, x: Tensor) -> Tensor:
        """Return the negative mixed bound in nats: [B, C, H, W] -> [B]."""
        log_w = log_weights(self, x, self.k)
        return -(self.mix * elbo(log_w) + (1 - self.mix) * iwae_bound(log_w))


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
    return {"ciwae": CIWAE}


@lvmbench.hookimpl
def lvmbench_metrics():
    return {"code-norm": code_norm}


@lvmbench.hookimpl
def lvmbench_datasets():
    return {"stripes": Stripes}
