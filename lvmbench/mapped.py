"""One member's computation mapped over all by ``torch.func.vmap``: rules for what torch maps slowly, or not at all.

A linear layer is one batched product for all members; what is random is drawn for each from its own generator, as
it would draw alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from lvmbench.errors import LvmbenchError

FILLS = ("bernoulli", "cauchy", "exponential", "geometric", "log_normal", "normal", "random", "uniform")
IN_PLACE = {getattr(torch.Tensor, f"{name}_"): f"{name}_" for name in FILLS}
LIKE = {torch.rand_like: "uniform_", torch.randn_like: "normal_"}
NEW = {torch.rand: "uniform_", torch.randn: "normal_"}
DRAWS = frozenset(
    (
        torch.randint, torch.randperm, torch.normal, torch.bernoulli, torch.multinomial, torch.poisson,
        torch.Tensor.bernoulli, torch.Tensor.multinomial,
    )
)  # fmt: skip


class Unstackable(LvmbenchError):
    """Members that cannot be computed as one, and why."""


class Members(TorchFunctionMode):
    """Inside ``vmap``: random functions draw for each member from its generator, linear layers take one product."""

    def __init__(self, token: Tensor, generators: Sequence[Generator]) -> None:
        super().__init__()
        self.token, self.generators = token, generators

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if function is linear:
            return _Linear.apply(*_of_linear(*args, **given))
        if function is torch.Tensor.view and isinstance(args[1], torch.dtype):
            return _Viewed.apply(*args)
        if given.pop("generator", None) is None:
            if function in IN_PLACE:
                # a new tensor: whoever reads the old one is found out by the trial
                return self._filled(IN_PLACE[function], args[0], *args[1:], **given)
            if function in LIKE:
                return self._filled(LIKE[function], torch.empty_like(*args, **given))
            if function in NEW:
                return self._filled(NEW[function], torch.empty(*args, **given))
            if function in DRAWS:
                _refuse_tensors(function.__name__, given.values())
                return self._drawn(lambda *own, **kw: function(*own, **given, **kw), *args)
        return function(*args, **(kwargs or {}))

    def _filled(self, name: str, like: Tensor, *args: Any, **given: Any) -> Tensor:
        _refuse_tensors(name, args, given.values())

        def fill(tensor: Tensor, generator: Generator) -> None:
            getattr(tensor, name)(*args, generator=generator, **given)

        found: Tensor = _Filled.apply(self.token, like.detach(), fill, self.generators)
        return found

    def _drawn(self, draw: Callable[..., Tensor], *args: Any) -> Tensor:
        places = [i for i, arg in enumerate(args) if isinstance(arg, Tensor)]

        def of_member(member: int, *tensors: Tensor) -> Tensor:
            own = dict(zip(places, tensors, strict=True))
            all_of = (own.get(i, arg) for i, arg in enumerate(args))
            return draw(*all_of, generator=self.generators[member])

        found: Tensor = _Drawn.apply(self.token, of_member, *(args[i].detach() for i in places))
        return found


def _of_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Sequence[Tensor | None]:
    return input, weight, bias


def _refuse_tensors(name: str, *given: Iterable[object]) -> None:
    """Refuse to draw by tensors that are not told one by one.

    Raises:
        Unstackable: if there are any.
    """
    if any(isinstance(value, Tensor) for values in given for value in values):
        raise Unstackable(f"{name} is given a tensor that no member can be told apart in")


class _Drawn(torch.autograd.Function):
    """What each member draws: a function of the member and of its slices of some tensors."""

    @staticmethod
    def forward(token: Tensor, draw: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        """Refuse: there are no draws but those of members."""
        raise TypeError("outside a cohort")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep nothing: draws have no gradient."""

    @staticmethod
    def vmap(
        info: Any, dims: Sequence[int | None], token: Tensor, draw: Callable[..., Tensor], *tensors: Tensor
    ) -> tuple[Tensor, int]:
        """Return the draws of all members: [M, ...]."""
        fronts = [_front(t, d, info.batch_size) for t, d in zip(tensors, dims[2:], strict=True)]
        return torch.stack([draw(i, *(t[i] for t in fronts)) for i in range(info.batch_size)]), 0


