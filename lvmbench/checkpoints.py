"""Checkpoints: what a descent goes on from after its process was killed, as if nothing had happened.

A checkpoint is one safetensors file, whose header holds the numbers beside the tensors and a digest of all; it
takes the place of the one before in one act.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lvmbench.errors import StoreError
from lvmbench.records import put

FORMAT = 1
EVERY = 60.0  # seconds of a fit from one checkpoint to the next
SHARE = 0.02  # of a fit that writing them may take: large ones are further apart
PARTS = ("weights", "optimisers", "random", "best")
DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    SafetensorError,
)  # what a damaged file raises

PLAIN = (int, float, str, bool, type(None))
Plain: TypeAlias = int | float | str | bool | None
Tensors: TypeAlias = Mapping[str, Tensor]


class Misfit(StoreError):
    """A checkpoint that is whole, and not of the model that is to go on from it."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a descent is after a step.

    ``curve`` is (images seen, loss) of each look; ``plain`` are the numbers and words that a model holds beside its
    tensors, ``random`` is where torch's random functions stand, ``best`` are the weights that patience keeps.
    """

    step: int
    curve: tuple[tuple[int, float], ...]
    plain: Mapping[str, Plain]
    weights: Tensors
    optimisers: Tensors
    random: Tensors
    best: Tensors = field(default_factory=dict)


@dataclass(frozen=True)
class _Told:
    """What stands in the header: ``made`` names the fit and all that its arithmetic depends on."""

    format: int
    made: dict[str, str]
    step: int
    curve: tuple[tuple[int, float], ...]
    plain: dict[str, Plain]
    seconds: float


class Checkpoints:
    """The place of one fit's checkpoints, and when the next is due.

    ``made`` names the fit, and all that its arithmetic depends on: what was made elsewhere is not gone on from.
    """

    def __init__(
        self, path: Path, made: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path, self.made, self.clock = path, dict(made), clock
        self.earlier = 0.0  # seconds that went into the fit before this process
        self.begun = clock()
        self.next = self.begun + EVERY

    def due(self) -> bool:
        """Return whether it is time for the next."""
        return self.clock() >= self.next

    def write(self, found: Checkpoint) -> None:
        """Put a checkpoint in the place of the one before; where it cannot be written the older one stays."""
        start = self.clock()
        seconds = round(self.earlier + start - self.begun, 3)
        told = json.dumps(vars(_Told(FORMAT, self.made, found.step, found.curve, dict(found.plain), seconds)))
        tensors = {
            f"{part}/{name}": tensor.detach().cpu().clone().contiguous()
            for part in PARTS
            for name, tensor in getattr(found, part).items()
        }
        blob = save(tensors, {"told": told, "digest": _digest(told, tensors)})
        try:
            put({self.path: blob})
        except OSError as error:
            self.say(f"cannot be written ({error.strerror or error}); the fit goes on without")
        end = self.clock()
        self.next = end + max(EVERY, (end - start) / SHARE)

    def last(self) -> Checkpoint | None:
        """Return the newest; None where there is none, or none that this fit can go on from here."""
        if not self.path.exists():
            return None
        try:
            told, tensors = _read(self.path)
        except DAMAGE as error:
            self.say(f"damaged, trained from the start: {error}")
            return None
        if apart := sorted(n for n in self.made | told.made if self.made.get(n) != told.made.get(n)):
            was, now = (", ".join(str(made.get(n)) for n in apart) for made in (told.made, self.made))
            self.say(f"made with other {', '.join(apart)} ({was}; here {now}), trained from the start")
            return None
        self.earlier = told.seconds
        return Checkpoint(told.step, told.curve, told.plain, **{part: tensors[part] for part in PARTS})

    def clear(self) -> None:
        """Keep none."""
        self.path.unlink(missing_ok=True)
        self.earlier = 0.0

    def say(self, what: str) -> None:
        """Tell what became of the file, into the log of the cell."""
        print(f"{self.path}: {what}", flush=True)  # noqa: T201


def _read(path: Path) -> tuple[_Told, dict[str, dict[str, Tensor]]]:
    """Return what a file holds: its header, and its tensors by part and name."""
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    if _digest(header["told"], tensors) != header["digest"]:
        raise ValueError("its digest is not that of what it holds")
    told = _adapter().validate_python(json.loads(header["told"]))
    if told.format != FORMAT:
        raise ValueError(f"its format is {told.format}, not {FORMAT}")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    return told, parts


def _digest(told: str, tensors: Tensors) -> str:
    digest = sha256(told.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@cache
def _adapter() -> TypeAdapter[_Told]:
    return TypeAdapter(_Told)


def plain(model: nn.Module) -> dict[str, Plain]:
    """Return the numbers and words that a model and its parts hold as attributes: a count of steps, a stage."""
    return {
        f"{prefix}.{attribute}": value
        for prefix, part in model.named_modules()
        for attribute, value in vars(part).items()
        if type(value) in PLAIN
    }


def set_plain(model: nn.Module, values: Mapping[str, Plain]) -> None:
    """Set the attributes of these names, on the parts that a model has, where nothing but a number or word stands."""
    parts = dict(model.named_modules())
    for name, value in values.items():
        prefix, _, attribute = name.rpartition(".")
        if prefix in parts and type(getattr(parts[prefix], attribute, None)) in PLAIN:
            setattr(parts[prefix], attribute, value)
