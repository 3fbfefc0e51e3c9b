"""What is drawn for a face: every factor, its range, and its two distributions.

A factor has an *independent* distribution, the same for all faces, and a *celeba* one, given the factors above it
in ``FACTORS``. Both turn the same uniforms into a value, so that a dial between the two moves as few faces as it can.

Quadruples of probabilities are for the four cells of CelebA: man young, man old, woman young, woman old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from lvmbench_faces.draws import Floats, Rows, between, kumaraswamy, pick, truncated_normal, uniforms

Table = dict[str, Floats]
Quadruple = tuple[float, float, float, float]
OLD = 45.0  # years: from here on a face is not Young
BALD_SHARE = 0.15


@dataclass(frozen=True)
class Factor:
    """One cause of a picture: values in [low, high] in ``unit``, or numbers of ``classes``.

    ``independent`` maps uniforms [N, 4] to values [N]; ``celeba`` maps them and the table drawn so far.
    """

    name: str
    moves: str
    independent: Callable[[Floats], Floats]
    celeba: Callable[[Floats, Table], Floats]
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    classes: tuple[str, ...] = ()
    circular: bool = False


def cell(table: Table) -> Rows:
    """Return the cell of CelebA that each face falls into: [N], 0 to 3."""
    return (2 * (1 - table["male"]) + (table["age"] >= OLD)).astype(np.int64)


def _given_cell(quadruple: Quadruple) -> Callable[[Table], Floats]:
    return lambda table: np.asarray(quadruple)[cell(table)]


def _binary(name: str, moves: str, p: Quadruple, share: float = 0.5) -> Factor:
    given = _given_cell(p)
    return Factor(
        name,
        moves,
        lambda u: (u[:, 0] < share).astype(np.float64),
        lambda u, table: (u[:, 0] < given(table)).astype(np.float64),
        classes=("no", "yes"),
    )


def _choice(
    name: str,
    moves: str,
    classes: tuple[str, ...],
    weights: tuple[float, ...],
    celeba: tuple[tuple[float, ...], ...],
) -> Factor:
    by_cell = np.asarray(celeba)
    return Factor(
        name,
        moves,
        lambda u: pick(u[:, 0], np.asarray(weights)),
        lambda u, table: pick(u[:, 0], by_cell[cell(table)]),
        classes=classes,
    )


@dataclass(frozen=True)
class Levels:
    """Two intervals with a gap between them: a face clearly has a trait or clearly has not."""

    off: tuple[float, float]
    on: tuple[float, float]

    @property
    def threshold(self) -> float:
        """The middle of the gap."""
        return (self.off[1] + self.on[0]) / 2

    def draw(self, u: Floats, p: Floats | float) -> Floats:
        """Return a value of the upper interval with probability p: uniforms [N, 4] -> [N]."""
        return np.where(u[:, 0] < p, between(u[:, 1], *self.on), between(u[:, 1], *self.off))


def _levels(
    name: str, moves: str, levels: Levels, p: Callable[[Table], Floats], unit: str = "of its range"
) -> Factor:
    return Factor(
        name,
        moves,
        lambda u: levels.draw(u, 0.5),
        lambda u, table: levels.draw(u, p(table)),
        low=levels.off[0],
        high=levels.on[1],
        unit=unit,
    )


def _nuisance(name: str, moves: str, low: float, high: float, unit: str, sd: float | None = None) -> Factor:
    middle, reach = (low + high) / 2, (high - low) / 2

    def celeba(u: Floats, table: Table) -> Floats:
        flat = between(u[:, 0], low, high)
        return flat if sd is None else middle + truncated_normal(u[:, 0], sd, reach)

    return Factor(name, moves, lambda u: between(u[:, 0], low, high), celeba, low, high, unit)


def _hue(name: str, moves: str) -> Factor:
    return Factor(name, moves, lambda u: u[:, 0], lambda u, table: u[:, 0], unit="turns", circular=True)


def _age(u: Floats, young: Floats | float) -> Floats:
    return np.where(u[:, 0] < young, between(u[:, 1], 18, OLD), between(u[:, 1], OLD, 80))


def _mouth_open(table: Table) -> Floats:
    """Return P(mouth open | smiling, cell), from both marginals and their correlation of 0.54."""
    opened = np.asarray((0.42, 0.43, 0.51, 0.63))[cell(table)]
    smiling = np.asarray(SMILING)[cell(table)]
    both = np.sqrt(smiling * (1 - smiling) * opened * (1 - opened)) * 0.54
    smiles = table["smile"] > SMILE.threshold
    return np.asarray(np.where(smiles, opened + both / smiling, opened - both / (1 - smiling)))


SMILE = Levels((-0.25, 0.15), (0.55, 1.0))
SMILING: Quadruple = (0.383, 0.430, 0.520, 0.685)
TRAIT = Levels((0.0, 0.3), (0.7, 1.0))

HAIR_COLORS = ("black", "brown", "blond", "red", "gray")
EYE_COLORS = ("brown", "blue", "green", "gray")
GLASSES = ("none", "clear", "sun")
FACIAL_HAIR = ("none", "stubble", "moustache", "goatee", "beard")


def _hair_colors(black: float, brown: float, blond: float, gray: float) -> tuple[float, ...]:
    """Return weights of ``HAIR_COLORS``: CelebA has no label for red, which takes a tenth of its brown."""
    total = black + brown + blond + gray
    return tuple(w / total for w in (black, 0.9 * brown, blond, 0.1 * brown, gray))


def _any_facial_hair(p: float) -> tuple[float, ...]:
    """Return weights of ``FACIAL_HAIR``: the shares of moustache and goatee give CelebA's marginals."""
    return (1 - p, *(p * share for share in (0.20, 0.253, 0.383, 0.164)))


