"""How much more often the rows of a cluster bear a class than the other rows do, and whether chance would do it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

AT_ONCE = 2**18  # terms of the tails that are held at one time
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Enrichment:
    """Clusters against classes: each [K, C].

    ``odds`` is the odds ratio with a half added to each count (Haldane 1956), ``low`` and ``high`` its 95 % interval
    (Wald), ``p`` the chance of at least as many bearers among rows drawn at random (Fisher's exact test, one-sided),
    ``share`` of the cluster's labelled rows bear the class, ``base`` of all labelled rows do, and ``phi`` is how being
    in the cluster and bearing the class correlate.
    """

    odds: Tensor
    low: Tensor
    high: Tensor
    p: Tensor
    share: Tensor
    base: Tensor
    phi: Tensor


def enrichment(clusters: Tensor, bears: Tensor, known: Tensor, k: int) -> Enrichment:
    """Compare each cluster with all other rows, class by class; rows without a label do not count.

    [N] in 0..k-1, bool [N, C], bool [N, C] -> [k, C] each.
    """
    member = one_hot(clusters, k).double().T
    both, of_cluster = member @ (bears & known).double(), member @ known.double()
    of_class, rows = both.sum(0, keepdim=True), of_cluster.sum(0, keepdim=True)
    counts = torch.stack(
        [both, of_cluster - both, of_class - both, rows - of_cluster - of_class + both]
    ).clamp(min=0)
    a, b, c, d = counts + 0.5
    norm = (of_cluster * (rows - of_cluster) * of_class * (rows - of_class)).sqrt()
    phi = (both * rows - of_cluster * of_class) / norm.clamp(min=1)
    log_odds, error = (a * d / (b * c)).log(), (1 / torch.stack([a, b, c, d])).sum(0).sqrt()
    return Enrichment(
        log_odds.exp(),
        (log_odds - NORMAL_95 * error).exp(),
        (log_odds + NORMAL_95 * error).exp(),
        upper_tail(both, of_cluster, of_class.expand_as(both), rows.expand_as(both)),
        both / of_cluster.clamp(min=1),
        (of_class / rows.clamp(min=1)).expand_as(both),
        phi,
    )


def first_of_each(groups: Tensor, known: Tensor) -> Tensor:
    """Return the first known row of each group, column by column: int64 [N], bool [N, C] -> bool [N, C].

    Pictures of one person are no independent draws, which every test and interval here takes rows to be.
    """
    own = groups.unique(return_inverse=True)[1][:, None].expand(known.shape)
    place = torch.arange(len(known), device=known.device)[:, None].expand(known.shape)
    never = torch.full_like(place, len(known))
    first = never.scatter_reduce(0, own, place.where(known, never), "amin")
    return known & (first.gather(0, own) == place)


def upper_tail(seen: Tensor, drawn: Tensor, bearers: Tensor, rows: Tensor) -> Tensor:
    """Return P(X >= seen) of a hypergeometric X, for whole numbers of any one shape.

    ``drawn`` of ``rows`` are drawn without putting back, ``bearers`` of ``rows`` count. The terms of the tail are
    summed as they are: nothing cancels, however small it is.
    """
    flat = torch.stack([n.flatten() for n in (seen, drawn, bearers, rows)]).long()
    terms = torch.minimum(flat[1], flat[2]) - flat[0] + 1
    order = terms.argsort()  # tails of like length are summed together
    table = torch.arange(1, int(flat[3].max()) + 2, dtype=torch.float64, device=seen.device).lgamma()
    chunks = flat[:, order].split(max(1, AT_ONCE // int(terms.max().clamp(min=1))), dim=1)
    found = torch.cat([_tails(chunk, table) for chunk in chunks])
    return torch.empty_like(found).scatter_(0, order, found).view(seen.shape)


def _tails(counts: Tensor, table: Tensor) -> Tensor:
    """Return the tails of some [4, n], their terms along a last axis; ``table[n]`` is log n!: -> [n]."""
    seen, drawn, bearers, rows = counts

    def lf(count: Tensor) -> Tensor:
        return table[count]

    last = torch.minimum(drawn, bearers)
    steps = torch.arange(int((last - seen).max().clamp(min=0)) + 1, device=seen.device)
    margins = lf(drawn) + lf(rows - drawn) + lf(bearers) + lf(rows - bearers) - lf(rows)
    beyond = seen[:, None] + steps > last[:, None]
    x = torch.minimum(seen[:, None] + steps, last[:, None])
    n, b, left = drawn[:, None], bearers[:, None], (rows - drawn - bearers)[:, None]
    log_p = margins[:, None] - lf(x) - lf(n - x) - lf(b - x) - lf(left + x)
    return log_p.exp().masked_fill(beyond, 0).sum(1).clamp(max=1)
