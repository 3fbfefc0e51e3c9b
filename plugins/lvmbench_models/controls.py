"""What brackets every model: an encoder that learned nothing, and a network that was told the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

import lvmbench
from lvmbench import Attribute, Batch, Budget, Net, Schema, Split, encoder


class RandomEncoder(nn.Module):
    """Random encoder: what the VAE's encoder tells before it has seen a picture."""

    paper: ClassVar[str] = "Saxe et al. 2011 (random weights as a floor)"

    def __init__(self, schema: Schema, *, latent_dim: Annotated[int, Ge(1)] = 16, net: Net = "conv") -> None:
        super().__init__()
        self.latent_dim = latent_dim
        # built as the VAE builds it, so that one seed gives both the same weights
        self.encoder = encoder(schema, lvmbench.VAE.outputs_per_dim * latent_dim, net)

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn nothing."""

    def encode(self, x: Tensor) -> Tensor:
        """Return the mean that the untrained encoder gives: [B, C, H, W] -> [B, D]."""
        mean: Tensor = self.encoder(x)[:, : self.latent_dim]
        return mean


class Supervised(nn.Module):
    """Supervised ceiling: a classifier of all attributes; its code is the layer before its answers.

    Numbers are standardised, missing labels count for nothing.
    """

    paper: ClassVar[str] = "Caruana 1997 (one network for many tasks)"
    patience: ClassVar[int] = 5  # looks

    def __init__(self, schema: Schema, *, features: Annotated[int, Ge(1)] = 64, net: Net = "conv") -> None:
        super().__init__()
        self.attributes = schema.attributes
        self.encoder = encoder(schema, features, net)
        self.heads = nn.ModuleList(nn.Linear(features, _outputs(a)) for a in schema.attributes)
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(len(schema.attributes)))
        self.register_buffer("spread", torch.ones(len(schema.attributes)))

    def own_budget(self, budget: Budget) -> Budget:
        """Return a budget that lets it converge: a weak ceiling flatters every model."""
        return replace(budget, images=2 * budget.images)

    def start(self, train: Split) -> None:
        """Take mean and spread of each column of labels, by which numbers are standardised."""
        known = ~train.labels.isnan()
        n = known.sum(0).clamp(min=1)
        self.centre = train.labels.nan_to_num().sum(0) / n
        errors = (train.labels - self.centre).nan_to_num()
        self.spread = ((errors**2).sum(0) / n).sqrt().clamp(min=1e-6)

    def parameter_groups(self) -> Mapping[str, Iterable[Parameter]]:
        """Return all weights as one group."""
        return {"labels": self.parameters()}

    def losses(self, batch: Batch, progress: float) -> Mapping[str, Tensor]:
        """Return the mean loss over known labels, summed over attributes, in nats (numbers: half squares)."""
        features = self.encode(batch.x)
        columns = zip(self.attributes, self.heads, batch.labels.T, self.centre, self.spread, strict=True)
        losses = [_loss(a, head(features), (y - c) / s if a.is_number else y) for a, head, y, c, s in columns]
        return {"labels": torch.stack(losses).sum()}

    def encode(self, x: Tensor) -> Tensor:
        """Return the features that the answers are read from: [B, C, H, W] -> [B, features]."""
        features: Tensor = self.encoder(x).relu()
        return features


def _outputs(attribute: Attribute) -> int:
    return 1 if attribute.is_number else attribute.n_classes


def _loss(attribute: Attribute, answer: Tensor, label: Tensor) -> Tensor:
    """Return the mean loss over the rows whose label is known: [B, outputs], [B] -> []."""
    known = ~label.isnan()
    label = label.nan_to_num()
    if attribute.is_number:
        rows = 0.5 * (answer[:, 0] - label) ** 2
    else:
        rows = cross_entropy(answer, label.long(), reduction="none")
    return (rows * known).sum() / known.sum().clamp(min=1)
