"""A computation taken down operator by operator, as it runs, to be run again without autograd.

A loss and its gradients are some two hundred operators, the same at every step; for small nets autograd and what
surrounds it take a processor as long as half of them. What is run again is what ran: the same kernels in the same
order, on the same weights, with the next random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tag, Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lvmbench.errors import LvmbenchError

aten = torch.ops.aten
REFUSED = {
    Tag.data_dependent_output: "it reads a number from a tensor",
    Tag.dynamic_output_shape: "it makes a tensor whose shape hangs on numbers",
    Tag.inplace_view: "it changes the shape of a tensor in place",
}
READ = {Tensor.numpy, Tensor.__array__, Tensor.tolist}
READ_IN_LISTS = {torch.tensor, torch.as_tensor, Tensor.new_tensor}
SAME = {aten.detach.default, aten.alias.default}


class Unrepeatable(LvmbenchError):
    """A computation that depends on more than its tensors, and on what."""


@dataclass(frozen=True)
class Call:
    """An operator as it was called, and what it returned."""

    operator: Any
    function: Callable[..., Any]  # what calls it soonest
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any

    @property
    def several(self) -> bool:
        """Whether it returns a list of tensors."""
        return isinstance(self.result, list | tuple)

    @property
    def results(self) -> Sequence[Any]:
        """What it returns, one by one."""
        return self.result if self.several else [self.result]

    @property
    def acts(self) -> bool:
        """Whether it changes a tensor, or draws, so that it is to be called even if nobody reads what it returns."""
        return self.operator._schema.is_mutable or Tag.nondeterministic_seeded in self.operator.tags

    @property
    def read(self) -> Iterator[Tensor]:
        """The tensors that it is given."""
        return tensors([*self.args, *self.kwargs.values()])


@contextmanager
def taken_down() -> Iterator[Tape]:
    """Take down the operators inside a with-block.

    Raises:
        Unrepeatable: inside, if a number is read from a tensor, or a shape hangs on one.
    """
    with _Asked(), Tape() as tape:
        yield tape


class _Asked(TorchFunctionMode):
    """Refuses what reads numbers from a tensor without an operator."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        lists = [arg for arg in (*args, *given.values()) if isinstance(arg, list | tuple)]
        if function in READ or (function in READ_IN_LISTS and next(tensors(lists), None) is not None):
            raise Unrepeatable(f"it reads a number from a tensor ({function.__name__})")
        return function(*args, **given)


class Tape(TorchDispatchMode):
    """The operators of a computation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: to keep its compiler away torch would load it first, which takes a second."""
        return False

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tag in REFUSED.keys() & operator.tags:
            if not _by_number(operator, args):
                raise Unrepeatable(f"{REFUSED[tag]} ({operator})")
        given = dict(kwargs or {})
        if operator is aten.lift_fresh.default:  # a tensor of a Python number: it may be changed in place
            operator = aten.clone.default
        function, result = _called(operator, args, given)
        if not operator._schema.returns:
            result = None
        self.calls.append(Call(operator, function, args, given, result))
        return result

    def reads(self, tensor: Tensor) -> bool:
        """Return whether an operator was given a tensor."""
        return any(t is tensor for call in self.calls for t in call.read)

    def replay(self, outputs: Any) -> Callable[[], Any]:
        """Return what runs the operators again and returns outputs of the same shape anew.

        ``outputs`` are tensors of the computation, None, or lists and mappings of them. Tensors that no operator
        made are read where they lie: what the computation is to be given is written into them.
        """
        return _Writer(_needed(self.calls, outputs)).function(outputs)


def _called(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Callable[..., Any], Any]:
    """Call an operator by the function of torch that has its name, which is sooner done, or by itself."""
    name = operator._schema.name.removeprefix("aten::")
    direct = getattr(torch, name, None) or getattr(Tensor, name, None)
    if isinstance(direct, BuiltinFunctionType | MethodDescriptorType):
        try:
            return direct, direct(*args, **kwargs)
        except TypeError:  # of another signature
            pass
    return operator._op, operator(*args, **kwargs)


def _by_number(operator: Any, args: Sequence[Any]) -> bool:
    """Return whether an operator is an index by numbers, whose shape does not hang on them."""
    return operator is aten.index.Tensor and all(t.dtype == torch.int64 for t in tensors(args[1]))


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, and in lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))


def _needed(calls: Sequence[Call], outputs: Any) -> list[Call]:
    """Return the calls without those that nobody reads."""
    wanted, found = {id(t) for t in tensors(outputs)}, []
    for call in reversed(calls):
        if call.acts or any(id(t) in wanted for t in tensors(call.results)):
            found.append(call)
            wanted.update(id(t) for t in call.read)
    return found[::-1]


class _Writer:
    """Writes calls as a function of Python, which lets go of each tensor once it was read for the last time."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.constants: dict[str, Any] = {}
        # the names of tensors that are made each time, by the identity of the first that were
        self.variables: dict[int, str] = {}

    def function(self, outputs: Any) -> Callable[[], Any]:
        """Return the function, of no arguments."""
        lines = [line for call in self.calls for line in self.lines(call)]
        lines.append((f"return {self.value(outputs)}", ()))
        last = {name: i for i, (_, read) in enumerate(lines) for name in read}
        for name in self.names(outputs):
            last.pop(name, None)
        source = ["def replay():"]
        for i, (text, read) in enumerate(lines):
            done = [name for name in dict.fromkeys(read) if last.get(name) == i]
            source += [f"    {text}", *([f"    del {', '.join(done)}"] if done else [])]
        exec("\n".join(source), self.constants)
        found: Callable[[], Any] = self.constants["replay"]
        return found

    def lines(self, call: Call) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the line of a call with the variables in it, where something is to be done each time."""
        read, operator = self.names([*call.read]), call.operator
        if operator in SAME and read:
            self.variables[id(call.results[0])] = read[0]
        elif read or not operator.is_view:  # a view of what lies still lies still
            known = {id(t) for t in call.read}  # what is changed in place has its name
            made = [None if t is None or id(t) in known else self.new(t) for t in call.results]
            given = [self.value(arg) for arg in call.args]
            given += [f"{key}={self.value(arg)}" for key, arg in call.kwargs.items()]
            text = f"{self.constant(call.function)}({', '.join(given)})"
            names = [name for name in made if name]
            told = ", ".join(name or "_" for name in made) + ("," if call.several else "")
            yield f"{told} = {text}" if names else text, [*read, *names]

    def new(self, tensor: Tensor) -> str:
        """Return the name of a tensor that is made each time."""
        return self.variables.setdefault(id(tensor), f"v{len(self.variables)}")

    def names(self, value: Any) -> list[str]:
        """Return the names of the tensors in a value that are made each time."""
        return [self.variables[id(t)] for t in tensors(value) if id(t) in self.variables]

    def value(self, value: Any) -> str:
        """Return how a value is written."""
        if next(tensors(value), None) is None:
            return self.constant(value)
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{self.constant(key)}: {self.value(v)}" for key, v in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(self.value(each) for each in value) + "]"
        return self.variables.get(id(value)) or self.constant(value)

    def constant(self, value: Any) -> str:
        """Return the name of what is the same each time."""
        name = f"c{id(value)}"
        self.constants[name] = value
        return name
