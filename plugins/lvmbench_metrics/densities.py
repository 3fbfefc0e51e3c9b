"""p(z | attribute): a density over z for every value of every attribute, the best of a few on validation rows.

It is a density of the codes that the decoder takes. Of a vector: a Gaussian whose covariance is drawn towards that of
all codes, or a mixture of Gaussians. Of one-hot symbols: independent categorical variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lvmbench import Attribute, Estimate, Evaluation, NotApplicable, metric
from lvmbench_metrics.codes import SplitName, class_labels, class_name, columns, finite_codes, single_codes
from lvmbench_metrics.kmeans import kmeans
from lvmbench_metrics.mixtures import Mixtures, Space, fit, start

LEAST_ROWS = 20  # training rows that a density is learned from
ROWS = 4_000  # training rows of a value that are looked at
SHRINKAGE = (
    0.3,
    0.03,
    0.1,
    1.0,
)  # share of the covariance of all codes; the first where validation is silent
COMPONENTS = 4
TEMPERATURES = tuple(
    2 ** (i / 2) for i in range(-4, 21)
)  # 1/4 to 1024: hundreds of symbols may say one thing

Scores = dict[str, Estimate | NotApplicable]


@metric(
    better="higher",
    unit="bits",
    needs=("codes", "labels"),
    chance=0.0,
    family="generation",
    main=False,
    paper="Xu et al. 2020, arXiv 2002.10689, with Bayes' rule as the family",
)
def density_bits(ev: Evaluation) -> Scores:
    """Return the mean of log2 p(a|z) / p(a), with p(a|z) by Bayes' rule from the densities p(z|a): bits.

    It is information on a that these densities hold, at most the entropy of a; below 0 where they mislead. The kind
    of density, and a temperature of its log-ratios, are those under which p(a|z) is largest on validation rows.
    """
    found = ev.shared(densities)
    absent = {name: own for name, own in found.by_attribute.items() if isinstance(own, NotApplicable)}
    rows = {name: _bits(ev, name, told) for name, told in found.telling.items()}
    scores = _means(ev, rows, {name: _note(told.own) for name, told in found.telling.items()}) if rows else {}
    return {name: absent.get(name) or scores[name] for name in found.by_attribute}


class Density(Protocol):
    """p(z) or p(z|a)."""

    @property
    def note(self) -> str:
        """What kind of density it is."""
        ...

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats: [N, D] -> [N]."""
        ...

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n draws: -> [n, D]."""
        ...


@dataclass(frozen=True)
class Gaussians:
    """A mixture of Gaussians in a space: log-shares [K], means [K, E], lower Cholesky factors [K, E, E]."""

    space: Space
    log_shares: Tensor
    means: Tensor
    factors: Tensor
    note: str

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats, along the axes that vary: [N, D] -> [N]."""
        apart = self.space.into(z) - self.means[:, None]  # [K, N, E]
        scaled = torch.linalg.solve_triangular(self.factors, apart.transpose(1, 2), upper=False)
        log_det = self.factors.diagonal(dim1=1, dim2=2).log().sum(1) + self.space.spread.log().sum()
        each = -0.5 * (scaled.square().sum(1) + math.log(2 * math.pi) * self.means.shape[1])
        density: Tensor = (self.log_shares[:, None] + each - log_det[:, None]).logsumexp(0)
        return density

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n draws: -> [n, D]."""
        which = torch.multinomial(self.log_shares.exp().cpu(), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], 1, generator=generator, dtype=torch.float64)
        which, noise = which.to(self.means.device), noise.to(self.means.device)
        return self.space.out(self.means[which] + (self.factors[which] @ noise)[:, :, 0])


@dataclass(frozen=True)
class Symbols:
    """Independent categorical variables, one-hot and side by side: log-probabilities [G, C]."""

    log_probs: Tensor
    note: str = "independent symbols"

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats: one-hot [N, G * C] -> [N]."""
        return z.to(self.log_probs) @ self.log_probs.flatten()

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n draws: -> one-hot [n, G * C]."""
        drawn = torch.multinomial(self.log_probs.exp().cpu(), n, replacement=True, generator=generator)
        hot = torch.nn.functional.one_hot(drawn.T, self.log_probs.shape[1]).double()
        return hot.flatten(1).to(self.log_probs.device)


Values = Mapping[int, Density]


@dataclass(frozen=True)
class Telling:
    """Densities that tell values apart, the log-odds between them divided by a temperature; log p(a) is [V]."""

    own: Values
    prior: Tensor
    temperature: float

    def bits(self, z: Tensor, labels: Tensor) -> Tensor:
        """Return log2 p(a|z) / p(a) of each row's label, NaN where it has no density: [N, D], [N] -> [N]."""
        is_own = labels[:, None] == torch.tensor(list(self.own), device=labels.device)
        told = _log_probs(_joint(list(self.own.values()), z), self.prior, self.temperature) - self.prior
        return (told * is_own).sum(1).where(is_own.any(1), math.nan) / math.log(2)


