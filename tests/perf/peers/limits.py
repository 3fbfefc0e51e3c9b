"""What bounds a step: its arithmetic at the machine's peak, its bytes at the speed of a copy, its dispatch.

All three are counted on one training step of our model, not its first. The bytes are what operators other than
products and convolutions read and write, what they change in place both, as if no cache held any: an upper bound of
that part. The dispatch is the number of operators times the cost of a small one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula

from lvmbench.bodies import computing_in
from lvmbench.descent import Descent, objective
from lvmbench.pixels import observe
from lvmbench.protocols import Batch
from peers.engine import budget_of, made, precision
from peers.machine import Peak
from peers.workloads import Workload, pictures


def _of_linear(x: Sequence[int], weight: Sequence[int], *args: Any, **named: Any) -> int:
    """Return the operations of a linear layer that oneDNN computes."""
    return 2 * prod(x) * weight[0]


if hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not where torch is built without oneDNN
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_of_linear)


@dataclass(frozen=True)
class Step:
    """What one training step does: floating-point operations, operators, bytes moved by all but products."""

    batch: int
    flops: int
    operators: int
    bytes: int

    @property
    def flops_per_image(self) -> float:
        """Floating-point operations for one image."""
        return self.flops / self.batch

    def bounds(self, peak: Peak, precision: str) -> dict[str, float]:
        """Return the seconds that each limit alone would let a step take."""
        return {
            "arithmetic": self.flops / (peak.of(precision) * 1e9),
            "bytes": self.bytes / (peak.copy * 1e9),
            "dispatch": self.operators * peak.operator,
        }


def counted(workload: Workload) -> Step:
    """Count one step of the engine's descent, the optimiser's included."""
    model = made(workload, 0)
    descent = Descent(*objective(model), budget_of(workload, workload.batch).learning_rate)
    x = observe(workload.schema, pictures(workload)[: workload.batch])
    batch = Batch(x, torch.empty(len(x), 0))
    used = computing_in(precision("cpu"), model)
    # the counter of operators is the inner one: it sees what torch runs, not what it is asked for
    with used:
        descent.step(batch, 0.5, 1.0)  # what is set up once is no part of a step
        with FlopCounterMode(display=False) as flops, Operators() as operators:
            descent.step(batch, 0.5, 1.0)
    return Step(workload.batch, flops.get_total_flops(), operators.count, operators.bytes)


def told(bounds: Mapping[str, float], seconds: float) -> str:
    """Return the shares of a step's seconds that the limits explain, the largest first."""
    ordered = sorted(bounds.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {100 * bound / seconds:.0f} %" for name, bound in ordered)


def flops(work: Callable[[], object]) -> int:
    """Return the floating-point operations of a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


class Operators(TorchDispatchMode):
    """Counts operators that compute something, and the bytes that those read and write that are no product."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and "empty" not in func.__name__:  # memory that nobody has written yet
            self.count += 1
            if func._overloadpacket not in flop_registry:
                moved = args, kwargs, _changed(func, args, kwargs or {}), _made(func, out)
                self.bytes += sum(t.numel() * t.element_size() for t in _tensors(moved))
        return out


def _changed(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Return the arguments that an operator changes in place."""
    given = [
        (a, args[i] if i < len(args) else kwargs.get(a.name)) for i, a in enumerate(func._schema.arguments)
    ]
    return [value for a, value in given if a.alias_info is not None and a.alias_info.is_write]


def _made(func: Any, out: Any) -> list[Any]:
    """Return what an operator returns that is none of its arguments."""
    returns = func._schema.returns
    each = out if len(returns) > 1 else (out,)
    return [value for r, value in zip(returns, each, strict=False) if r.alias_info is None]


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
