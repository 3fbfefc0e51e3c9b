"""DIP-VAE: moments of the aggregate posterior held to those of the prior."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from annotated_types import Ge
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

import lvmbench
from lvmbench import Loss, Schema


class DIPVAE1(lvmbench.VAE):
    """DIP-VAE-I: the covariance over pictures of the posterior means is drawn to the identity."""

    paper: ClassVar[str] = "Kumar, Sattigeri & Balakrishnan 2018, eq. 6"

    def __init__(
        self,
        schema: Schema,
        *,
        off_diagonal: Annotated[float, Ge(0)] = 10.0,
        diagonal: Annotated[float, Ge(0)] = 100.0,
        **options: Any,
    ) -> None:
        super().__init__(schema, **options)
        self.off_diagonal, self.diagonal = off_diagonal, diagonal

    def loss(self, x: Tensor) -> Loss:
        """Return -ELBO at one draw and the weighted squares of cov - I, in nats: [B, C, H, W] -> [B] and []."""
        q = self.posterior(x)
        cov = self.moments(q)
        off = cov - cov.diag().diag()
        return {
            "distortion": -self.decode(q.rsample()).log_prob(x),
            "rate": kl_divergence(q, self.prior()),
            # l_od sum_(i != j) C_ij² + l_d sum_i (C_ii - 1)²
            "off-diagonal": self.off_diagonal * off.square().sum(),
            "diagonal": self.diagonal * (cov.diag() - 1).square().sum(),
        }

    def moments(self, q: Distribution) -> Tensor:
        """Return Cov_x[mu(x)] over the batch: [D, D]."""
        return covariance(q.mean)


class DIPVAE2(DIPVAE1):
    """DIP-VAE-II: the covariance of z itself, E_x[diag sigma²] + Cov_x[mu], is drawn to the identity."""

    paper: ClassVar[str] = "Kumar, Sattigeri & Balakrishnan 2018, eq. 7"

    def __init__(
        self,
        schema: Schema,
        *,
        off_diagonal: Annotated[float, Ge(0)] = 10.0,
        diagonal: Annotated[float, Ge(0)] = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(schema, off_diagonal=off_diagonal, diagonal=diagonal, **options)

    def moments(self, q: Distribution) -> Tensor:
        """Return Cov_q(z)[z] over the batch: [D, D]."""
        return covariance(q.mean) + q.variance.mean(0).diag()


def covariance(rows: Tensor) -> Tensor:
    """Return the covariance over rows, divided by their number: [B, D] -> [D, D]."""
    centred = rows - rows.mean(0)
    return centred.T @ centred / len(rows)
