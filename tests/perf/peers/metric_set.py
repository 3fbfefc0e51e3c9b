"""The disentanglement scores, computed as disentanglement_lib does and as lvmbench does, from the same pictures.

disentanglement_lib needs TensorFlow 1, which no supported Python has: what stands here are its ways, in few lines.
Each score draws factors anew, looks their pictures up and encodes them in batches of 16; information comes
from scikit-learn, one pair of dimension and factor at a time; DCI fits gradient-boosted trees for each factor, SAP a
linear support vector machine for each pair; FactorVAE votes in a loop. Sizes are smaller than its own (10,000 and
5,000 rows, 15,000 votes of 64 pictures), so that all this ends; both sides get the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import mutual_info_score
from sklearn.svm import LinearSVC
from torch import Tensor

from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.cells import take
from lvmbench.data import Schema, Split
from lvmbench.evaluation import Evaluation
from lvmbench.pixels import observe
from lvmbench.plan import measures_of
from lvmbench.spec import Spec
from lvmbench.training import build

TRAIN, VAL, TEST = 4000, 500, 2000
FACTORS = 5
BATCH = 16  # disentanglement_lib's
BINS = 20
GROUPS, EACH = 32, 16  # of FactorVAE: groups a factor, half of them to learn from; pictures a group
DCI = ("dci-disentanglement", "dci-completeness", "dci-informativeness")
OURS = {
    "MIG": ("mig-width20",),
    "modularity": ("modularity-quantile20",),
    "DCI": tuple(f"{name}-gbt" for name in DCI),
    "SAP": ("sap-auroc",),
    "FactorVAE": (f"factor-vae-score(groups={GROUPS}, each={EACH})",),
}
LINEAR = "DCI, our linear readers"  # which lvmbench takes for trees unless told otherwise

Codes = NDArray[np.float64]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Truth:
    """Pictures with the classes of their factors, and a model that encodes them; a data set that can be drawn from."""

    model: torch.nn.Module
    schema: Schema
    images: Tensor
    factors: Tensor  # int64 [N, F]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """The factors by name."""
        return tuple(a.name for a in self.schema.attributes)

    def rows_sharing(self, factor: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return rows of which all have one value of a factor: [count]."""
        column = self.factors[:, factor].numpy()
        return rng.choice(np.flatnonzero(column == rng.choice(column)), count)

    def sharing(self, factor: str, groups: int, each: int) -> Tensor:
        """Return pictures in groups that share one factor: uint8 [G, each, C, H, W]."""
        rng = np.random.default_rng(0)
        index = self.factor_names.index(factor)
        return torch.stack([self.images[self.rows_sharing(index, each, rng)] for _ in range(groups)])

    @torch.no_grad()
    def codes(self, rows: NDArray[np.int64]) -> Codes:
        """Return the codes of rows, encoded in small batches: [n, D]."""
        parts = [
            self.model.encode(observe(self.schema, self.images[some]))
            for some in torch.as_tensor(rows).split(BATCH)
        ]
        return np.asarray(torch.cat(parts), dtype=np.float64)

    def drawn(self, count: int, rng: np.random.Generator) -> tuple[Codes, Classes]:
        """Return codes and factors of rows drawn anew: [n, D], [n, F]."""
        rows = rng.integers(0, len(self.images), count)
        return self.codes(rows), self.factors[rows].numpy()


def truth() -> Truth:
    """Return faces with some of their factors, and an untrained encoder of 10 numbers."""
    faces = Catalog.discover().get("dataset", "faces").load()(size=32)
    split = faces.split("train", TRAIN + VAL + TEST)
    kept = [i for i, a in enumerate(faces.schema.attributes) if _is_factor(a.is_number, split.labels[:, i])]
    kept = kept[:FACTORS]
    schema = Schema(faces.schema.shape, faces.schema.pixels, tuple(faces.schema.attributes[i] for i in kept))
    model = build(Catalog.discover().get("model", "vae").load(), schema, {"latent_dim": 10}, 0).eval()
    return Truth(model, schema, split.images, split.labels[:, kept].long())


def _is_factor(is_number: bool, labels: Tensor) -> bool:
    """Return whether a column is known of each row, and has classes enough rows of which can be drawn."""
    return not (is_number or labels.isnan().any()) and len(labels.unique()) > 1


def binned(codes: Codes) -> Classes:
    """Return the bin of each code, by edges of equal width: [N, D] -> [N, D]."""
    return np.stack([np.digitize(z, np.histogram(z, BINS)[1][:-1]) for z in codes.T], axis=1)


def information(codes: Codes, factors: Classes) -> NDArray[np.float64]:
    """Return the mutual information of every bin and factor, a pair at a time: [N, D], [N, F] -> [D, F]."""
    bins = binned(codes)
    return np.array([[mutual_info_score(f, z) for f in factors.T] for z in bins.T])


def mig(t: Truth, rng: np.random.Generator) -> float:
    """Return the mutual information gap."""
    codes, factors = t.drawn(TRAIN, rng)
    ordered = -np.sort(-information(codes, factors), axis=0)
    entropy = [mutual_info_score(f, f) for f in factors.T]
    return float(np.mean((ordered[0] - ordered[1]) / entropy))


