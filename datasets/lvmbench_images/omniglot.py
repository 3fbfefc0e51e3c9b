"""OMNIGLOT: characters of many alphabets, each drawn by twenty people (Lake, Salakhutdinov & Tenenbaum 2015)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lvmbench import Attribute, Schema
from lvmbench_images.archive import Archive, archive
from lvmbench_images.decode import Frame
from lvmbench_images.fetch import HINT, Published, provide
from lvmbench_images.joined import Joined
from lvmbench_images.pictures import PictureSet
from lvmbench_images.places import OPTION, find
from lvmbench_images.table import PARTS as SPLITS
from lvmbench_images.table import Table

SOURCE = "https://github.com/brendenlake/omniglot"
RAW = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
REMEDY = f"Get it from {SOURCE} (python/, licence MIT) {OPTION} {HINT}"
PLACES = ("", "omniglot-py/")  # the second is where torchvision keeps the files
NAME = re.compile(r"([^/]+)/character\d\d/(\d{4})_(\d\d)\.png")
TRAIN, VAL, ALL = 16, 18, 20  # the last drawer of each split

SMALL = (
    "Balinese", "Early_Aramaic", "Greek", "Japanese_(katakana)", "Korean", "Latin", "Sanskrit", "Tagalog",
)  # fmt: skip
BACKGROUND = (
    "Alphabet_of_the_Magi", "Anglo-Saxon_Futhorc", "Arcadian", "Armenian", "Asomtavruli_(Georgian)", "Balinese",
    "Bengali", "Blackfoot_(Canadian_Aboriginal_Syllabics)", "Braille", "Burmese_(Myanmar)", "Cyrillic",
    "Early_Aramaic", "Futurama", "Grantha", "Greek", "Gujarati", "Hebrew",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)", "Japanese_(hiragana)", "Japanese_(katakana)", "Korean", "Latin",
    "Malay_(Jawi_-_Arabic)", "Mkhedruli_(Georgian)", "N_Ko", "Ojibwe_(Canadian_Aboriginal_Syllabics)", "Sanskrit",
    "Syriac_(Estrangelo)", "Tagalog", "Tifinagh",
)  # fmt: skip
EVALUATION = (
    "Angelic", "Atemayar_Qelisayer", "Atlantean", "Aurek-Besh", "Avesta", "Ge_ez", "Glagolitic", "Gurmukhi", "Kannada",
    "Keble", "Malayalam", "Manipuri", "Mongolian", "Old_Church_Slavonic_(Cyrillic)", "Oriya", "Sylheti",
    "Syriac_(Serto)", "Tengwar", "Tibetan", "ULOG",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part of the set as it is published: its alphabets, and its archives by their checksums."""

    alphabets: tuple[str, ...]
    archives: dict[str, str]

    @property
    def published(self) -> list[Published]:
        """Return where each archive is fetched from."""
        return [Published(f"{n}.zip", (f"{RAW}{n}.zip",), checksum) for n, checksum in self.archives.items()]


PARTS = {
    "small": Part(
        SMALL,
        {
            "images_background_small1": "sha256:f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
            "images_background_small2": "sha256:3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
        },
    ),
    "background": Part(BACKGROUND, {"images_background": "md5:68d2efa1b9178cc56df9314c21c6e718"}),
    "evaluation": Part(EVALUATION, {"images_evaluation": "md5:6b91aef0f799c5bb55b94e3f2daec811"}),
}


class Omniglot(PictureSet):
    """OMNIGLOT at ``size`` pixels: ink 255 on 0, grey where it is scaled down, binarised anew at each look.

    ``small`` is the union of the two small background sets, 4,840 drawings of 242 characters of 8 alphabets;
    ``background`` and ``evaluation`` are the two official parts, of 30 and 20 alphabets. This is not the 28×28 set of
    24,345 and 8,070 drawings of Burda et al. (2016): likelihoods do not compare with theirs.

    Every character has drawings in every split: drawers 1 to 16 of an alphabet are the training split, 17 and 18 the
    validation split, 19 and 20 the test split. A drawer has a number within an alphabet only, and one person may have
    drawn several alphabets, so that drawers are no identities here. The attribute is the alphabet: characters are more
    classes than the bench takes, 242 in the smallest part, and have 16 training drawings each.
    """

    def __init__(
        self,
        *,
        part: Literal["small", "background", "evaluation"] = "small",
        size: Literal[28, 32, 64, 105] = 28,
        drop_duplicates: bool = False,
    ) -> None:
        self.part, self.title = PARTS[part], f"omniglot-{part}-{size}"
        alphabet = Attribute(
            "alphabet", "categorical", self.part.alphabets, source="the folder of the drawing"
        )
        schema = Schema((1, size, size), "bernoulli", (alphabet,))
        frame = Frame(size, channels=1, invert=True)
        super().__init__(f"omniglot-{part}", schema, frame, drop_duplicates=drop_duplicates)

    def locate(self) -> Sequence[Path]:
        """Return the zips or folders of the part."""
        return [find("OMNIGLOT", "omniglot", _names(name), REMEDY) for name in self.part.archives]

    def provide(self) -> None:
        """Fetch the zips that are missing, where that is allowed."""
        for name, published in zip(self.part.archives, self.part.published, strict=True):
            provide("OMNIGLOT", "omniglot", _names(name), published)

    def opened(self, pictures: Path) -> Archive:
        """Return the union of the archives of the part."""
        return Joined([archive(path) for path in self.locate()])

    def table(self, pictures: Archive, tables: Sequence[Path]) -> Table:
        """Return what the names of the drawings say: alphabet, character, drawer."""
        names = (member.name for member in pictures.members())
        found = [(name, match) for name in names if (match := NAME.fullmatch(name))]
        rows = [(name, *match.groups()) for name, match in found]
        known = [row for row in rows if row[1] in self.part.alphabets and 1 <= int(row[3]) <= ALL]
        labels = [[self.part.alphabets.index(alphabet)] for _, alphabet, _, _ in known]
        return Table(
            self.schema.attributes,
            [name for name, *_ in known],
            np.array(labels, dtype=np.float32).reshape(len(known), 1),
            [str(pictures.path)] * len(known),
            parts=np.array([_split(int(drawer)) for *_, drawer in known], dtype=np.int8),
            rows=np.array([int(c) * 100 + int(drawer) for _, _, c, drawer in known], dtype=np.int64),
        )


def _names(name: str) -> list[str]:
    return [f"{place}{name}{ending}" for place in PLACES for ending in (".zip", "")]


def _split(drawer: int) -> int:
    name = "train" if drawer <= TRAIN else "val" if drawer <= VAL else "test"
    return SPLITS.index(name)
