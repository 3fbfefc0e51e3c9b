"""How clusters and classes meet: tables of counts, and what chance alone would put into them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

PERMUTATIONS = 100


def table(clusters: Tensor, labels: Tensor, k: int, c: int) -> Tensor:
    """Count rows by cluster and class: [S, N] in 0..k-1, [N] in 0..c-1 -> float64 [S, k, c]."""
    return one_hot(clusters, k).double().transpose(1, 2) @ one_hot(labels, c).double()


def expected_mutual_information(counts: Tensor) -> Tensor:
    """Return E[MI] of permuted labels with these margins: [S, K, C] -> [S], nats (Vinh et al. 2010, eq. 24).

    A cell's count is hypergeometric; its terms run along one padded axis, from log-factorials in one table.
    """
    a, b = counts.sum(2)[:, :, None, None], counts.sum(1)[:, None, :, None]
    n = int(counts[0].sum())
    log_factorial = (
        torch.arange(n + 1, dtype=torch.float64, device=counts.device).clamp(min=1).log().cumsum(0)
    )

    def lf(count: Tensor) -> Tensor:
        return log_factorial[count.long().clamp(0, n)]  # impossible counts are masked below

    cell = torch.arange(1, int(torch.minimum(a, b).max()) + 1, dtype=torch.float64, device=counts.device)
    possible = (cell <= torch.minimum(a, b)) & (cell >= a + b - n)
    margins = lf(a) + lf(b) + lf(n - a) + lf(n - b) - log_factorial[n]
    log_p = margins - lf(cell) - lf(a - cell) - lf(b - cell) - lf(n - a - b + cell)
    term = cell / n * torch.log(n * cell / (a * b)) * log_p.exp()
    return torch.where(possible, term, 0).sum((1, 2, 3))


def permuted_purity(clusters: Tensor, labels: Tensor, k: int, c: int) -> Tensor:
    """Return how often a row of each class is in its cluster's majority by chance: [S, N], [N] -> [S, C].

    The mean over a fixed set of 100 permutations of the labels, so that its error is a tenth of the spread of
    one purity.
    """
    generator = torch.Generator().manual_seed(0)
    draws = [
        labels[torch.randperm(len(labels), generator=generator).to(labels.device)]
        for _ in range(PERMUTATIONS)
    ]
    permuted = one_hot(torch.stack(draws), c).float()  # [P, N, C]
    flat = one_hot(clusters, k).float().transpose(1, 2).flatten(0, 1)  # [S K, N]
    counts = (flat @ permuted.permute(1, 0, 2).flatten(1)).view(-1, k, PERMUTATIONS, c)
    most = counts.argmax(3, keepdim=True)  # [S, K, P, 1]
    won = torch.zeros_like(counts).scatter_(3, most, counts.gather(3, most)).double()
    size = torch.bincount(labels, minlength=c).clamp(min=1)
    return won.sum(1).mean(1) / size
