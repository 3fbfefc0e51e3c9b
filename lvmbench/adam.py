"""Adam, by one call of torch's fused kernel.

``torch.optim`` does the same with more care for cases that a descent does not have: it takes a second to import and
as long for a small step as the kernel itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lvmbench.errors import TrainingError

EPSILON = 1e-8
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what is remembered of each parameter


class Adam:
    """Adam of some parameters (Kingma & Ba 2015, algorithm 1).

    Raises:
        TrainingError: if a parameter is a part of a tensor, with gaps between its numbers.
    """

    def __init__(self, parameters: Iterable[Tensor], betas: tuple[float, float]) -> None:
        self.parameters, self.betas = list(dict.fromkeys(parameters)), betas
        for p in self.parameters:
            if torch.empty_like(p).stride() != p.stride():
                raise TrainingError(
                    f"a parameter of shape {list(p.shape)} has gaps in memory: train the tensor that it is a part of."
                )
        # the kernel pairs numbers by their place in memory: moments and gradients lie as their parameter does
        where = self.parameters[0].device if self.parameters else None
        self.steps = torch.zeros(len(self.parameters), device=where)  # of each, side by side
        self.moments = [
            (step, torch.zeros_like(p), torch.zeros_like(p))
            for step, p in zip(self.steps, self.parameters, strict=True)
        ]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor | None], rate: float | Tensor) -> None:
        """Take one step of the parameters that have a gradient; in a graph of a device the rate is a tensor, []."""
        alike: dict[torch.dtype, list[tuple[Tensor, ...]]] = {}  # a call takes numbers of one type
        for p, g, moments in zip(self.parameters, gradients, self.moments, strict=True):
            if g is not None:
                alike.setdefault(p.dtype, []).append((p, _as_it_lies(p, g), *moments))
        self._count(gradients)
        for live in alike.values():
            parameters, slopes, steps, means, squares = (list(column) for column in zip(*live, strict=True))
            torch._fused_adam_(
                parameters, slopes, means, squares, [], steps, lr=rate, beta1=self.betas[0], beta2=self.betas[1],
                weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip

    def _count(self, gradients: Sequence[Tensor | None]) -> None:
        if all(g is not None for g in gradients):
            self.steps.add_(1)
            return
        for (step, *_), g in zip(self.moments, gradients, strict=True):
            if g is not None:
                step.add_(1)

    def serve(self, members: Sequence[Adam]) -> None:
        """Remember for others, each of which holds one slice of these parameters: [M, ...]."""
        self.steps.copy_(members[0].steps)
        for member in members:
            member.steps = self.steps
        for place, (step, mean, square) in enumerate(self.moments):
            own = [member.moments[place] for member in members]
            for whole, which in ((mean, 1), (square, 2)):
                whole.copy_(torch.stack([moments[which] for moments in own]))
            for i, member in enumerate(members):
                member.moments[place] = (step, mean[i], square[i])

    def part(self) -> None:
        """Remember in tensors of its own, where another has remembered for it."""
        self.steps = self.steps.clone()
        self.moments = [
            (step, mean.clone(), square.clone())
            for step, (_, mean, square) in zip(self.steps, self.moments, strict=True)
        ]

    def state(self) -> dict[str, Tensor]:
        """Return what is remembered, by the place of the parameter and name."""
        return {
            f"{place}/{name}": moment
            for place, moments in enumerate(self.moments)
            for name, moment in zip(MOMENTS, moments, strict=True)
        }


def _as_it_lies(parameter: Tensor, gradient: Tensor) -> Tensor:
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
