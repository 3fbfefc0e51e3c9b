"""pythae's convolutional net for MNIST (``pythae.models.nn.benchmarks.mnist``), as a net of lvmbench."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from lvmbench.data import Schema

WIDTHS = (128, 256, 512, 1024)
SIDE = 4  # of the pictures that the decoder begins with


def encoder(schema: Schema, outputs: int) -> nn.Module:
    """Return a network from pictures of 28×28 to numbers: [B, 1, 28, 28] -> [B, outputs]."""
    layers: list[nn.Module] = []
    for a, b in pairwise((1, *WIDTHS)):
        layers += [nn.Conv2d(a, b, 4, 2, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1], outputs))


def decoder(schema: Schema, latent_dim: int) -> nn.Module:
    """Return a network from codes to logits: [B, latent_dim] -> [B, 1, 28, 28]."""
    c1, c2, c3 = WIDTHS[:0:-1]
    return nn.Sequential(
        nn.Linear(latent_dim, c1 * SIDE * SIDE),
        nn.Unflatten(1, (c1, SIDE, SIDE)),
        nn.ConvTranspose2d(c1, c2, 3, 2, padding=1),
        nn.BatchNorm2d(c2),
        nn.ReLU(),
        nn.ConvTranspose2d(c2, c3, 3, 2, padding=1, output_padding=1),
        nn.BatchNorm2d(c3),
        nn.ReLU(),
        nn.ConvTranspose2d(c3, 1, 3, 2, padding=1, output_padding=1),
    )
