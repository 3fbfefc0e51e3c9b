import math

import pytest
import torch
from scipy.stats import norm

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics.clusters import adjusted_purity
from lvmbench_metrics.dimensions import best_dimension
from lvmbench_metrics.features import features
from lvmbench_metrics.few import auroc_100
from lvmbench_metrics.mlp import mlp_auroc
from lvmbench_metrics.neighbours import knn_balanced_accuracy
from lvmbench_metrics.probes import auroc, r2
from lvmbench_metrics.views import choices, codes_of

A, B = Attribute("a", "binary"), Attribute("b", "binary")
YEARS = Attribute("years", "ordinal", unit="y")


def seen_as(**by_view):
    """Codes under each view of one noise and two labels: view -> how far the labels move its two dimensions."""

    def draw(n, g):
        labels = torch.randint(0, 2, (n, 2), generator=g).float()
        return {
            view: torch.randn(n, 2, generator=g) + (labels - 0.5) * torch.tensor(d)
            for view, d in {"mean": (0.0, 0.0), **by_view}.items()
        }, labels

    return draw


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ([], ("pca", "mean")),
        (["sample"], ("sample", "pca", "mean", "pca-sample")),
        (["one-hot", "bag", "pooled"], ("one-hot", "bag", "pooled", "pca")),
        (["one-hot", "sample"], ("one-hot", "sample", "pca", "mean")),
        (["a", "b", "c", "d", "e"], ("a", "b", "c", "d")),
    ],
)
def test_every_model_has_at_most_four_views_its_own_first(coded, own, expected):
    draw = seen_as(**dict.fromkeys(own, (1.0, 1.0)))
    assert choices(coded([A, B], draw, sizes=(9, 9, 9))) == expected


def test_the_probabilities_of_symbols_are_no_view_of_a_discrete_model(coded):
    ev = coded([A, B], seen_as(**{"one-hot": (1.0, 1.0), "sample": (1.0, 1.0)}), sizes=(9, 9, 9))
    ev.model.decoded_view = "one-hot"
    assert choices(ev) == ("one-hot", "sample", "pca", "pca-sample")
    of_symbols = codes_of(ev, "pca").train
    ev.model.decoded_view = "mean"
    assert not torch.allclose(of_symbols.abs(), codes_of(ev, "pca").train.abs())


def test_no_metric_reads_the_blend_of_symbols_of_a_discrete_model_unless_asked_to(coded):
    def draw(n, g):
        labels = torch.randint(0, 2, (n, 1), generator=g).float()
        blend = torch.cat([0.9 - 0.02 * labels, 0.1 + 0.02 * labels], dim=1)  # the label in a shade of it
        symbol = torch.randint(0, 2, (n,), generator=g)
        return {"mean": blend, "one-hot": torch.eye(2)[symbol]}, labels

    ev = coded([A], draw)
    ev.model.decoded_view = "one-hot"
    for metric in (auroc, mlp_auroc, knn_balanced_accuracy, auroc_100, best_dimension):
        assert metric.compute(ev)["a"].value == pytest.approx(0.5, abs=0.06)
    assert adjusted_purity.compute(ev, k=2)["a"].value == pytest.approx(0, abs=0.03)
    assert auroc.compute(ev, view="mean")["a"].value == 1


def test_each_attribute_is_read_through_the_view_that_validation_rows_prefer(coded):
    ev = coded([A, B], seen_as(left=(3.0, 0.0), right=(0.0, 3.0)))
    found = auroc.compute(ev)
    assert (found["a"].note, found["b"].note) == ("view left", "view right")
    assert found["a"].value == auroc.compute(ev, view="left")["a"].value
    assert found["a"].value == pytest.approx(norm.cdf(3 / math.sqrt(2)), abs=0.02)
    assert auroc.compute(ev, view="left")["a"].note == ""


def test_a_view_that_shines_on_test_rows_alone_is_not_chosen(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: seen_as(left=(2.0, 2.0), right=(2.5, 2.5))(800, g) for s in ("train", "val", "test")}
    drawn["val"][0]["right"] = torch.randn(800, 2, generator=g)
    drawn["test"][0]["right"] *= 100
    assert auroc.compute(coded([A, B], drawn))["a"].note == "view left"


