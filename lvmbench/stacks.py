"""Members of a cohort as one: each parameter of all of them is one tensor, and a step computes all at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, vmap

from lvmbench.descent import Losses, Terms
from lvmbench.mapped import Members, Unstackable
from lvmbench.protocols import Batch


class Stack:
    """Models of one class whose tensors are, from now on, slices of tensors of them all: [M, ...] each.

    ``trained`` are those by name; ``beside`` what is not trained and not the same for all. Numbers that differ from
    model to model, as the weight of a rate does, are tensors [M] inside the loss.

    Raises:
        Unstackable: if the models differ in more than that.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        states = [{**dict(m.named_parameters()), **dict(m.named_buffers())} for m in models]
        if len({tuple((name, t.shape, t.dtype) for name, t in state.items()) for state in states}) > 1:
            raise Unstackable("tensors of different shapes")
        self.numbers = _differing_numbers(models)
        self.trained: dict[str, nn.Parameter] = {}
        self.beside: dict[str, Tensor] = {}
        for name, tensor in states[0].items():
            each = [state[name].detach() for state in states]
            if tensor.requires_grad:
                self.trained[name] = nn.Parameter(torch.stack(each))
            elif not all(torch.equal(each[0], other) for other in each[1:]):
                self.beside[name] = torch.stack(each)
        for name, whole in {**self.trained, **self.beside}.items():
            for state, own in zip(states, whole.detach(), strict=True):
                state[name].data = own

    def release(self) -> None:
        """Give every model tensors of its own again."""
        for model in self.models:
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
                if name in self.trained or name in self.beside:
                    tensor.data = tensor.detach().clone()

    def names_of(self, tensors: Sequence[Tensor]) -> list[str]:
        """Return the names that tensors of the first model have."""
        names = {id(p): name for name, p in self.models[0].named_parameters()}
        return [names[id(t)] for t in tensors]

    def losses(self, losses: Losses, generators: Sequence[Generator]) -> Losses:
        """Return the losses of all members from those of the first: a batch of [M, B, ...], terms of [M] each."""
        told = _Told(self.models[0], losses)
        parts = dict(self.models[0].named_modules())
        token = torch.arange(len(self.models), device=next(iter(self.trained.values())).device)

        def of_one(
            token: Tensor, state: Mapping[str, Tensor], numbers: Mapping[tuple[str, str], Tensor],
            images: Tensor, labels: Tensor, progress: Any,
        ) -> Mapping[str, Terms]:  # fmt: skip
            with Members(token, generators), _set(parts, numbers):
                named = {f"model.{name}": tensor for name, tensor in state.items()}
                found: Mapping[str, Terms] = functional_call(told, named, (Batch(images, labels), progress))
                return found

        mapped = vmap(of_one, in_dims=(0, 0, 0, 0, 0, None))

        def of_all(batch: Batch, progress: Any) -> Mapping[str, Terms]:
            state = {**self.trained, **self.beside}
            found: Mapping[str, Terms] = mapped(token, state, self.numbers, batch.x, batch.labels, progress)
            return found

        return of_all


class _Told(nn.Module):
    """The losses of a model as what a module returns, so that its tensors can be exchanged."""

    def __init__(self, model: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.model, self.losses = model, losses

    def forward(self, batch: Batch, progress: Any) -> Mapping[str, Terms]:
        return self.losses(batch, progress)


def _differing_numbers(models: Sequence[nn.Module]) -> dict[tuple[str, str], Tensor]:
    """Return the float attributes that differ from model to model, by the name of the part and their own: [M].

    Raises:
        Unstackable: if anything else differs.
    """
    device = next(models[0].parameters()).device
    found = {}
    for (path, first), *others in zip(*(m.named_modules() for m in models), strict=True):
        for name in vars(first).keys() - vars(nn.Module()).keys():
            values = [getattr(part, name, None) for part in (first, *(other for _, other in others))]
            if all(_same(values[0], value) for value in values[1:]):
                continue
            if not all(type(value) is float for value in values):
                raise Unstackable(f"different values of {name}")
            found[path, name] = torch.tensor(values, device=device)
    return found


def _same(one: object, other: object) -> bool:
    """Return whether two attributes are sure to be the same."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(torch.equal(one, other))
    try:
        return bool(one == other)
    except Exception:  # what cannot be compared
        return False


@contextmanager
def _set(parts: Mapping[str, nn.Module], numbers: Mapping[tuple[str, str], Tensor]) -> Iterator[None]:
    """Let attributes of the parts of a model be these inside a with-block."""
    before = {(path, name): getattr(parts[path], name) for path, name in numbers}
    try:
        for (path, name), number in numbers.items():
            vars(parts[path])[name] = number
        yield
    finally:
        for (path, name), value in before.items():
            vars(parts[path])[name] = value
