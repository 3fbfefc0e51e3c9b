"""How likely the model finds pictures it has not seen: bounds on log p(x), and their two parts.

All of them rest on the same draws of z for the first ``budget.density_rows`` test rows, so that the ELBO is
exactly -(rate + distortion) and never above the importance-weighted bound.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from lvmbench import Estimate, Evaluation, LvmbenchError, NotApplicable, bounds, metric
from lvmbench import bits_per_dim as to_bits


@metric(
    better="higher",
    unit="nats",
    needs=("log_weights",),
    paper="Kingma & Welling 2014, arXiv 1312.6114, eq. 3",
    family="likelihood",
)
def elbo(ev: Evaluation) -> Estimate:
    """Return E_q[log p(x, z) - log q(z|x)], a lower bound on log p(x): nats."""
    return _estimate(_bounds(ev, None)["elbo"])


@metric(
    better="higher",
    unit="nats",
    needs=("log_weights",),
    paper="Burda et al. 2016, arXiv 1509.00519, eq. 8",
    family="likelihood",
)
def iw_bound(ev: Evaluation, *, k: int | None = None) -> Estimate:
    """Return log (1/K) sum_k w_k, a bound that tightens with K (the budget's draws where None): nats."""
    return _estimate(_bounds(ev, k)["iwae"])


@metric(
    better="neither",
    unit="nats",
    needs=("log_weights",),
    paper="Alemi et al. 2018, arXiv 1711.00464, eq. 7",
    family="likelihood",
)
def rate(ev: Evaluation) -> Estimate:
    """Return E_q[log q(z|x) - log p(z)]: nats."""
    return _estimate(_part(ev, "rate"))


@metric(
    better="lower",
    unit="nats",
    needs=("log_weights",),
    paper="Alemi et al. 2018, arXiv 1711.00464, eq. 6",
    family="likelihood",
    main=False,
)
def distortion(ev: Evaluation) -> Estimate:
    """Return -E_q[log p(x|z)]: nats."""
    return _estimate(_part(ev, "distortion"))


@metric(better="higher", unit="nats", needs=("log_prob",), family="likelihood", main=False)
def log_likelihood(ev: Evaluation) -> Estimate:
    """Return log p(x) where the model knows it exactly: nats."""
    return _estimate(ev.shared(_log_prob))


@metric(
    better="lower",
    unit="bits/dim",
    paper="Theis et al. 2016, arXiv 1511.01844, section 3.1",
    family="likelihood",
)
def bits_per_dim(ev: Evaluation, *, k: int | None = None) -> Estimate:
    """Return bits per pixel value, from exact log p(x) or else from the bound at K draws: bits/dim."""
    return _estimate(to_bits(ev.schema, _best_log_density(ev, k)))


def _best_log_density(ev: Evaluation, k: int | None) -> Tensor:
    if "log_prob" in ev.capabilities:
        return ev.shared(_log_prob)
    if "log_weights" in ev.capabilities:
        return _bounds(ev, k)["iwae"]
    raise NotApplicable("the model has no density (neither log_prob nor log weights)")


def _part(ev: Evaluation, name: str) -> Tensor:
    rows = _bounds(ev, None)[name]
    if rows.isnan().all():
        raise NotApplicable(f"the model gives only whole log weights, from which no {name} can be told")
    return rows


def _estimate(rows: Tensor) -> Estimate:
    broken = int((~rows.isfinite()).sum())
    if broken:
        raise LvmbenchError(f"the log-density of {broken} of {len(rows)} test rows is not finite.")
    return Estimate.of_rows(rows)


def _bounds(ev: Evaluation, k: int | None) -> dict[str, Tensor]:
    return ev.shared(_all_bounds, k=ev.budget.draws if k is None else k)


def _all_bounds(ev: Evaluation, k: int) -> dict[str, Tensor]:
    parts = [bounds(ev.model, x, k) for x in ev.batches("test", ev.budget.density_rows)]
    return {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(parts[0])}


@torch.no_grad()
def _log_prob(ev: Evaluation) -> Tensor:
    return torch.cat([ev.model.log_prob(x) for x in ev.batches("test", ev.budget.density_rows)])