def modularity(t: Truth, rng: np.random.Generator) -> float:
    """Return the modularity of the code."""
    squares = information(*t.drawn(TRAIN, rng)) ** 2
    best = squares.max(1)
    return float(np.mean(1 - (squares.sum(1) - best) / (np.maximum(best, 1e-12) * (squares.shape[1] - 1))))


def dci(t: Truth, rng: np.random.Generator) -> float:
    """Return the disentanglement of DCI, after the trees of all factors were fitted and tried."""
    (codes, factors), (test, told) = t.drawn(TRAIN, rng), t.drawn(TEST, rng)
    importance = np.zeros((codes.shape[1], factors.shape[1]))
    for i in range(factors.shape[1]):
        trees = GradientBoostingClassifier().fit(codes, factors[:, i])
        importance[:, i] = np.abs(trees.feature_importances_)
        trees.score(codes, factors[:, i])
        trees.score(test, told[:, i])
    share = importance / importance.sum(1, keepdims=True)
    entropy = -(share * np.log(share + 1e-11)).sum(1) / np.log(factors.shape[1])
    return float(((1 - entropy) * importance.sum(1)).sum() / importance.sum())


def sap(t: Truth, rng: np.random.Generator) -> float:
    """Return the separated attribute predictability."""
    (codes, factors), (test, told) = t.drawn(TRAIN, rng), t.drawn(TEST, rng)
    score = np.zeros((codes.shape[1], factors.shape[1]))
    for i in range(codes.shape[1]):
        for j in range(factors.shape[1]):
            machine = LinearSVC(C=0.01, class_weight="balanced").fit(codes[:, [i]], factors[:, j])
            score[i, j] = (machine.predict(test[:, [i]]) == told[:, j]).mean()
    ordered = -np.sort(-score, axis=0)
    return float((ordered[0] - ordered[1]).mean())


def factor_vae(t: Truth, rng: np.random.Generator) -> float:
    """Return how often the dimension that varies least names the factor that is held."""
    spread = t.drawn(TRAIN, rng)[0].var(0, ddof=1)
    half = GROUPS // 2 * len(t.factor_names)
    train, test = _votes(t, half, spread, rng), _votes(t, half, spread, rng)
    return float(test[train.argmax(0), np.arange(len(spread))].sum() / half)


def _votes(t: Truth, count: int, spread: Codes, rng: np.random.Generator) -> Classes:
    """Return how often each dimension varied least while each factor was held: [F, D]."""
    votes = np.zeros((len(t.factor_names), len(spread)), dtype=np.int64)
    for _ in range(count):
        factor = rng.integers(len(t.factor_names))
        codes = t.codes(t.rows_sharing(factor, EACH, rng))
        votes[factor, np.argmin(codes.var(0, ddof=1) / spread)] += 1
    return votes


THEIRS: dict[str, Callable[[Truth, np.random.Generator], float]] = {
    "MIG": mig,
    "modularity": modularity,
    "DCI": dci,
    "SAP": sap,
    "FactorVAE": factor_vae,
}


def evaluation(t: Truth) -> Evaluation:
    """Return the view of the same pictures that our metrics read."""
    ends = {"train": (0, TRAIN), "val": (TRAIN, TRAIN + VAL), "test": (TRAIN + VAL, TRAIN + VAL + TEST)}
    rows = torch.arange(len(t.images))
    splits = {name: Split(t.images[a:b], t.factors[a:b].float(), rows[a:b]) for name, (a, b) in ends.items()}
    return Evaluation(t.model, t.schema, splits, Budget(), dataset=t)


def ours(t: Truth, calls: tuple[str, ...], catalog: Catalog) -> None:
    """Take metrics of one fresh view.

    Raises:
        SystemExit: if one cannot be taken.
    """
    ev = evaluation(t)
    for measure in measures_of(Spec(metrics=list(calls)), catalog):
        for score, _ in take(ev, catalog.get("metric", measure.name).load(), measure, ""):
            if score.status != "done":
                raise SystemExit(f"{measure.name}: {score.status}: {score.reason}")


def main(rounds: int) -> None:
    """Print the seconds of every score and of all together, by side and round."""
    t, rng, catalog = truth(), np.random.default_rng(0), Catalog.discover()
    every = tuple(call for calls in OURS.values() for call in calls)
    asked = {**OURS, LINEAR: tuple(f"{name}-logistic" for name in DCI), "all": every}
    works: dict[str, dict[str, Callable[[], object]]] = {
        "theirs": {name: lambda score=score: score(t, rng) for name, score in THEIRS.items()},
        "ours": {name: lambda calls=calls: ours(t, calls, catalog) for name, calls in asked.items()},
    }
    for calls in asked.values():  # imports
        measures_of(Spec(metrics=list(calls)), catalog)
    seconds: dict[str, dict[str, list[float]]] = {side: {n: [] for n in works[side]} for side in works}
    for number in range(rounds):
        for side in list(works)[:: 1 if number % 2 == 0 else -1]:
            for name, work in works[side].items():
                start = time.perf_counter()
                work()
                seconds[side][name].append(time.perf_counter() - start)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]))