def _any_glasses(p: float) -> tuple[float, ...]:
    return (1 - p, 0.85 * p, 0.15 * p)


FACTORS: tuple[Factor, ...] = (
    Factor(
        "male",
        "width of the head, width and squareness of the jaw, height and weight of the brows, lashes, lids, "
        "width and colour of the mouth, neck, shoulders",
        lambda u: (u[:, 0] < 0.5).astype(np.float64),
        lambda u, table: (u[:, 0] < 0.417).astype(np.float64),
        classes=("no", "yes"),
    ),
    Factor(
        "age",
        "folds, forehead lines, crow's feet, bags, hooded lids, sinking brows, jowls, thinner lips, "
        "paler cheeks, grey temples and brows",
        lambda u: between(u[:, 1], 18, 80),
        lambda u, table: _age(u, np.where(table["male"] > 0.5, 0.633, 0.874)),
        low=18,
        high=80,
        unit="years",
    ),
    Factor(
        "skin_tone",
        "skin, lips; brows and facial hair a little",
        lambda u: u[:, 0],
        lambda u, table: kumaraswamy(u[:, 0], 1.3, 3.1),
        unit="from the lightest of ten swatches to the darkest",
    ),
    _choice(
        "hair_color",
        "hair, brows, facial hair",
        HAIR_COLORS,
        (0.2,) * 5,
        (
            _hair_colors(0.65, 0.31, 0.03, 0.01),
            _hair_colors(0.36, 0.19, 0.03, 0.42),
            _hair_colors(0.31, 0.36, 0.33, 0.00),
            _hair_colors(0.16, 0.31, 0.44, 0.09),
        ),
    ),
    _nuisance("hair_shade", "lightness of the hair", -1, 1, "from 12 % darker to 12 % lighter"),
    _binary("bald", "hair of the scalp", (0.0195, 0.1126, 0.0001, 0.0003), BALD_SHARE),
    _levels(
        "hair_length",
        "hair beside and behind the face",
        Levels((0.0, 0.3), (0.6, 1.0)),
        _given_cell((0.06, 0.04, 0.85, 0.55)),
        "from cropped to below the shoulders",
    ),
    _levels("hairline", "height of the hairline, temples", TRAIT, _given_cell((0.049, 0.236, 0.053, 0.051))),
    _binary("bangs", "forehead", (0.112, 0.031, 0.177, 0.366)),
    _binary("wavy", "outline and strands of the hair", (0.157, 0.113, 0.438, 0.511)),
    _choice("eye_color", "iris", EYE_COLORS, (0.25,) * 4, ((0.55, 0.25, 0.12, 0.08),) * 4),
    _levels("eye_narrow", "opening of the eyes", TRAIT, _given_cell((0.111, 0.136, 0.109, 0.132))),
    _choice(
        "glasses",
        "round the eyes",
        GLASSES,
        (0.5, 0.3, 0.2),
        tuple(_any_glasses(p) for p in (0.071, 0.216, 0.017, 0.067)),
    ),
    _levels("brow_weight", "thickness of the brows", TRAIT, _given_cell((0.316, 0.121, 0.077, 0.017))),
    _levels("brow_arch", "arch of the brows", TRAIT, _given_cell((0.064, 0.035, 0.425, 0.381))),
    _levels("nose_size", "width and length of the nose", TRAIT, _given_cell((0.330, 0.575, 0.087, 0.212))),
    _levels("lip_size", "thickness of the lips", TRAIT, _given_cell((0.185, 0.106, 0.308, 0.258))),
    _levels(
        "smile",
        "corners and width of the mouth, cheeks, lower lids, brows, moustache",
        SMILE,
        _given_cell(SMILING),
        "1 is a broad smile",
    ),
    _levels("mouth_open", "gap between the lips, teeth", Levels((0.0, 0.1), (0.5, 1.0)), _mouth_open),
    _choice(
        "facial_hair",
        "lower half of the face",
        FACIAL_HAIR,
        (0.2,) * 5,
        tuple(_any_facial_hair(p) for p in (0.41, 0.36, 0.001, 0.003)),
    ),
    _binary("lipstick", "colour of the lips", (0.009, 0.001, 0.815, 0.738)),
    _levels(
        "chubby", "width of cheeks and jaw, double chin", TRAIT, _given_cell((0.046, 0.251, 0.007, 0.046))
    ),
    _nuisance("face_length", "height of the face", -1, 1, "from 5 % shorter to 5 % longer"),
    _nuisance("azimuth", "turn of the head, to the right of the picture", -0.4, 0.4, "radians", sd=0.2),
    _nuisance("roll", "tilt of the head, clockwise", -0.12, 0.12, "radians", sd=0.04),
    _nuisance("pos_x", "place of the face, to the right", -0.08, 0.08, "of half the picture", sd=0.03),
    _nuisance("pos_y", "place of the face, downwards", -0.06, 0.06, "of half the picture", sd=0.03),
    _nuisance("scale", "size of the face", 0.92, 1.08, "of the usual size", sd=0.04),
    _nuisance("light_azimuth", "side that the light comes from, right is positive", -1, 1, "radians", sd=0.5),
    _nuisance("light_intensity", "exposure", 0.92, 1.06, "of the usual light"),
    _hue("background_hue", "background"),
    _nuisance("background_light", "background", -1, 1, "from dark to light"),
    _hue("clothes_hue", "clothes"),
    _nuisance("clothes_light", "clothes", -1, 1, "from dark to light"),
)
BY_NAME: Mapping[str, Factor] = {factor.name: factor for factor in FACTORS}


