"""pythae's default MLP for a VAE, as a net of lvmbench: one hidden layer of 512 units on either side."""

from __future__ import annotations

from torch import nn

from lvmbench.data import Schema

HIDDEN = 512


def encoder(schema: Schema, outputs: int) -> nn.Module:
    """Return a network from pictures to numbers: [B, C, H, W] -> [B, outputs]."""
    return nn.Sequential(nn.Flatten(), nn.Linear(schema.dims, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs))


def decoder(schema: Schema, latent_dim: int) -> nn.Module:
    """Return a network from codes to logits: [B, latent_dim] -> [B, C, H, W]."""
    out = nn.Unflatten(1, schema.shape)
    return nn.Sequential(nn.Linear(latent_dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, schema.dims), out)
