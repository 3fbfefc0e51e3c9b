"""Data sets of Hugging Face: from the hub, or as they lie in a folder."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le

from lvmbench import DataError, Schema, UsageError, texts
from lvmbench_images.archive import Archive
from lvmbench_images.columns import attributes_of, identity_column, part
from lvmbench_images.decode import Frame
from lvmbench_images.fetch import is_allowed
from lvmbench_images.hf_rows import Rows, Splits, image_column, labels, library
from lvmbench_images.pictures import PictureSet
from lvmbench_images.places import place
from lvmbench_images.table import PARTS, Table

SOURCE = "the columns of the set"


class HuggingFace(PictureSet):
    """A Hugging Face data set: ``hf('flwrlabs/celeba', config='img_align+identity+attr')``, or a folder of one.

    ``name`` is a folder or a Parquet file, from the working directory or from the data root, else a name on the hub,
    which must have been downloaded before unless ``--download`` allows it now. ``image`` is the column of pictures, by
    default the only one. ``splits`` says which of the set's splits are train, val and test; known by themselves are
    train, val, valid, validation, dev and test. What they do not give is drawn from train. ``names`` gives columns
    other names, which ``identity`` and ``kinds`` then use, as for ``images``.
    """

    def __init__(
        self,
        *,
        name: str,
        config: str | None = None,
        revision: str | None = None,
        image: str | None = None,
        splits: Mapping[str, Literal["train", "val", "test"]] | None = None,
        names: Mapping[str, str] | None = None,
        identity: str | None = None,
        kinds: Mapping[str, Any] | None = None,
        size: Annotated[int, Ge(4), Le(1024)] = 64,
        channels: Literal[1, 3] = 3,
        crop: Literal["centre", "whole"] = "centre",
        pixels: Literal["gaussian", "bernoulli"] = "gaussian",
        drop_duplicates: bool = False,
    ) -> None:
        frame = Frame(size, channels, crop)
        self._place, self._config, self._revision, self._image = name, config, revision, image
        self._splits, self._names = dict(splits or {}), dict(names or {})
        self._identity, self._kinds = identity, dict(kinds or {})
        mapped = [sorted(mapping.items()) for mapping in (self._splits, self._names, self._kinds)]
        asked = [name, config, revision, identity, *mapped]
        super().__init__(
            "hf", Schema(frame.shape, pixels), frame, drop_duplicates=drop_duplicates, asked=asked
        )

    @property
    def schema(self) -> Schema:
        """Return the shape of a picture, the family of its pixels, and what the columns say are its attributes."""
        album, known = self.album, self._static
        return Schema(known.shape, known.pixels, album.attributes, identities=album.identities is not None)

    def locate(self) -> Sequence[Path]:
        """Return the folder or file, or where the hub's copy lies in the cache of ``datasets``."""
        local = place(self._place)
        if local is not None:
            return [local]
        cached = Path(library().config.HF_DATASETS_CACHE) / self._place.replace("/", "___")
        if not cached.exists() and not is_allowed():
            raise DataError(
                f"hf: no folder '{self._place}' here or in the data root, and no such set in {cached.parent}. "
                "Nothing is downloaded without --download: read the terms of the set on its page, then say it."
            )
        return [cached]

    def opened(self, pictures: Path) -> Archive:
        """Return the pictures of the rows."""
        return Rows(pictures, self._loaded, image_column(self._place, self._loaded, self._image))

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return what the other columns say, row by row."""
        told = self._place
        said = labels(told, self._loaded, image_column(told, self._loaded, self._image))
        table = said.table.rename(columns=self._names)
        if table.columns.duplicated().any() or not set(self._names) <= set(self._features()):
            there = ", ".join(self._features())
            raise UsageError(
                f"{told}: names={self._names}: not columns, or not names of one each. There are: {there}."
            )
        kinds = {self._names.get(name, name): kind for name, kind in said.kinds.items()} | self._kinds
        free = table.drop(columns=[c for c in table.columns if c in self._kinds])
        identity, doubts = identity_column(table if self._identity else free, told, self._identity)
        kinds.pop(identity or "", None)
        others = [column for column in table.columns if column != identity]
        attributes, values, found = attributes_of(table[others], told, SOURCE, kinds)
        names, places = self._rows()
        return Table(
            attributes,
            names,
            values,
            [f"{told}, {name.replace('/', ' row ')}" for name in names],
            parts=np.array(places, dtype=np.int8),
            identities=None if identity is None else texts(table[identity]),
            findings=[*found, *said.findings, *doubts],
        )

    def _features(self) -> list[str]:
        return list(dict.fromkeys(name for split in self._loaded.values() for name in split.features))

    def _rows(self) -> tuple[list[str], list[int]]:
        """Return the name of each row, and its split's place in ``PARTS``."""
        names: list[str] = []
        places: list[int] = []
        for name, split in self._loaded.items():
            names += [f"{name}/{row}" for row in range(len(split))]
            places += [PARTS.index(self._part(name))] * len(split)
        return names, places

    def _part(self, split: str) -> str:
        known = part(split)
        if split in self._splits:
            return self._splits[split]
        if known is None:
            raise UsageError(
                f"{self._place}: is the split '{split}' for train, val or test? Say it: splits={{'{split}': 'test'}}."
            )
        return PARTS[known]

    @cached_property
    def _loaded(self) -> Splits:
        known, local = library(), place(self._place)
        try:
            with contextlib.nullcontext() if is_allowed() and local is None else _offline():
                found = self._load(known, local)
        except Exception as error:  # whatever the library raises
            told = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(f"hf: '{self._place}' cannot be opened ({told}).") from error
        return {"train": found} if isinstance(found, known.Dataset) else dict(found)

    def _load(self, known: Any, local: Path | None) -> Any:
        if local is None:
            return known.load_dataset(self._place, self._config, revision=self._revision)
        if local.is_file():
            return known.load_dataset(local.suffix[1:].lower(), data_files=str(local))
        if any((local / name).exists() for name in ("dataset_dict.json", "state.json")):
            return known.load_from_disk(str(local))
        return known.load_dataset(str(local.resolve()), self._config)


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep ``datasets`` from reaching for the network, inside: it reads its cache."""
    config = library().config
    hub: Any = importlib.import_module("huggingface_hub.constants")
    before = hub.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
