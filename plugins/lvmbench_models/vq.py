"""The vector-quantised VAE: a code of places in a codebook, found by the nearest entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor
from torch.nn.functional import one_hot

import lvmbench
from lvmbench import Loss, Net, Schema, Split, UsageError, Weights, expected

UNUSED = 0.01  # of the mean use: an entry below is taken for dead
START_ROWS = 4096  # training pictures from whose codes the codebook starts
CHUNK = 256


class VQVAE(lvmbench.Autoencoder):
    """VQ-VAE: ``groups`` vectors a picture, each replaced by the nearest of ``codes`` entries of one codebook.

    The codebook begins as vectors of training pictures and follows them by a moving average. As a latent variable
    model it has a uniform prior over the entries and a posterior that is sure of one: its rate is
    groups · log(codes) nats.
    """

    paper: ClassVar[str] = "van den Oord, Vinyals & Kavukcuoglu 2017, eq. 1-3 and appendix A.1"

    def __init__(
        self,
        schema: Schema,
        *,
        codes: Annotated[int, Ge(2)] = 512,
        groups: Annotated[int, Ge(1)] = 16,
        latent_dim: Annotated[int, Ge(1)] = 256,
        beta: Annotated[float, Gt(0)] = 0.25,
        decay: Annotated[float, Ge(0), Lt(1)] = 0.99,
        net: Net = "conv",
    ) -> None:
        if latent_dim % groups:
            raise UsageError(
                f"groups={groups} do not share latent_dim={latent_dim}: "
                f"{'there are more groups than dimensions' if groups > latent_dim else 'it is no multiple of them'}."
            )
        super().__init__(schema, latent_dim=latent_dim, net=net)
        self.latents = groups
        self.codes, self.groups, self.beta, self.decay = codes, groups, beta, decay
        self.codebook: Tensor
        self.counts: Tensor
        self.sums: Tensor
        self.register_buffer("codebook", torch.randn(codes, latent_dim // groups))
        self.register_buffer("counts", torch.ones(codes))  # 1 is the mean use
        self.register_buffer("sums", self.codebook.clone())

    @torch.no_grad()
    def start(self, train: Split) -> None:
        """Take vectors of training pictures as the first codebook."""
        super().start(train)
        chunks = train.images[:START_ROWS].to(self.codebook.device).split(CHUNK)
        vectors = torch.cat([self.vectors(expected(self.schema, images)) for images in chunks]).flatten(0, 1)
        self.codebook.copy_(vectors[torch.randint(len(vectors), (self.codes,))])
        self.sums.copy_(self.codebook)

    def vectors(self, x: Tensor) -> Tensor:
        """Return the vectors before they are replaced: [B, C, H, W] -> [B, G, D / G]."""
        vectors: Tensor = super().encode(x).unflatten(-1, (self.groups, -1))
        return vectors

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the place of the nearest entry of the codebook: [B, G, D / G] -> int64 [B, G]."""
        # |v - e|² without |v|², which is the same for every entry
        distance: Tensor = self.codebook.square().sum(1) - 2 * vectors @ self.codebook.T
        return distance.argmin(-1)

    def loss(self, x: Tensor) -> Loss:
        """Return -log p(x|z) and the commitment of the vectors to their entries: [B, C, H, W] -> [B] each.

        The commitment is the paper's mean over all numbers of a code, beta |v - sg(e)|², times the pixels of a
        picture: its weight against the distortion is that of two means, whatever the sizes and the batch.
        """
        vectors = self.vectors(x)
        places = self.nearest(vectors)
        entries = self.codebook[places]
        if self.training:
            self._seen = vectors.detach().flatten(0, 1), places.flatten()
        straight = vectors + (entries - vectors).detach()  # the decoder's gradient goes past the choice
        commitment = (vectors - entries).square().flatten(1).mean(1)
        return {
            "distortion": -self.decode(straight.flatten(1)).log_prob(x),
            "commitment": self.beta * self.schema.dims * commitment,
        }

    @torch.no_grad()
    def after_step(self) -> None:
        """Move each entry to the running mean of the vectors that chose it; one that none chooses begins anew."""
        vectors, places = self._seen
        share = self.codes / len(places)
        chosen = vectors.new_zeros(len(places), self.codes).scatter_(1, places[:, None], share)
        # N <- decay N + (1 - decay) n, m <- decay m + (1 - decay) sum z, e = m / N
        self.counts.lerp_(chosen.sum(0), 1 - self.decay)
        self.sums.lerp_(chosen.T @ vectors, 1 - self.decay)
        dead = self.counts < UNUSED
        anew = vectors[torch.randint(len(vectors), (self.codes,), device=vectors.device)]
        self.counts.masked_fill_(dead, 1.0)
        self.sums.copy_(torch.where(dead[:, None], anew, self.sums))
        self.codebook.copy_(self.sums / self.counts[:, None])

    def encode(self, x: Tensor) -> Tensor:
        """Return the entries side by side: [B, C, H, W] -> [B, D]."""
        return self.codebook[self.nearest(self.vectors(x))].flatten(1)

    def weigher(self, x: Tensor) -> Callable[[int], Weights]:
        """Return a function to the terms of log w, the same for each of k draws of a sure posterior: k -> [K, B]."""
        log_likelihood = self.decode(self.encode(x)).log_prob(x)
        log_prior = torch.full_like(log_likelihood, -self.groups * math.log(self.codes))

        def weigh(k: int) -> Weights:
            return Weights(*(term.expand(k, -1) for term in (log_likelihood, log_prior, log_prior * 0)))

        return weigh

    def views(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """Return other codes by name: ``one-hot`` places, ``bag`` of codes, ``pooled`` entries."""

        def one(x: Tensor) -> Tensor:
            return one_hot(self.nearest(self.vectors(x)), self.codes).float()

        return {
            "one-hot": lambda x: one(x).flatten(1),
            "bag": lambda x: one(x).mean(1),
            "pooled": lambda x: self.encode(x).unflatten(-1, (self.groups, -1)).mean(1),
        }
