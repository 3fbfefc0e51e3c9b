"""L-BFGS for many independent convex problems at once: each keeps its own memory and its own step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
Problems = Callable[[Tensor], Objective]
MEMORY = 10
SUFFICIENT = 1e-4  # Armijo's share of the promised decrease


def minimise(
    problems: Problems, start: Tensor, *, tolerance: float, iterations: int = 300, noise: float = 1e-13
) -> Tensor:
    """Return the minima of T smooth convex functions: [T, P] -> [T, P].

    Nocedal & Wright 2006, algorithm 7.5. ``problems`` takes the places of R of them, and gives what tells their
    values [R] and gradients [R, P]; values are known to within ``noise``, a share of them. Variables should be scaled
    so that curvatures are at most about 1. A problem is done once its gradient is shorter than ``tolerance``, and is
    not asked again.
    """
    found, running, x = start.clone(), torch.arange(len(start), device=start.device), start
    objective = problems(running)
    value, gradient = objective(x)
    memory: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=MEMORY)
    for _ in range(iterations):
        on = ~(gradient.norm(dim=1) < tolerance)
        if not on.all():
            found[running] = x
            running, x, value, gradient = (of[on] for of in (running, x, value, gradient))
            memory = deque(((s[on], y[on], rho[on]) for s, y, rho in memory), maxlen=MEMORY)
            objective = problems(running)
        if not len(running):
            break
        direction = -_times_inverse_hessian(gradient, memory)
        moved, value, new_gradient = _descend(objective, x, value, gradient, direction, noise)
        s, y = moved - x, new_gradient - gradient
        curvature = (s * y).sum(1, keepdim=True)
        trusted = curvature > 1e-14 * y.square().sum(1, keepdim=True)  # else it is noise
        memory.append((s, y, torch.where(trusted, 1 / curvature.clamp(min=1e-300), 0)))
        x, gradient = moved, new_gradient
    found[running] = x
    return found


def _times_inverse_hessian(gradient: Tensor, memory: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Return an estimate of H⁻¹ g by the two loops over remembered steps: [T, P] -> [T, P]."""
    q, alphas = gradient, []
    for s, y, rho in reversed(memory):
        alphas.append(rho * (s * q).sum(1, keepdim=True))
        q = q - alphas[-1] * y
    if memory:
        s, y, rho = memory[-1]
        gamma = (s * y).sum(1, keepdim=True) / y.square().sum(1, keepdim=True).clamp(min=1e-300)
        q = torch.where(rho > 0, gamma, 1) * q
    for (s, y, rho), alpha in zip(memory, reversed(alphas), strict=True):
        q = q + (alpha - rho * (y * q).sum(1, keepdim=True)) * s
    return q


def _descend(
    objective: Objective, x: Tensor, value: Tensor, gradient: Tensor, direction: Tensor, noise: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve each problem's step until its value falls enough; one that cannot fall stays where it is."""
    slope = (gradient * direction).sum(1)
    size = torch.ones_like(value)
    for _ in range(30):
        moved = x + size[:, None] * direction
        new_value, new_gradient = objective(moved)
        # near the minimum, values no longer tell
        enough = new_value <= value + SUFFICIENT * size * slope + noise * value.abs()
        if enough.all():
            return moved, new_value, new_gradient
        size = torch.where(enough, size, size / 2)
    return moved, new_value, new_gradient
