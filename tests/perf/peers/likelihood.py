"""Our side of the likelihood by 5,000 draws: the same call as the metric ``iw-bound`` makes."""

from __future__ import annotations

import torch

from lvmbench.bodies import Precision, computing_in
from lvmbench.evaluation import ENCODE_BATCH
from lvmbench.objectives import bounds
from lvmbench.pixels import observe
from peers import limits
from peers.engine import made
from peers.window import Timing, Window
from peers.workloads import Workload, pictures

DRAWS = 5000


def in_bfloat16(workload: Workload, images: int, seeds: list[int], device: str) -> Timing:
    """Bound it with networks that compute in bfloat16, which lvmbench does not report."""
    return run(workload, images, seeds, device, "bfloat16")


@torch.no_grad()
def run(
    workload: Workload, images: int, seeds: list[int], device: str, precision: Precision = "float32"
) -> Timing:
    """Bound the likelihood of so many pictures by 5,000 draws each."""
    model, window = made(workload, seeds[0]).to(device).eval(), Window(device)
    x = observe(workload.schema, pictures(workload)[:images]).to(device)
    with computing_in(precision, model):
        bounds(model, x[:1], 100)
        window.step()
        for some in x.split(ENCODE_BATCH):
            total = bounds(model, some, DRAWS).iwae
    assert total.isfinite().all()  # read, so that a device has finished
    window.step()
    return window.timing(images)


def flops(workload: Workload) -> float:
    """Return the floating-point operations that one image takes, counted on a few of the draws."""
    few = DRAWS // 50
    x = observe(workload.schema, pictures(workload)[:1])
    return limits.flops(lambda: bounds(made(workload, 0).eval(), x, few)) * DRAWS / few
