"""Where a member stands before a trial: what is put back afterwards, and what no recording would repeat."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Generator

from lvmbench.checkpoints import PLAIN
from lvmbench.members import Member

NOTHING = object()  # where there is no such attribute


class Standing:
    """The tensors, moments, attributes and random numbers of a member."""

    def __init__(self, member: Member) -> None:
        self.member, model = member, member.model
        self.weights = {name: t.clone() for name, t in model.state_dict().items()}
        self.moments = {name: t.clone() for name, t in member.descent.state().items()}
        self.random, self.draws = member.streams.state(), _draws()
        self.parts = [(prefix, part, dict(vars(part))) for prefix, part in model.named_modules()]
        self.between: dict[str, Any] = {}
        held = [(name, value) for name, value, _ in self._attributes()]
        self.contents = [(name, own, own.copy()) for name, own in held if isinstance(own, list | dict)]
        self.generators = [(own, own.get_state()) for _, own in held if isinstance(own, Generator)]

    def halfway(self) -> None:
        """Take down the attributes after the first of two steps."""
        self.between = {name: now for name, _, now in self._attributes()}

    def changed(self) -> str:
        """Return what two steps have changed that no recording would repeat, if there is anything."""
        attributes = [*self._attributes()]
        found = [name + where for name, own, then in self.contents for where in _other(own, then)]
        found += [name for name, then, now in attributes if _differs(then, now)]
        found = [f"it changes {name} in a step" for name in found]
        for name, then, now in attributes:
            if now is not then and now is self.between.get(name, NOTHING):
                found.append(f"it sets {name} once")
        if _draws() != self.draws:
            found.append("it draws by Python's or numpy's random")
        return next(iter(found), "")

    @torch.no_grad()
    def restore(self) -> None:
        """Let the member stand there again."""
        _, (kind, keys, *rest) = self.draws
        for _, part, then in self.parts:
            for name in vars(part).keys() - then.keys():
                del vars(part)[name]
            vars(part).update(then)
        for _, own, items in self.contents:
            own.clear()
            own.extend(items) if isinstance(own, list) else own.update(items)
        for name, tensor in self.member.model.state_dict().items():
            tensor.copy_(self.weights[name])
        self.member.descent.restore(self.moments)
        self.member.streams.restore(self.random)
        random.setstate(self.draws[0])
        np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))  # noqa: NPY002
        for generator, state in self.generators:
            generator.set_state(state)

    def _attributes(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield the name of each attribute of the model and its parts, what it was, and what it is."""
        for prefix, part, then in self.parts:
            for name in {**then, **vars(part)}:
                yield f"{prefix}.{name}", then.get(name, NOTHING), vars(part).get(name, NOTHING)


def _draws() -> tuple[Any, tuple[Any, ...]]:
    """Return where the random numbers of Python and numpy stand, which a model may ask though no seed is theirs."""
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return random.getstate(), (kind, np.asarray(keys).tobytes(), *rest)


def _is_word(value: Any) -> bool:
    return type(value) in PLAIN


def _differs(then: Any, now: Any) -> bool:
    """Return whether an attribute is another number or word, or is one no longer."""
    return (
        now is not then
        and (_is_word(then) or _is_word(now))
        and not (type(then) is type(now) and then == now)
    )


def _other(own: Any, then: Any) -> list[str]:
    """Return where a list or mapping holds something else than it did: the places of a mapping, [place] each."""
    mine, before = (x if isinstance(x, dict) else dict(enumerate(x)) for x in (own, then))
    pairs = {place: (mine.get(place, NOTHING), before.get(place, NOTHING)) for place in {**before, **mine}}
    named = isinstance(own, dict)
    return [
        f"[{place}]" if named else ""
        for place, (a, b) in pairs.items()
        if a is not b and not (_is_word(a) and a == b)
    ]
