"""What the latent dimensions do, whatever the labels say."""

from __future__ import annotations

from torch import Tensor

from lvmbench import Estimate, Evaluation, metric
from lvmbench_metrics.codes import finite_codes

THRESHOLD = 0.01


@metric(
    better="neither",
    unit="dims",
    needs=("codes",),
    paper="Burda et al. 2016, arXiv 1509.00519, section 5",
    family="latents",
)
def active_units(ev: Evaluation, *, view: str = "z") -> Estimate:
    """Return the number of dimensions with Var_x(E[z|x]) > 0.01 over the test rows."""
    z = finite_codes(ev, "test", view)
    active = _active(z, ev.weights().new_ones(1, len(z)))
    return Estimate(float(active), replicates=_active(z, ev.weights()), n=len(z))


def _active(z: Tensor, weights: Tensor) -> Tensor:
    """Count active dimensions under each row of weights: [N, D], [R, N] -> [R]."""
    w = weights.double()
    total = w.sum(1, keepdim=True)
    mean = w @ z / total
    variance = (w @ z.square() - total * mean.square()) / (total - 1)
    return (variance > THRESHOLD).sum(1).double()
