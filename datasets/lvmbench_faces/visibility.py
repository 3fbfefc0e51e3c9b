"""How visible is each attribute? ``python -m lvmbench_faces.visibility`` prints the table of the data set's card.

Two answers: how many grey levels the picture moves when only the attribute's factor is drawn again, and how well a
small supervised network reads the attribute in the independent mode, where nothing else gives it away.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from sklearn.metrics import r2_score, roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lvmbench import Attribute, Split
from lvmbench_faces.attributes import ATTRIBUTES, RULES
from lvmbench_faces.dataset import Faces

BATCH = 128


class Reader(nn.Module):
    """A small convolutional network with an output for each class of each attribute: [B, 3, S, S] -> [B, O]."""

    def __init__(self, size: int, width: int = 24) -> None:
        super().__init__()
        self.outputs = [1 if a.kind == "binary" or a.is_number else a.n_classes for a in ATTRIBUTES]
        channels = [3, width, 2 * width, 3 * width, 4 * width]
        layers: list[nn.Module] = []
        for i, o in pairwise(channels):
            layers += [nn.Conv2d(i, o, 3, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        features = channels[-1] * (size // 16) ** 2
        self.net = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(features, sum(self.outputs))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of each attribute: uint8 [B, 3, S, S] -> A times [B, O]."""
        out: Tensor = self.net(images.float() / 128 - 1)
        return list(out.split(self.outputs, dim=1))


def loss(attribute: Attribute, output: Tensor, label: Tensor) -> Tensor:
    """Return how far one attribute is missed where its label is known: [B, O], [B] -> scalar."""
    known = ~label.isnan()
    output, label = output[known], label[known]
    if attribute.is_number:
        return F.mse_loss(output[:, 0], _standard(label))
    if attribute.kind == "binary":
        return F.binary_cross_entropy_with_logits(output[:, 0], label)
    return F.cross_entropy(output, label.long())


def _standard(age: Tensor) -> Tensor:
    return (age - 49) / 18


def train(split: Split, size: int, epochs: int) -> Reader:
    """Return a network that has learned to read all attributes at once."""
    torch.manual_seed(0)
    reader = Reader(size)
    steps = epochs * (len(split) // BATCH)
    optimiser = torch.optim.AdamW(reader.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(split), (BATCH,))
        images, labels = split.images[rows], split.labels[rows]
        outputs = reader(images)
        total = sum(loss(a, o, y) for a, o, y in zip(ATTRIBUTES, outputs, labels.T, strict=True))
        optimiser.zero_grad()
        torch.as_tensor(total).backward()
        optimiser.step()
        schedule.step()
    return reader.eval()


@torch.no_grad()
def readability(reader: Reader, split: Split) -> dict[str, float]:
    """Return the AUROC of each attribute (macro one-vs-rest for classes), R² for a number."""
    chunks = [reader(images) for images in split.images.split(BATCH)]
    outputs = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
    return {a.name: _score(a, o, y) for a, o, y in zip(ATTRIBUTES, outputs, split.labels.T, strict=True)}


def _score(attribute: Attribute, output: Tensor, label: Tensor) -> float:
    known = ~label.isnan()
    output, label = output[known], label[known]
    if attribute.is_number:
        return float(r2_score(_standard(label), output[:, 0]))
    if attribute.kind == "binary":
        return float(roc_auc_score(label, output[:, 0]))
    hits = [roc_auc_score(label == k, output.log_softmax(1)[:, k]) for k in range(attribute.n_classes)]
    return float(np.mean(hits))


def movement(faces: Faces, n: int = 300) -> dict[str, float]:
    """Return the RMS change of a pixel, in grey levels, when one factor is drawn again: factor -> number."""
    table = faces.factors(np.arange(n))
    return {name: _rms(*faces.pairs(name, n)[:2]) for name in table}


def _rms(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).square().mean().sqrt())


def prevalence(faces: Faces, n: int = 100_000) -> dict[str, float]:
    """Return the share of each binary attribute among the faces that show it, in percent."""
    table = faces.factors(np.arange(n))
    binary = [rule for rule in RULES if rule.attribute.kind == "binary"]
    return {rule.attribute.name: 100 * float(np.nanmean(rule.labels(table))) for rule in binary}


def markdown(read: Mapping[str, float], moved: Mapping[str, float], share: Mapping[str, float]) -> str:
    """Return the table, one row for each attribute."""
    lines = [
        "| attribute | AUROC | RMS, grey levels | % in celeba mode |",
        "|---|---:|---:|---:|",
    ]
    for rule in RULES:
        name = rule.attribute.name
        score = f"R² {read[name]:.3f}" if rule.attribute.is_number else f"{read[name]:.3f}"
        percent = f"{share[name]:.1f}" if name in share else "–"
        lines.append(f"| {name} | {score} | {moved[rule.factor]:.1f} | {percent} |")
    return "\n".join(lines)


def nuisances(moved: Mapping[str, float]) -> str:
    """Return the table of the factors that no attribute names, the loudest first."""
    named = {rule.factor for rule in RULES}
    rest = sorted(((value, name) for name, value in moved.items() if name not in named), reverse=True)
    return "\n".join(
        ["| nuisance | RMS, grey levels |", "|---|---:|", *(f"| {n} | {v:.1f} |" for v, n in rest)]
    )


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="How visible is each attribute of the faces?")
    parser.add_argument("--size", type=int, default=64, choices=(32, 64, 128))
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    faces = Faces(size=options.size, mode="independent")
    reader = train(faces.split("train", options.rows), options.size, options.epochs)
    read = readability(reader, faces.split("test"))
    moved = movement(faces)
    table = markdown(read, moved, prevalence(Faces(size=options.size)))
    sys.stdout.write(f"{table}\n\n{nuisances(moved)}\n")


if __name__ == "__main__":
    main()
