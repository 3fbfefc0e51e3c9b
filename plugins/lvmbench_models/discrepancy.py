"""Models that hold the aggregate posterior q(z) to the prior by the maximum mean discrepancy of two samples."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Gt, Le
from torch import Tensor
from torch.distributions import kl_divergence

import lvmbench
from lvmbench import Loss, Schema, UsageError, likelihood

Kernel = Literal["imq", "rbf"]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the inverse multiquadratics that are summed


class InfoVAE(lvmbench.VAE):
    """InfoVAE: part of the rate is replaced by the discrepancy of q(z) from the prior; MMD-VAE at ``alpha=1``."""

    paper: ClassVar[str] = "Zhao, Song & Ermon 2019, eq. 6"

    def __init__(
        self,
        schema: Schema,
        *,
        alpha: Annotated[float, Le(1)] = 0.0,
        lam: float = 1000.0,
        kernel: Kernel = "rbf",
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        self.coefficient = alpha + lam - 1
        if self.coefficient <= 0:
            raise UsageError(
                f"alpha={alpha:g} and lam={lam:g} weigh the discrepancy by alpha + lam - 1 = "
                f"{self.coefficient:g}: give values whose sum is over 1, or it would be maximised."
            )
        self.alpha, self.kernel = alpha, kernel

    def loss(self, x: Tensor) -> Loss:
        """Return distortion + (1 - alpha) rate + (alpha + lam - 1) MMD: [B, C, H, W] -> [B] and []."""
        q = self.posterior(x)
        z = q.rsample()
        mmd = discrepancy(z, self.prior().rsample(z.shape[:1]), self.kernel)
        return {
            "distortion": -self.decode(z).log_prob(x),
            "weighted rate": (1 - self.alpha) * kl_divergence(q, self.prior()),
            "weighted discrepancy": self.coefficient * mmd,
        }


class WAE(lvmbench.Autoencoder):
    """Wasserstein autoencoder (WAE-MMD): a squared error, and the discrepancy of the codes from N(0, I).

    z is a function of x and nothing weighs it: there is no density of z, hence no bound.
    """

    paper: ClassVar[str] = "Tolstikhin et al. 2018, algorithm 2"
    constraints: ClassVar[tuple[str, ...]] = ("scale",)  # fitted beside the objective, no part of it

    def __init__(
        self, schema: Schema, *, lam: Annotated[float, Gt(0)] = 10.0, kernel: Kernel = "imq", **options: Any
    ) -> None:
        super().__init__(schema, **options)
        self.lam, self.kernel = lam, kernel

    def loss(self, x: Tensor) -> Loss:
        """Return |x - G(z)|² + lam MMD; the scale of the pixels is fitted beside it: [B, C, H, W] -> [B] and []."""
        z = self.encode(x)
        outputs = self.decoder(z)
        mean = likelihood(self.schema, outputs, self.scale()).mean
        held = likelihood(self.schema, outputs.detach(), self.scale())
        terms = {
            "squared error": (x - mean).square().flatten(1).sum(1),
            "weighted discrepancy": self.lam * discrepancy(z, torch.randn_like(z), self.kernel),
        }
        if self.schema.pixels == "gaussian":
            terms["scale"] = -held.log_prob(x) / self.schema.dims  # moves the scale and nothing else
        return terms


def discrepancy(z: Tensor, prior: Tensor, kernel: Kernel) -> Tensor:
    """Return an estimate of MMD² without bias from two samples: [B, D] twice -> [].

    Pairs of a row with itself are left out within a sample (Gretton et al. 2012, eq. 3).
    """
    within = sum(_off_diagonal_mean(_kernel(rows, rows, kernel)) for rows in (z, prior))
    return within - 2 * _kernel(z, prior, kernel).mean()


def _kernel(a: Tensor, b: Tensor, kernel: Kernel) -> Tensor:
    """Return the kernel of every pair, its width that of a standard normal prior: [B, D], [B, D] -> [B, B]."""
    squares = (a[:, None] - b).square().sum(-1)
    width = 2.0 * a.shape[1]  # E|z - z'|² under N(0, I)
    if kernel == "rbf":
        return torch.exp(-squares / width)
    return torch.stack([s * width / (s * width + squares) for s in SCALES]).sum(0)


def _off_diagonal_mean(square: Tensor) -> Tensor:
    n = len(square)
    return (square.sum() - square.diag().sum()) / max(n * (n - 1), 1)