def test_a_number_is_read_through_the_view_of_least_validation_error(coded):
    def draw(n, g):
        y = torch.randn(n, 1, generator=g)
        return {"mean": y + 3 * torch.randn(n, 1, generator=g), "fine": y + torch.randn(n, 1, generator=g)}, y

    found = r2.compute(coded([YEARS], draw))["years"]
    assert found.note == "view fine"
    assert found.value == pytest.approx(0.5, abs=0.06)


def test_the_best_of_four_views_of_labels_that_mean_nothing_is_no_better_than_chance(coded):
    def draw(n, g):
        z = torch.randn(n, 6, generator=g)
        return {"mean": z, "sample": z + torch.randn(n, 6, generator=g)}, torch.rand(n, 30, generator=g) < 0.3

    many = [Attribute(f"a{i}", "binary") for i in range(30)]
    found = auroc.compute(coded(many, draw, sizes=(600, 200, 800)))
    # thirty labels of spread .023 each: the mean has a spread of .004
    assert sum(e.value for e in found.values()) / 30 == pytest.approx(0.5, abs=0.013)
    assert len({e.note for e in found.values()}) > 1


def test_a_view_that_never_changes_or_repeats_another_does_no_harm(coded):
    def draw(n, g):
        z, labels = seen_as(sample=(2.0, 2.0))(n, g)
        return {"mean": z["sample"], "still": torch.ones(n, 3), "twice": z["sample"].repeat(1, 2)}, labels

    ev = coded([A, B], draw)
    found = auroc.compute(ev)["a"]
    assert found.note != "view still"
    assert found.value == pytest.approx(auroc.compute(ev, view="mean")["a"].value, abs=2e-3)


def test_principal_components_are_whitened_and_at_most_64(coded):
    def draw(n, g):
        return torch.randn(n, 80, generator=g) * torch.linspace(1, 9, 80), torch.ones(n, 1)

    ev = coded([A], draw)
    z = codes_of(ev, "pca").train
    expected = torch.linalg.svd(ev.codes("train").double() - ev.codes("train").double().mean(0))
    assert z.shape == (1000, 64)
    assert z.std(0, correction=0) == pytest.approx(expected.S[:64] / math.sqrt(1000), rel=1e-6)
    assert features(ev, "pca").train[:, :-1].std(0, correction=0) == pytest.approx(torch.ones(64), rel=1e-6)


def test_components_that_are_only_rounding_stay_still(coded):
    def draw(n, g):
        z = torch.randn(n, 2, generator=g)
        return torch.cat([z, 3 * z], dim=1), torch.ones(n, 1)

    spread = codes_of(coded([A], draw), "pca").spread
    assert (spread > 0).tolist() == [True, True, False, False]


def test_the_components_of_a_view_that_is_missing_are_not_applicable(coded):
    with pytest.raises(NotApplicable, match="no view 'sample'"):
        auroc.compute(coded([A, B], seen_as()), view="pca-sample")


def low_rank(n, g):
    """600 dimensions of which 5 directions carry nearly everything, and two labels that lie in these."""
    turn = torch.linalg.qr(torch.randn(600, 5, generator=torch.Generator().manual_seed(9))).Q
    core = torch.randn(n, 5, generator=g) * torch.tensor([9.0, 7.0, 5.0, 4.0, 3.0])
    return 20 + core @ turn.T + 0.01 * torch.randn(n, 600, generator=g), core[:, -2:] > 0


def test_wide_codes_are_read_through_their_leading_axes(coded):
    ev = coded([A, B], low_rank, sizes=(700, 300, 500))
    z, codes = ev.codes("train").double(), codes_of(ev, "mean")
    assert codes.train.shape == (700, 512)
    exact = torch.linalg.svdvals(z - z.mean(0))
    assert torch.linalg.svdvals(codes.train)[:5] == pytest.approx(exact[:5], rel=1e-3)
    # dimensions keep their proportions: were noise blown up to the size of the rest, it would drown the labels
    assert auroc.compute(ev, view="mean")["b"].value > 0.99
    assert auroc.compute(ev)["b"].value > 0.99


def test_a_spread_of_wide_codes_that_is_only_rounding_carries_nothing(coded):
    def draw(n, g):
        labels = torch.randint(0, 2, (n, 1), generator=g)
        return (1000 + 1e-4 * labels.float()).repeat(1, 600), labels

    assert auroc.compute(coded([A], draw), view="mean")["a"].value == 0.5


def test_wide_codes_give_the_same_numbers_twice(coded):
    one, other = (auroc.compute(coded([A, B], low_rank, sizes=(700, 300, 500))) for _ in range(2))
    assert one["a"].value == other["a"].value