@dataclass(frozen=True)
class Densities:
    """The density of all codes, and of those of each value of each attribute that has enough rows.

    ``by_attribute`` is of the kind that finds validation codes likeliest, to draw from; ``telling`` is of the kind
    that tells their values best.
    """

    everyone: Density
    by_attribute: Mapping[str, Values | NotApplicable]
    telling: Mapping[str, Telling]


def decoded_codes(ev: Evaluation, split: SplitName) -> Tensor:
    """Return the codes that the decoder takes, in double precision: [N, D]."""
    # the posterior mean of a discrete latent is a blend of symbols that its decoder has never seen
    return finite_codes(ev, split, ev.latent)


def symbols_of(z: Tensor) -> tuple[int, int] | None:
    """Return how many one-hot symbols of how many classes the codes are, None where they are none: [N, D]."""
    groups = int(z[0].sum())
    if not bool(((z == 0) | (z == 1)).all()) or not 1 <= groups < z.shape[1] or z.shape[1] % groups:
        return None
    blocks = z.view(len(z), groups, -1)
    return (groups, blocks.shape[2]) if bool((blocks.sum(2) == 1).all()) else None


def densities(ev: Evaluation) -> Densities:
    """Learn the densities of all values on training rows, and choose each attribute's kind on validation rows.

    One kind is the density of all codes, whatever the value: it is chosen where the values are not told apart.
    """
    train, val = single_codes(ev, "train", ev.latent), decoded_codes(ev, "val")
    labels, on_val = class_labels(ev, "train"), class_labels(ev, "val")
    # the first rows of any value are then some at random: a file may be sorted by class
    order = torch.randperm(len(train), generator=ev.generator("densities/rows")).to(train.device)
    train, labels = train[order], labels[order]
    learn = _learner(train, ev.generator("densities"))
    of_all = [kind[0] for kind in learn([torch.arange(len(train), device=train.device)])]
    everyone = max(of_all, key=lambda density: float(density.log_prob(val).sum()))
    found = {
        a.name: _of_attribute(a, learn, everyone, labels[:, i], val, on_val[:, i]) for a, i in columns(ev)
    }
    drawn = {name: own if isinstance(own, NotApplicable) else own[0] for name, own in found.items()}
    telling = {name: own[1] for name, own in found.items() if not isinstance(own, NotApplicable)}
    return Densities(everyone, drawn, telling)


Learner = Callable[
    [list[Tensor]], list[list[Density]]
]  # rows of each value -> of each kind, a density of each


def _of_attribute(
    attribute: Attribute, learn: Learner, everyone: Density, labels: Tensor, val: Tensor, on_val: Tensor
) -> tuple[Values, Telling] | NotApplicable:
    rows = {c: (labels == c).nonzero().flatten() for c in range(attribute.n_classes)}
    enough = {c: of for c, of in rows.items() if len(of) >= LEAST_ROWS}
    if len(enough) < 2:
        rare = ", ".join(f"'{class_name(attribute, c)}'" for c in rows if c not in enough)
        return NotApplicable(f"fewer than {LEAST_ROWS} training rows of {rare}")
    kinds = [*learn(list(enough.values())), [everyone] * len(enough)]
    is_own = on_val[:, None] == torch.tensor(list(enough), device=val.device)
    known = is_own.any(1)
    joints = [_joint(kind, val[known]) for kind in kinds]
    right = is_own[known].long().argmax(1)
    prior = torch.tensor([len(of) for of in enough.values()], device=val.device).double().log().log_softmax(0)
    likely = [float(joint.gather(1, right[:, None]).sum()) for joint in joints]
    drawn, (best, temperature) = kinds[likely.index(max(likely))], _best(joints, prior, right)
    return (
        dict(zip(enough, drawn, strict=True)),
        Telling(dict(zip(enough, kinds[best], strict=True)), prior, temperature),
    )


def _joint(kind: Sequence[Density], z: Tensor) -> Tensor:
    """Return log p(z|a) of each value, in nats: [N, D] -> [N, V]."""
    if all(density is kind[0] for density in kind):
        return kind[0].log_prob(z)[:, None].expand(-1, len(kind))
    return torch.stack([density.log_prob(z) for density in kind], dim=1)


def _log_probs(joint: Tensor, prior: Tensor, temperature: float) -> Tensor:
    """Return log p(a|z), the odds of densities tempered: log p(z|a) [N, V], log p(a) [V] -> [N, V].

    Guo et al. 2017, arXiv 1706.04599, section 4.2: codes whose parts are no independent witnesses are far too sure.
    """
    return (joint / temperature + prior).log_softmax(1)


