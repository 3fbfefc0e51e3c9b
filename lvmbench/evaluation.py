"""One fit, looked at on held-out data: what every metric reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from lvmbench.api import Budget
from lvmbench.data import Schema, Split, SplitName
from lvmbench.errors import NotApplicable
from lvmbench.pixels import observe
from lvmbench.protocols import BESIDE, capabilities
from lvmbench.randomness import noise, stream
from lvmbench.statistics import bootstrap_weights

T = TypeVar("T")
ENCODE_BATCH = 256


class Evaluation:
    """Frozen, lazy, cached view of one fitted model on one data set.

    Everything it gives lies on the model's device. Each picture is encoded once, whoever asks; what two metrics
    share goes through ``shared``.
    """

    def __init__(
        self,
        model: Any,
        schema: Schema,
        splits: Mapping[SplitName, Split],
        budget: Budget,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        codes: Mapping[str, Tensor] | None = None,
        dataset: Any = None,
        judge: Callable[[], Any] | None = None,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.schema = schema
        self.budget = budget
        self.seed = seed
        self.device = torch.device(device)
        self._splits = dict(splits)
        self._codes = dict(codes or {})
        self._judge = judge
        self._shared: dict[tuple[Any, ...], Any] = {}
        self._recent: dict[Callable[..., Any], tuple[Any, Any]] = {}

    @property
    def capabilities(self) -> frozenset[str]:
        """What the model offers, and what stands beside it: names of ``CAPABILITIES`` and ``BESIDE``."""
        beside = {
            "labels": bool(self.schema.attributes),
            "generator": hasattr(self.dataset, "sharing"),
            "judge": self._judge is not None,
        }
        return capabilities(self.model) | {name for name, there in beside.items() if there}

    @property
    def judge(self) -> Any:
        """Return the network that saw the labels, to judge pictures by: a model with ``answers``.

        Raises:
            NotApplicable: if the run has none.
            LvmbenchError: if it could not be fitted; it is tried once, whoever asks.
        """
        found = self.shared(_verdict)
        if isinstance(found, Exception):
            raise found
        return found

    def images(self, split: SplitName = "test") -> Tensor:
        """Return the pictures as they are stored: uint8 [N, C, H, W], on the CPU."""
        return self._splits[split].images

    def labels(self, split: SplitName = "test") -> Tensor:
        """Return the labels, NaN where missing: [N, A]."""
        return self._splits[split].labels.to(self.device)

    def groups(self, split: SplitName = "test") -> Tensor | None:
        """Return the identity of every row, None where identities are not known: int64 [N]."""
        groups = self._splits[split].groups
        return None if groups is None else groups.to(self.device)

    def batches(self, split: SplitName = "test", limit: int | None = None) -> Iterator[Tensor]:
        """Yield the pictures as the schema observes them, in order, the same noise for every model: [B, C, H, W]."""
        images = self.images(split)[:limit]
        generator = torch.Generator().manual_seed(stream(0, f"pixels/{split}"))
        for chunk in images.split(ENCODE_BATCH):
            yield observe(self.schema, chunk, generator).to(self.device)

    @property
    def views(self) -> tuple[str, ...]:
        """Return the names of the codes that the model offers; ``mean`` is the posterior mean."""
        return ("mean", *(getattr(self.model, "views", dict)()))

    @property
    def latent(self) -> str:
        """Return the view that holds z as the decoder takes it: a model may name it ``decoded_view``.

        It is the posterior mean but where that is a blend of symbols, which tells more than any symbol can.
        """
        return str(getattr(self.model, "decoded_view", "mean"))

    @torch.no_grad()
    def codes(self, split: SplitName = "test", view: str = "z") -> Tensor:
        """Return the codes of a split under a view of z, unless told otherwise as its decoder takes it: [N, D].

        Raises:
            NotApplicable: if the model has no codes, or no such view.
        """
        view = self.latent if view == "z" else view
        key = f"{split}/{view}"
        if key not in self._codes:
            with self._noise(f"codes/{key}"):
                self._codes[key] = self._encoded(split, view)
        return self._codes[key].to(self.device)

    def _encoded(self, split: SplitName, view: str) -> Tensor:
        if view == "mean" and "row_codes" in self.capabilities:
            codes: Tensor = self.model.encode_rows(self._splits[split])
            return codes
        encode = self._encoder(view)
        return torch.cat([encode(x).flatten(1) for x in self.batches(split)])

    def _encoder(self, view: str) -> Callable[[Tensor], Tensor]:
        if "codes" not in self.capabilities:
            raise NotApplicable("the model has no codes (no method encode)")
        if view == "mean":
            return self.model.encode  # type: ignore[no-any-return]
        if view not in self.views:
            raise NotApplicable(f"the model has no view '{view}' (it has {', '.join(self.views)})")
        return self.model.views()[view]  # type: ignore[no-any-return]

    def weights(self, n: int | None = None) -> Tensor:
        """Return the bootstrap weights of the first n test rows, keyed by row or identity: [R, n].

        Two models on the same rows get the same weights, so that they can be compared in pairs: the same tensor,
        which nobody may change.
        """
        test = self._splits["test"]
        keys = test.rows if test.groups is None else test.groups
        return _weights(keys.to("cpu", torch.int64).numpy().tobytes(), self.device)[:, :n]

    def generator(self, name: str) -> torch.Generator:
        """Return a fresh generator on the CPU, of the stream of this name under the cell's seed."""
        return torch.Generator().manual_seed(stream(self.seed, name))

    def _noise(self, name: str) -> AbstractContextManager[None]:
        return noise(stream(self.seed, name), self.device)

    def shared(self, compute: Callable[..., T], **options: Any) -> T:
        """Return ``compute(self, **options)``, computed once per evaluation whoever asks.

        torch's random functions inside draw from a stream that ``compute`` and its options name.
        """
        key = (compute, *sorted(options.items()))
        if key not in self._shared:
            self._shared[key] = self.fresh(compute, **options)
        return self._shared[key]  # type: ignore[no-any-return]

    def recent(self, compute: Callable[..., T], **options: Any) -> T:
        """Return ``compute(self, **options)`` as ``shared`` does, but keep only the latest: for what is large."""
        key = tuple(sorted(options.items()))
        if self._recent.get(compute, (None,))[0] != key:
            self._recent.pop(compute, None)  # before the next one is made
            self._recent[compute] = (key, self.fresh(compute, **options))
        return self._recent[compute][1]  # type: ignore[no-any-return]

    def fresh(self, compute: Callable[..., T], **options: Any) -> T:
        """Return ``compute(self, **options)`` with the random numbers of ``shared``, and keep nothing."""
        with self._noise(f"{compute.__module__}.{compute.__qualname__}"):
            return compute(self, **options)


def _verdict(ev: Evaluation) -> Any:
    """Return the judge, or why there is none."""
    if ev._judge is None:
        return NotApplicable(BESIDE["judge"])
    try:
        return ev._judge()
    except Exception as error:
        return error


@lru_cache(maxsize=1)  # the cells of a worker mostly share their test rows
def _weights(keys: bytes, device: torch.device) -> Tensor:
    return bootstrap_weights(np.frombuffer(keys, dtype=np.int64)).to(device)
