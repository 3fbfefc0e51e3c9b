"""What other ways to take a step reach on one core: ``python tests/perf/by_hand.py [--out FILE]``.

The IWAE net with its gradients written out, without autograd and without a model: what an engine that stacks the
members of a cohort on a processor could reach at most; members stacked as the engine stacks them on a GPU; and the
loss compiled. Writes a part of ``results/performance.md``.
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
from peers.hand import mean_loss
from peers.machine import fresh, head, shown
from peers.report import BY_HAND, OUT, number, table, write
from peers.workloads import WORKLOADS
from torch import Tensor
from torch.nn.functional import softplus

from lvmbench.adam import Adam
from lvmbench.bodies import computing_in
from lvmbench.branches import Stacked
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
COLD = "seconds to compile"

HOW = """Images a second of one thread, of all members together, looks at validation pictures left out; median of
rounds that take turns. "By hand": the IWAE net at K=1 with its gradients written out, products and tanh in that
precision, of one member by the product that lvmbench takes, M members as one product a layer. "Engine": one member,
as `lvmbench` trains it, heads and likelihood in float32, looks included. "Mapped": M members as `lvmbench` stacks
them on a GPU, by torch's map over their weights. "Compiled": the loss and its gradients by `torch.compile`. A plugin
says its loss, and nobody writes its gradients by hand: what is to be had of stacks on a processor is "mapped"."""


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
    names = [name for name in rates[BATCHES[0]] if name != COLD]
    rows = [[name, *(number(rates[batch][name]) for batch in BATCHES)] for name in names]
    text = table(["images/s", *(f"batch {batch}" for batch in BATCHES)], rows)
    cold = " and ".join(f"{rates[batch][COLD]:.1f}" for batch in BATCHES)
    write(asked.out, BY_HAND, f"{begun}\n\n{HOW}\n\n{text}\n\nTo compile took {cold} s.")


def measured(batch: int) -> dict[str, float]:
    """Return images a second by name, each the median of rounds, and the seconds that it takes to compile."""
    start, quick = time.perf_counter(), compiled(batch)
    with denormals_flushed():
        quick(torch.zeros(1, batch, *SCHEMA.shape, dtype=torch.uint8))
    cold = time.perf_counter() - start
    ways = {
        "engine, one member": lambda: engine_rate(batch),
        "compiled, one member": stepper(quick, 1, batch),
    }
    for members in MEMBERS[1:]:
        ways[f"mapped, {members} members"] = stepper(mapped(members, batch), members, batch)
    for members in MEMBERS:
        for dtype in (torch.float32, torch.bfloat16):
            name = f"by hand, {members} member{'s' * (members > 1)}, {str(dtype).removeprefix('torch.')}"
            ways[name] = stepper(ByHand(members, dtype).step, members, batch)
    with denormals_flushed(), torch.no_grad():
        rounds = [{name: way() for name, way in ways.items()} for _ in range(ROUNDS + 1)]
    return {COLD: cold, **{name: median(found[name] for found in rounds[1:]) for name in ways}}


def compiled(batch: int) -> Callable[[Tensor], object]:
    """Return a step of one member, whose loss torch compiles when it is first taken: uint8 [1, B, 1, 28, 28]."""
    model = engine.member(WORKLOADS[f"iwae-k1-{batch}"], 0).model
    parameters = [p for p in model.parameters() if p.requires_grad]
    adam, loss = Adam(parameters, (0.9, 0.999)), torch.compile(lambda x: mean_loss(model, x))

    def step(images: Tensor) -> None:
        with torch.enable_grad(), computing_in(engine.precision("cpu"), model):
            slopes = torch.autograd.grad(loss(observe(SCHEMA, images[0])), parameters)
        adam.step(slopes, 1e-3)

    return step


def mapped(members: int, batch: int) -> Callable[[Tensor], object]:
    """Return a step of members that are stacked as on a GPU: uint8 [M, B, 1, 28, 28]."""
    group = [engine.member(WORKLOADS[f"iwae-k1-{batch}"], seed) for seed in range(members)]
    stack, labels = Stacked(group), torch.zeros(members, batch, 0)

    def step(images: Tensor) -> None:
        with torch.enable_grad(), computing_in(engine.precision("cpu"), *(m.model for m in group)):
            stack.step(images, labels, 0.5, 1.0)

    return step


def stepper(step: Callable[[Tensor], object], members: int, batch: int) -> Callable[[], float]:
    """Return what gives the images a second of members that take a step together."""
    images = torch.randint(0, 256, (members, batch, *SCHEMA.shape), dtype=torch.uint8)

    def rate() -> float:
        start, steps = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < SECONDS:
            step(images)
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
