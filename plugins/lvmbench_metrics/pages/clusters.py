"""Clusters of z and their names, with the pictures nearest to each centre."""

from __future__ import annotations

import torch
from torch import Tensor

from lvmbench import Evaluation, Section
from lvmbench_metrics.clusters import learned
from lvmbench_metrics.codes import finite_codes
from lvmbench_metrics.naming import LEAST_ODDS, Name, mixture, namings
from lvmbench_metrics.pages.common import need, percent, real, table
from lvmbench_metrics.pages.figures import Row, sheet

TITLE = "Clusters and their names"
K = 16
FACES = 10
ALSO = 3
TINY = 1e-12


def section(ev: Evaluation) -> Section:
    """Tell the clusters of k-means by name, with evidence, and show the pictures nearest to each centre."""
    need(ev, "codes", "labels")
    found = ev.shared(namings, k=K, view="z")[0]
    size = torch.bincount(found.clusters, minlength=K)
    order = sorted(range(K), key=lambda i: (not found.names[i], _label(found.names[i]), -int(size[i])))
    order = [i for i in order if size[i]]
    near = _nearest(ev, found.clusters)
    rows = [
        Row(_label(found.names[i]), real(ev, near[i]), _note(found.names[i], int(size[i]))) for i in order
    ]
    lines = [_line(i, found.names[i], int(size[i]), len(found.clusters)) for i in order]
    heads = ["name", "odds ratio [95 %]", "p", "in the cluster", "in all", "test pictures", "also"]
    components = ev.shared(mixture, view="z")[1].means.shape[1]
    one_each = "" if ev.groups("test") is None else ", one of each person"
    named = sum(bool(names) for names in found.names)
    text = (
        f"k-means finds {K} clusters in z without having seen a label. A cluster is named after the value of an "
        "attribute that goes most with it on training pictures, if at least half of its pictures bear it, at "
        f"{LEAST_ODDS:g} times the odds of other pictures or more, and if test pictures confirm this (Fisher's exact "
        f"test, Holm's correction over all that is tried); the figures are those of test pictures{one_each}. It would "
        f"be bad if many were unnamed, or if all had one name: the {len(order)} clusters here have {named} names, "
        f"{len({_label(n) for n in found.names if n})} of them different. (A Gaussian mixture whose number of "
        f"components is chosen by the likelihood of unseen codes has {components}, of up to 32.)\n\n"
        + table(heads, lines)
        + "\n\nThe test pictures nearest to each centre:\n\n![pictures nearest to each centre](gallery.png)"
    )
    return Section(TITLE, text, {"gallery.png": sheet(rows)})


def _label(names: tuple[Name, ...]) -> str:
    return names[0].label if names else "unnamed"


def _note(names: tuple[Name, ...], size: int) -> str:
    return (
        f"{percent(names[0].share)} of {size}; of all {percent(names[0].base)}"
        if names
        else f"test pictures: {size}"
    )


def _line(cluster: int, names: tuple[Name, ...], size: int, rows: int) -> list[str]:
    share = f"{size} ({percent(size / rows)})"
    if not names:
        return ["*unnamed*", "", "", "", "", share, ""]
    best = names[0]
    odds = f"{best.odds:.3g} [{best.low:.3g}, {best.high:.3g}]"
    p = f"{best.p:.0e}" if best.p >= TINY else f"< {TINY:.0e}"
    return [
        f"**{best.label}**",
        odds,
        p,
        percent(best.share),
        percent(best.base),
        share,
        ", ".join(_others(names)),
    ]


def _others(names: tuple[Name, ...]) -> list[str]:
    """Return what else a cluster is enriched in, but for what says the same as a name before it."""
    told, labels = {(names[0].share, names[0].base)}, []
    for name in names[1:]:
        if (name.share, name.base) not in told:
            told.add((name.share, name.base))
            labels.append(name.label)
    return labels[:ALSO]


def _nearest(ev: Evaluation, clusters: Tensor) -> list[Tensor]:
    """Return the test rows of each cluster that are nearest to its centre: K times [n]."""
    centre, centres = ev.shared(learned, k=K, view="z")
    z = finite_codes(ev, "test", "z").float() - centre
    far = (z - centres[0][clusters]).square().sum(1)
    order = far.argsort()
    return [order[clusters[order] == i][:FACES] for i in range(K)]
