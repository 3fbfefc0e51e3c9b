"""Scores of clusters against classes, each a smooth function of means over rows.

Purity, mutual information, entropies and pair counts are all means of something that a row contributes. The
bootstrap re-weighs these contributions and holds what they are made from (the majority of a cluster, the
log-ratio of a cell) at the sample: a first-order bootstrap. Counting anew in every replicate would be biased
upwards, since a row that is drawn twice always agrees with itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lvmbench_metrics.contingency import expected_mutual_information, permuted_purity, table

TINY = 1e-12


@dataclass(frozen=True)
class Agreement:
    """Scores of S clusterings, under R weightings of the rows: each [R, S], the majority share [R, 1]."""

    purity: Tensor
    majority_share: Tensor
    adjusted_purity: Tensor
    nmi: Tensor
    ami: Tensor
    rand_index: Tensor
    ari: Tensor


class Contributions:
    """What every row adds to the scores of S clusterings against one attribute: [S, N], [N] labels."""

    def __init__(self, clusters: Tensor, labels: Tensor, k: int, c: int) -> None:
        counts = table(clusters, labels, k, c)
        seeds = torch.arange(len(clusters), device=clusters.device)[:, None]
        n = labels.numel()
        cell = counts[seeds, clusters, labels]  # [S, N]: rows that share cluster and class with this one
        cluster, klass = counts.sum(2)[seeds, clusters], counts.sum(1)[seeds, labels]
        self.expected_mi = expected_mutual_information(counts)
        self.rows = {
            "purity": (labels == counts.argmax(2)[seeds, clusters]).double(),
            "by_chance": permuted_purity(clusters, labels, k, c)[seeds, labels],
            "majority": (labels == counts[0].sum(0).argmax()).double()[None],
            "mi": torch.log(n * cell / (cluster * klass)),
            "h_cluster": torch.log(n / cluster),
            "h_class": torch.log(n / klass)[:1],
            "pairs": (cell - 1) / (n - 1),
            "cluster_pairs": (cluster - 1) / (n - 1),
            "class_pairs": ((klass - 1) / (n - 1))[:1],
        }

    def scores(self, weights: Tensor) -> Agreement:
        """Return the scores under each weighting of the rows: [R, N] -> [R, S]."""
        mean = self._means(weights)

        def pairs(
            name: str,
        ) -> Tensor:  # a share of pairs is of second order: its slope is twice the mean of rows
            return 2 * mean[name] - self.rows[name].mean(1)

        normaliser, emi = (mean["h_cluster"] + mean["h_class"]) / 2, self.expected_mi
        by_chance = pairs("cluster_pairs") * pairs("class_pairs")
        most = (pairs("cluster_pairs") + pairs("class_pairs")) / 2
        return Agreement(
            mean["purity"],
            mean["majority"],
            _beyond(mean["purity"], mean["by_chance"], 1.0),
            _beyond(mean["mi"], 0.0, normaliser),
            _beyond(mean["mi"], emi, normaliser),
            1 + 2 * (pairs("pairs") - most),
            _beyond(pairs("pairs"), by_chance, most),
        )

    def _means(self, weights: Tensor) -> dict[str, Tensor]:
        """Return the weighted mean of every contribution, all from one GEMM: [R, N] -> [R, S] each."""
        rows = torch.cat(list(self.rows.values())).to(weights)
        total = weights.sum(1, keepdim=True).double()
        means = (weights @ rows.T).double() / total
        sizes = [len(of) for of in self.rows.values()]
        return dict(zip(self.rows, torch.split(means, sizes, dim=1), strict=True))


def _beyond(value: Tensor, chance: Tensor | float, best: Tensor | float) -> Tensor:
    """Return (value - chance) / (best - chance), and 1 where chance already is the best: a perfect match."""
    room = torch.as_tensor(best - chance)
    return torch.where(room.abs() < TINY, 1.0, (value - chance) / room)
