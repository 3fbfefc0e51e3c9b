"""What was asked: models with options, data sets, metrics, seeds, budget; from the command line, TOML or Python."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from lvmbench.api import Budget
from lvmbench.errors import UsageError, nearest

BUDGETS: Mapping[str, Budget] = {
    "smoke": Budget("smoke", images=640, batch=32, learning_rate=2e-3, train=640, val=128, size=32, test=256,
                    draws=4, density_rows=32),
    "quick": Budget("quick", images=12_000, batch=32, learning_rate=2e-3, train=12_000, val=1_000, size=32,
                    test=2_000, draws=32, density_rows=256),
    "standard": Budget("standard", images=500_000, batch=64, learning_rate=1e-3, train=50_000, val=2_000, size=64,
                       test=5_000, draws=500, density_rows=1_000),
    "long": Budget("long", images=5_000_000, batch=64, learning_rate=1e-3, train=200_000, val=5_000, size=64,
                   test=20_000, draws=5_000, density_rows=2_000),
}  # fmt: skip


Asked = Literal["auto", "float32", "tfloat32", "bfloat16"]


@dataclass(frozen=True)
class Spec:
    """What was asked, as it was asked; from the command line, a TOML file or Python."""

    models: str | list[str] = field(default_factory=list)
    dataset: str | list[str] = "faces"
    metrics: str | list[str] = "default"
    seeds: int | list[int] = 3
    budget: str | Budget = "quick"
    controls: bool = True
    device: str = "auto"
    precision: Asked = "auto"  # of the networks while they train
    drop_duplicates: bool = False  # of every data set: of pictures that are equal one stays

    @classmethod
    def read(cls, path: Path) -> Spec:
        """Return the spec in a TOML file.

        Raises:
            UsageError: if the file cannot be read, is no TOML, or has a key or value that does not exist.
        """
        found: Spec = _validated(cls, _toml(path), str(path))
        return found

    def seed_list(self) -> list[int]:
        """Return the seeds: 0, 1, ... when only their number was asked."""
        seeds = list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)
        if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise UsageError(
                f"seeds = {self.seeds}: give a number of seeds from 1, or different seeds from 0 up."
            )
        return seeds

    def budget_of(self) -> Budget:
        """Return the budget of this name, or in this file, or as given."""
        if isinstance(self.budget, Budget):
            return self.budget
        if self.budget in BUDGETS:
            return BUDGETS[self.budget]
        path = Path(self.budget)
        if path.suffix == ".toml":
            found: Budget = _validated(Budget, {"name": path.stem, **_toml(path)}, self.budget)
            return found
        known = ", ".join(BUDGETS)
        raise UsageError(
            f"No budget '{self.budget}'.{nearest(self.budget, BUDGETS)} Known: {known}, or a .toml file."
        )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}.") from None


def _validated(kind: type[Any], raw: Mapping[str, Any], where: str) -> Any:
    known = [key for key in get_type_hints(kind) if not key.startswith("_")]
    unknown = [f"no key '{key}'.{nearest(key, known)}" for key in raw if key not in known]
    if unknown:
        raise UsageError(f"{where}: {' '.join(unknown)} Keys: {', '.join(known)}.")
    try:
        return TypeAdapter(kind).validate_python(dict(raw))
    except ValidationError as error:
        told = {".".join(str(p) for p in e["loc"][:1]): e["msg"] for e in error.errors()}
        raise UsageError(f"{where}: " + " ".join(f"{key}: {msg}." for key, msg in told.items())) from None