class _Filled(torch.autograd.Function):
    """A new tensor that each member fills with its own draws: on a GPU they are drawn at the same time."""

    @staticmethod
    def forward(token: Tensor, like: Tensor, fill: Any, generators: Any) -> Tensor:
        """Refuse: there are no draws but those of members."""
        raise TypeError("outside a cohort")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep nothing: draws have no gradient."""

    @staticmethod
    def vmap(
        info: Any,
        dims: Sequence[int | None],
        token: Tensor,
        like: Tensor,
        fill: Callable[[Tensor, Generator], None],
        generators: Sequence[Generator],
    ) -> tuple[Tensor, int]:
        """Return the draws of all members: [M, ...]."""
        # not contiguous: where numbers lie decides which draw each of them gets
        found = torch.empty_like(_front(like, dims[1], info.batch_size))
        with beside(found.device) as aside:
            for own, generator in zip(found, generators, strict=True):
                with aside():
                    fill(own, generator)
        return found, 0


class _Viewed(torch.autograd.Function):
    """Numbers taken for those of another type, which torch maps from 2.13 on only."""

    @staticmethod
    def forward(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Refuse: there is nothing to map outside a cohort."""
        raise TypeError("outside a cohort")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep nothing: such numbers have no gradient."""

    @staticmethod
    def vmap(info: Any, dims: Sequence[int | None], tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
        """Return the numbers of all members: [M, ...]."""
        return _front(tensor, dims[0], info.batch_size).view(dtype), 0


@contextmanager
def beside(device: torch.device) -> Iterator[Callable[[], AbstractContextManager[Any]]]:
    """Give with-blocks whose work runs at the same time on a GPU, and is done when this one is left."""
    if device.type != "cuda":
        yield nullcontext
        return
    main, sides = torch.cuda.current_stream(device), []

    @contextmanager
    def aside() -> Iterator[None]:
        side = torch.cuda.Stream(device)
        sides.append(side)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            yield

    try:
        yield aside
    finally:
        for side in sides:
            main.wait_stream(side)


class _Linear(torch.autograd.Function):
    """A linear layer of one member, which for all of them is one batched product."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Refuse: there are no layers but those of members."""
        raise TypeError("outside a cohort")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def vmap(
        info: Any, dims: Sequence[int | None], x: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """Return the outputs of all members: [M, ..., in] -> [M, ..., out]."""
        x, weight = (_front(t, d, info.batch_size) for t, d in zip((x, weight), dims, strict=False))
        bias = None if bias is None else _front(bias, dims[2], info.batch_size)
        out: Tensor = _Products.apply(x.reshape(len(x), -1, x.shape[-1]), weight, bias)
        return out.reshape(*x.shape[:-1], -1), 0


class _Products(torch.autograd.Function):
    """One product for each member, in the precision of autocast: x [M, N, in], weight [M, out, in], bias [M, out].

    The gradient of a weight lies in memory as the weight does, which spares Adam a copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x W' + b: [M, N, out]."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            low = torch.get_autocast_dtype(kind)
            ctx.kinds = x.dtype, weight.dtype
            x, weight, bias = x.to(low), weight.to(low), None if bias is None else bias.to(low)
        else:
            ctx.kinds = x.dtype, weight.dtype
        ctx.save_for_backward(x, weight)
        turned = weight.transpose(1, 2)
        return torch.bmm(x, turned) if bias is None else torch.baddbmm(bias[:, None], x, turned)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of x, weight and bias, of each that is wanted."""
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        gradient = gradient.to(x.dtype)
        of_x = torch.bmm(gradient, weight).to(ctx.kinds[0]) if wanted[0] else None
        of_weight = torch.bmm(gradient.transpose(1, 2), x).to(ctx.kinds[1]) if wanted[1] else None
        return of_x, of_weight, gradient.sum(1, dtype=ctx.kinds[1]) if wanted[2] else None


def _front(tensor: Tensor, dim: int | None, members: int) -> Tensor:
    """Return a tensor with the axis of the members first, one slice for all where it has none: [M, ...]."""
    return tensor.movedim(dim, 0) if dim is not None else tensor.expand(members, *tensor.shape)
