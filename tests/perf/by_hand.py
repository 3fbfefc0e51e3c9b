"""What members stacked by hand reach on one core: ``python tests/perf/by_hand.py [--out FILE]``.

The IWAE net with its gradients written out, without autograd and without a model: what an engine that stacks the
members of a cohort on a processor could reach at most. Writes a part of ``results/performance.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import median

import torch
from peers import engine
from peers.machine import fresh, head, shown
from peers.report import BY_HAND, OUT, number, table, write
from peers.workloads import WORKLOADS
from torch import Tensor
from torch.nn.functional import softplus

from lvmbench.adam import Adam
from lvmbench.data import Schema
from lvmbench.descent import denormals_flushed
from lvmbench.pixels import observe
from lvmbench.products import linear

PIXELS, HIDDEN, CODE = 784, 200, 50
LAYERS = (  # inputs and outputs: of q the two layers, mean and log scale; of p the three
    (PIXELS, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, CODE), (HIDDEN, CODE),
    (CODE, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, PIXELS),
)  # fmt: skip
ONE, TWO, MEAN, SCALE, THREE, FOUR, LOGITS = range(len(LAYERS))
BATCHES, MEMBERS = (20, 128), (1, 2, 4, 8)
SCHEMA = Schema((1, 28, 28), "bernoulli")
SECONDS, ROUNDS = 0.6, 5

HOW = """Images a second of one thread, of all members together, looks at validation pictures left out; median of
rounds that take turns. "By hand": the IWAE net at K=1 with its gradients written out, products and tanh in that
precision, of one member by the product that lvmbench takes, M members as one product a layer. "Engine": one member,
as `lvmbench` trains it, heads and likelihood in float32, looks included."""


class ByHand:
    """Members of the IWAE net as one: weights [M, out, in], biases [M, out], steps of Adam without autograd."""

    def __init__(self, members: int, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.weights = [0.05 * torch.randn(members, o, i) for i, o in LAYERS]
        self.biases = [torch.zeros(members, o) for _, o in LAYERS]
        self.adam = Adam([*self.weights, *self.biases], (0.9, 0.999))

    def step(self, images: Tensor) -> Tensor:
        """Take one step: uint8 [M, B, 1, 28, 28] -> the loss of each, [M]."""
        x = observe(SCHEMA, images).flatten(2)
        loss, gradients = self.gradients(x, torch.randn(*x.shape[:2], CODE))
        self.adam.step(gradients, 1e-3)
        return loss

    def gradients(self, x: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return -ELBO in nats and its gradients, of weights and of biases: [M, B, 784], [M, B, 50] -> [M], ..."""
        low = [w.to(self.dtype) for w in self.weights]
        ahead = partial(self._ahead, low)
        pixels = x.to(self.dtype)
        one = ahead(ONE, pixels).tanh()
        two = ahead(TWO, one).tanh()
        mean, log_scale = ahead(MEAN, two).float(), ahead(SCALE, two).float()
        scale = log_scale.exp()
        z = (mean + scale * noise).to(self.dtype)
        three = ahead(THREE, z).tanh()
        four = ahead(FOUR, three).tanh()
        logits = ahead(LOGITS, four).float()
        rate = 0.5 * (mean.square() + scale.square() - 2 * log_scale - 1).sum(2)
        loss = ((softplus(logits) - x * logits).sum(2) + rate).mean(1)
        found: dict[int, tuple[Tensor, Tensor]] = {}

        def back(layer: int, given: Tensor, slope: Tensor) -> Tensor:
            products = times(slope.transpose(1, 2), given).to(x.dtype)
            found[layer] = products, slope.sum(1, dtype=x.dtype)
            return times(slope, low[layer]) if layer != ONE else slope

        batch = x.shape[1]
        of_four = bent(back(LOGITS, four, ((logits.sigmoid() - x) / batch).to(self.dtype)), four)
        of_z = back(THREE, z, bent(back(FOUR, three, of_four), three)).to(x.dtype)
        of_mean = (of_z + mean / batch).to(self.dtype)
        of_scale = (of_z * noise * scale + (scale.square() - 1) / batch).to(self.dtype)
        of_two = bent(back(MEAN, two, of_mean) + back(SCALE, two, of_scale), two)
        back(ONE, pixels, bent(back(TWO, one, of_two), one))
        ordered = [found[layer] for layer in range(len(LAYERS))]
        return loss, list(chain(*zip(*ordered, strict=True)))

    def _ahead(self, low: Sequence[Tensor], layer: int, given: Tensor) -> Tensor:
        bias = self.biases[layer].to(self.dtype)[:, None]
        return times(given, low[layer].transpose(1, 2), bias)


def times(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a b + bias, of one member in the way of lvmbench, of several as one: [M, N, K], [M, K, O] -> [M, N, O]."""
    if len(a) == 1:
        return linear(a[0], b[0].t(), None if bias is None else bias[0, 0])[None]
    return torch.bmm(a, b) if bias is None else torch.baddbmm(bias, a, b)


def bent(slope: Tensor, out: Tensor) -> Tensor:
    """Return the slope before a tanh from that after it."""
    return torch.ops.aten.tanh_backward(slope, out)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each batch size in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    begun = head(["python", *shown(sys.argv)])
    rates = {batch: json.loads(fresh(Path(__file__), "batch", str(batch))) for batch in BATCHES}
    names = list(rates[BATCHES[0]])
    rows = [[name, *(number(rates[batch][name]) for batch in BATCHES)] for name in names]
    text = table(["images/s", *(f"batch {batch}" for batch in BATCHES)], rows)
    write(asked.out, BY_HAND, f"{begun}\n\n{HOW}\n\n{text}")


def measured(batch: int) -> dict[str, float]:
    """Return images a second by name, each the median of rounds."""
    ways = {"engine, one member": lambda: engine_rate(batch)}
    for members in MEMBERS:
        for dtype in (torch.float32, torch.bfloat16):
            name = f"by hand, {members} member{'s' * (members > 1)}, {str(dtype).removeprefix('torch.')}"
            ways[name] = stepper(ByHand(members, dtype), members, batch)
    with denormals_flushed(), torch.no_grad():
        rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS + 1)]
    return {name: median(found[name] for found in rounds[1:]) for name in ways}


def stepper(stack: ByHand, members: int, batch: int) -> Callable[[], float]:
    """Return what gives the images a second of a stack."""
    images = torch.randint(0, 256, (members, batch, *SCHEMA.shape), dtype=torch.uint8)

    def rate() -> float:
        start, steps = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < SECONDS:
            stack.step(images)
            steps += 1
        return steps * members * batch / seconds

    return rate


def engine_rate(batch: int) -> float:
    """Return the images a second of the engine with one member."""
    with torch.enable_grad():
        return engine.run(WORKLOADS[f"iwae-k1-{batch}"], batch * 500, [0], "cpu").rate


if __name__ == "__main__":
    if sys.argv[1:2] == ["batch"]:
        torch.set_num_threads(1)
        print(json.dumps(measured(int(sys.argv[2]))))
    else:
        main()