def draw(seed: int, rows: Rows, rho: float) -> Table:
    """Return the factors of some rows: [N] -> name -> [N].

    Each factor of each row is drawn from its celeba distribution with probability ``rho``, by a uniform of its
    own, and else from its independent one.
    """
    table: Table = {}
    for factor in FACTORS:
        u = uniforms(seed, factor.name, rows)
        table[factor.name] = np.where(u[:, 3] < rho, factor.celeba(u, table), factor.independent(u))
    return table


def draw_sharing(seed: int, rows: Rows, name: str, groups: Rows) -> Table:
    """Return independent factors of some rows, one factor the same within a group: [N], [N] -> name -> [N]."""
    numbers, place = np.unique(groups, return_inverse=True)
    shared = BY_NAME[name].independent(uniforms(seed, f"{name}/shared", numbers))
    return {**draw(seed, rows, 0.0), name: shared[place]}


def redraw(seed: int, rows: Rows, table: Table, name: str) -> Table:
    """Return the table with one factor set anew, independent of all others, to another class if it has classes."""
    factor = BY_NAME[name]
    u = uniforms(seed, f"{name}/again", rows)
    k = len(factor.classes)
    other = np.floor(u[:, 0] * (k - 1)) + 1
    return {**table, name: (table[name] + other) % k if k else factor.independent(u)}