def _best(joints: Sequence[Tensor], prior: Tensor, right: Tensor) -> tuple[int, float]:
    """Return the kind, and the temperature, under which labels are likeliest: [N, V] each, [V], [N]."""
    tried = [(i, t) for i in reversed(range(len(joints))) for t in TEMPERATURES]
    told = [float(_log_probs(joints[i], prior, t).gather(1, right[:, None]).sum()) for i, t in tried]
    return tried[told.index(max(told))]  # the last kind knows nothing: it wins where validation is silent


def _learner(train: Tensor, generator: torch.Generator) -> Learner:
    """Return what learns densities of some training rows, of all kinds that suit the codes: [N, D]."""
    if symbols := symbols_of(train):
        return lambda rows: [[_symbols(train[of].double(), symbols) for of in rows]]
    space = Space.of(train[:ROWS].double())
    if not len(space.spread):
        raise NotApplicable("the codes of all training rows are the same")
    some = space.into(train[:ROWS])
    centres = kmeans(some.float(), COMPONENTS, 1, generator).centres.double()
    # from one start, so that two values which differ in nothing have one density
    begun = fit(some[None], some.new_ones(1, len(some)), start(centres))

    def learn(rows: list[Tensor]) -> list[list[Density]]:
        padded, known = _padded([space.into(train[of[:ROWS]]) for of in rows])
        return [*_gaussians(space, padded, known), _mixtures(space, padded, known, begun)]

    return learn


def _padded(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return sets of rows one above the other, and which are no padding: [n, E] each -> [V, N, E], [V, N]."""
    padded = pad_sequence(parts, batch_first=True)
    size = torch.tensor([len(part) for part in parts], device=padded.device)
    return padded, (torch.arange(padded.shape[1], device=padded.device) < size[:, None]).to(padded)


def _symbols(z: Tensor, shape: tuple[int, int]) -> Density:
    counts = z.sum(0).view(shape) + 1 / shape[1]  # one row more, spread over the classes
    return Symbols((counts / counts.sum(1, keepdim=True)).log())


def _gaussians(space: Space, u: Tensor, known: Tensor) -> list[list[Density]]:
    """Return, for each shrinkage, a Gaussian of each set of rows: [V, N, E], [V, N]."""
    size = known.sum(1)[:, None]
    means = u.sum(1) / size  # padding is 0
    covariance = u.mT @ u / size[:, :, None] - means[:, :, None] * means[:, None]
    all_codes = torch.eye(u.shape[2], dtype=u.dtype, device=u.device)  # their covariance, in this space
    certain = u.new_zeros(1)
    kinds: list[list[Density]] = []
    for share in SHRINKAGE:
        factors = torch.linalg.cholesky((1 - share) * covariance + share * all_codes)
        kinds.append(
            [
                Gaussians(space, certain, mean[None], factor[None], "gaussian")
                for mean, factor in zip(means, factors, strict=True)
            ]
        )
    return kinds


def _mixtures(space: Space, u: Tensor, known: Tensor, begun: Mixtures) -> list[Density]:
    """Return a mixture of each set of rows, from one start: [V, N, E], [V, N]."""
    every = Mixtures(
        *(of.expand(len(u), *of.shape[1:]) for of in (begun.log_shares, begun.means, begun.variances))
    )
    found = fit(u, known, every)
    parts = zip(found.log_shares, found.means, found.variances.sqrt().diag_embed(), strict=True)
    return [Gaussians(space, *part, f"mixture of {COMPONENTS}") for part in parts]


def _bits(ev: Evaluation, name: str, told: Telling) -> Tensor:
    """Return what the densities tell of the value of each test row, NaN where it has no density: [N], bits."""
    return told.bits(decoded_codes(ev, "test"), class_labels(ev, "test")[:, ev.schema.index(name)])


def _means(ev: Evaluation, rows: Mapping[str, Tensor], notes: Mapping[str, str]) -> Scores:
    """Return the mean of each attribute's known rows, their bootstraps from one GEMM: [N] each."""
    every = torch.stack(list(rows.values()), dim=1)
    known, weights = (~every.isnan()).double(), ev.weights().double()
    many = weights @ every.nan_to_num() / (weights @ known)
    one, count = every.nanmean(0).tolist(), known.sum(0).long().tolist()
    return {
        name: Estimate(one[i], replicates=many[:, i], n=count[i], note=notes[name])
        if count[i]
        else NotApplicable("no labelled test rows")
        for i, name in enumerate(rows)
    }


def _note(own: Values) -> str:
    kinds = list(own.values())
    return "the density of all codes" if kinds[0] is kinds[1] else kinds[0].note
