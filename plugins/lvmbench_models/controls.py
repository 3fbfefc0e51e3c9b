"""What brackets every model: an encoder that learned nothing, and a network that was told the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid

import lvmbench
from lvmbench import Attribute, Batch, Budget, Net, Schema, Split, centre_at, encoder, mean_picture


class RandomEncoder(nn.Module):
    """Random encoder: what the VAE's encoder tells before it has seen a picture."""

    paper: ClassVar[str] = "Saxe et al. 2011 (random weights as a floor)"

    def __init__(self, schema: Schema, *, latent_dim: Annotated[int, Ge(1)] = 16, net: Net = "conv") -> None:
        super().__init__()
        self.schema, self.latent_dim = schema, latent_dim
        # built as the VAE builds it, so that one seed gives both the same weights
        self.encoder = encoder(schema, lvmbench.VAE.outputs_per_dim * latent_dim, net)

    def fit(self, train: Split, budget: Budget, seed: int) -> None:
        """Learn nothing but the mean picture, as the VAE's encoder knows it before its first step."""
        centre_at(self.encoder, mean_picture(self.schema, train))

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
        self.schema = schema
        outputs = [_outputs(a) for a in schema.attributes]
        ends = list(accumulate(outputs))
        self.encoder = encoder(schema, features, net)
        self.head = nn.Linear(features, sum(outputs))
        # attributes of one kind have one answer each and share one loss; those of several classes stand alone
        self.binary = [i for i, a in enumerate(schema.attributes) if a.n_classes == 2]
        self.numbers = [i for i, a in enumerate(schema.attributes) if a.is_number]
        self.several = [i for i, a in enumerate(schema.attributes) if a.n_classes > 2]
        self.places = [slice(end - n, end) for n, end in zip(outputs, ends, strict=True)]
        self.columns = nn.ModuleDict(
            {"binary": _Columns(self.binary, self.places), "numbers": _Columns(self.numbers, self.places)}
        )
        self.centre: Tensor
        self.spread: Tensor
        self.register_buffer("centre", torch.zeros(len(schema.attributes)))
        self.register_buffer("spread", torch.ones(len(schema.attributes)))

    def own_budget(self, budget: Budget) -> Budget:
        """Return a budget that lets it converge: a weak ceiling flatters every model."""
        return replace(budget, images=3 * budget.images)

    def start(self, train: Split) -> None:
        """Take the mean picture, and mean and spread of each column of labels, by which numbers are standardised."""
        centre_at(self.encoder, mean_picture(self.schema, train))
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
        answers = self.head(self.encode(batch.x))
        labels = batch.labels
        standard = (labels - self.centre) / self.spread
        parts = [
            _sum_of_means(_logistic, *self.columns["binary"](answers, labels)),
            _sum_of_means(_half_square, *self.columns["numbers"](answers, standard)),
        ]
        parts += [_sum_of_means(_softmax, answers[:, self.places[i]], labels[:, i]) for i in self.several]
        return {"labels": torch.stack(parts).sum()}

    def encode(self, x: Tensor) -> Tensor:
        """Return the features that the answers are read from: [B, C, H, W] -> [B, features]."""
        features: Tensor = self.encoder(x).relu()
        return features

    def answers(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return log-probabilities of each attribute's classes, [B, C], or its value where it is a number, [B]."""
        answers = self.head(self.encode(x))
        return {a.name: self._answer(i, answers) for i, a in enumerate(self.schema.attributes)}

    def _answer(self, i: int, answers: Tensor) -> Tensor:
        own = answers[:, self.places[i]]
        if i in self.numbers:
            return own[:, 0] * self.spread[i] + self.centre[i]
        # two classes have one log-odds, that of the second
        return torch.cat([logsigmoid(-own), logsigmoid(own)], 1) if i in self.binary else own.log_softmax(1)


class _Columns(nn.Module):
    """The answers and the labels of some attributes: their places lie on the device, and no step waits for them."""

    def __init__(self, attributes: Sequence[int], places: Sequence[slice]) -> None:
        super().__init__()
        self.of_answers: Tensor
        self.of_labels: Tensor
        first = torch.tensor([places[i].start for i in attributes], dtype=torch.int64)
        self.register_buffer("of_answers", first, persistent=False)
        self.register_buffer("of_labels", torch.tensor(attributes, dtype=torch.int64), persistent=False)

    def forward(self, answers: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return answers.index_select(1, self.of_answers), labels.index_select(1, self.of_labels)


def _outputs(attribute: Attribute) -> int:
    return attribute.n_classes if attribute.n_classes > 2 else 1


def _sum_of_means(loss: Callable[[Tensor, Tensor], Tensor], answers: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over the rows whose label is known, summed over attributes: [B, ...], [B, A] -> []."""
    known = ~labels.isnan()
    rows = loss(answers, labels.nan_to_num())
    return ((rows * known).sum(0) / known.sum(0).clamp(min=1)).sum()


def _logistic(answers: Tensor, labels: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(answers, labels, reduction="none")


def _half_square(answers: Tensor, numbers: Tensor) -> Tensor:
    return 0.5 * (answers - numbers) ** 2


def _softmax(answers: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(answers, labels.long(), reduction="none")
