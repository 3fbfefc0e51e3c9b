import math

import pytest
import torch
from scipy.stats import hypergeom
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
    rand_score,
    v_measure_score,
)
from sklearn.metrics.cluster import expected_mutual_information as reference_emi

import lvmbench_metrics
from lvmbench import Attribute, LvmbenchError, NotApplicable
from lvmbench_metrics import clusters as metrics
from lvmbench_metrics.agreement import Contributions
from lvmbench_metrics.contingency import expected_mutual_information, permuted_purity, table

A = Attribute("a", "binary")
THREE = Attribute("three", "categorical", ("x", "y", "z"))
ADJUSTED = (metrics.adjusted_purity, metrics.ami, metrics.ari)
ALL = (metrics.purity, metrics.majority_share, metrics.nmi, metrics.rand_index, *ADJUSTED)


def scores(clusters, labels):
    clusters, labels = torch.tensor(clusters)[None], torch.tensor(labels)
    k, c = int(clusters.max()) + 1, int(labels.max()) + 1
    return Contributions(clusters, labels, k, c).scores(torch.ones(1, labels.numel(), dtype=torch.float64))


# Manning, Raghavan & Schütze, figure 16.4
MANNING = ([0] * 6 + [1] * 6 + [2] * 5, [0] * 5 + [1] + [0] + [1] * 4 + [2] + [0] * 2 + [2] * 3)

SIX = ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    ("clusters", "labels", "expected"),
    [
        (*MANNING, {"purity": 12 / 17, "nmi": 0.3645618, "rand_index": 0.6764706, "ari": 0.2429150}),
        (*MANNING, {"ami": 0.2601813, "majority_share": 8 / 17}),
        (*SIX, {"ari": 0.2424242, "ami": 0.2987925, "purity": 5 / 6}),
        (*SIX, {"rand_index": 0.6666667, "nmi": 0.5158038}),
        ([0, 0, 1, 2], [0, 0, 1, 1], {"ari": 0.5714286, "nmi": 0.8}),
        ([0, 3, 2, 2, 1], [1, 3, 2, 0, 1], {"ami": -0.1111111, "nmi": 0.7918757}),
        ([0, 2, 1, 1, 0], [2, 1, 0, 1, 0], {"ami": -0.25, "ari": -0.25}),
    ],
)
def test_textbook_values(clusters, labels, expected):
    found = scores(clusters, labels)
    assert {name: float(getattr(found, name)) for name in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("k", "c", "n"), [(16, 2, 500), (5, 9, 300), (40, 3, 100)])
def test_every_score_agrees_with_scikit_learn_on_random_tables(k, c, n):
    g = torch.Generator().manual_seed(k)
    labels = torch.randint(0, c, (n,), generator=g)
    clusters = (labels + torch.randint(0, k, (n,), generator=g) * torch.randint(0, 2, (n,), generator=g)) % k
    found = scores(clusters.tolist(), labels.tolist())
    assert float(found.ami) == pytest.approx(adjusted_mutual_info_score(labels, clusters), abs=1e-9)
    assert float(found.ari) == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-9)
    assert float(found.nmi) == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-9)
    assert float(found.nmi) == pytest.approx(v_measure_score(labels, clusters), abs=1e-9)
    assert float(found.rand_index) == pytest.approx(rand_score(labels, clusters), abs=1e-9)
    counts = table(clusters[None], labels, k, c)
    assert float(found.purity) == pytest.approx(float(counts.amax(2).sum() / n))
    occupied = counts[0][counts[0].sum(1) > 0]  # scikit-learn takes the logarithm of an empty cluster
    expected = reference_emi(occupied.long().numpy(), n)
    assert float(expected_mutual_information(counts)) == pytest.approx(expected, abs=1e-10)


def test_margins_that_overlap_leave_some_counts_impossible():
    clusters, labels = [0] * 8 + [1] * 2, [0] * 6 + [1] * 3 + [0]
    assert float(scores(clusters, labels).ami) == pytest.approx(adjusted_mutual_info_score(labels, clusters))


def test_names_of_clusters_and_classes_do_not_matter():
    clusters, labels = MANNING
    renamed = scores([2 - c for c in clusters], [(x + 1) % 3 for x in labels])
    for name in ("purity", "nmi", "ami", "rand_index", "ari"):
        assert float(getattr(renamed, name)) == pytest.approx(float(getattr(scores(clusters, labels), name)))


@pytest.mark.parametrize("labels", [[2, 0, 3, 1, 4], [0, 0, 0, 0, 0]])
def test_relabelled_singletons_and_two_constant_labelings_match_perfectly(labels):
    clusters = [0, 1, 2, 3, 4] if len(set(labels)) > 1 else [0] * 5
    found = scores(clusters, labels)
    assert float(found.ami) == float(found.ari) == float(found.nmi) == float(found.rand_index) == 1


@pytest.mark.parametrize("odd", [1, 2])
@pytest.mark.parametrize("n", [100, 20_000])
def test_nmi_of_near_constant_labelings_stays_between_0_and_1(n, odd):
    clusters, labels = [0] * n, [0] * n
    clusters[0] = labels[-odd] = labels[-1] = 1
    for pair in ((clusters, labels), (clusters, clusters), ([0] * n, labels), (clusters, [0] * n)):
        found = float(scores(*pair).nmi)
        assert -1e-9 <= found <= 1 + 1e-9
        assert found == pytest.approx(normalized_mutual_info_score(*pair), abs=1e-6)


def test_one_cluster_of_many_classes_tells_nothing():
    found = scores([0, 0, 0, 0], [0, 1, 2, 3])
    assert float(found.ami) == float(found.ari) == float(found.adjusted_purity) == float(found.nmi) == 0


def test_the_purity_of_permuted_labels_is_the_mean_of_the_hypergeometric():
    g = torch.Generator().manual_seed(0)
    clusters = torch.randint(0, 10, (1, 1000), generator=g)
    labels = (torch.rand(1000, generator=g) < 0.4).long()
    positives, exact = int(labels.sum()), 0.0
    for size in torch.bincount(clusters[0]).tolist():
        hits = torch.arange(size + 1).numpy()
        exact += (hypergeom.pmf(hits, 1000, positives, size) * [max(h, size - h) for h in hits]).sum() / 1000
    by_class = permuted_purity(clusters, labels, 10, 2)[0]
    found = float(by_class @ torch.bincount(labels).double() / 1000)
    assert found == pytest.approx(exact, abs=0.003)
    assert found - positives / 1000 > 0.003  # and not merely the majority share


def blobs(n, g, noise=1.0):
    labels = torch.randint(0, 2, (n, 1), generator=g)
    return 6.0 * labels + noise * torch.randn(n, 3, generator=g), labels


def test_clusters_that_are_the_classes_score_one_beyond_chance(coded):
    ev = coded([A], blobs)
    for metric in ALL:
        found = metric.compute(ev, k=2)["a"]
        assert (
            found.value == pytest.approx(0.5, abs=0.05)
            if metric is metrics.majority_share
            else found.value > 0.99
        )


def test_noise_is_pure_for_a_rare_class_but_not_beyond_chance(coded):
    ev = coded([A], lambda n, g: (torch.randn(n, 4, generator=g), torch.rand(n, 1, generator=g) < 0.02))
    assert metrics.purity.compute(ev)["a"].value > 0.95
    for metric in ADJUSTED:
        found = metric.compute(ev)["a"]
        low, high = torch.quantile(found.replicates, torch.tensor([0.001, 0.999]).double())
        assert low <= 0.01
        assert high >= -0.01
        assert abs(found.value) < 0.02


def test_dead_dimensions_do_not_count(coded):
    def with_dead(n, g):
        z, labels = blobs(n, g)
        return torch.cat([z, 1e-3 * torch.randn(n, 30, generator=g)], dim=1), labels

    assert metrics.ari.compute(coded([A], with_dead), k=2)["a"].value > 0.99


def test_centres_are_learned_on_training_rows_only(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: blobs(300, g) for s in ("train", "val", "test")}
    z, labels = drawn["test"]
    drawn["test"] = (z + 100, labels)  # clusters of the test rows themselves would still be perfect
    assert metrics.purity.compute(coded([A], drawn), k=2)["a"].value == pytest.approx(
        metrics.majority_share.compute(coded([A], drawn), k=2)["a"].value
    )


def test_as_many_clusters_as_classes_can_be_asked_for(coded):
    def draw(n, g):
        labels = torch.randint(0, 3, (n, 1), generator=g)
        return torch.eye(3)[labels[:, 0]] * 20 + torch.randn(n, 3, generator=g), labels

    assert metrics.ami.compute(coded([THREE], draw), k="classes")["three"].value > 0.7
    assert metrics.ami.compute(coded([THREE], draw), k=2)["three"].value < 0.8


def test_noise_gains_by_more_clusters_until_it_is_adjusted_for_chance(coded):
    ev = coded([A], lambda n, g: (torch.randn(n, 4, generator=g), torch.randint(0, 2, (n, 1), generator=g)))
    for metric in (metrics.purity, metrics.nmi):
        few, many = (metric.compute(ev, k=k)["a"].value for k in (4, 64))
        assert many > few + 0.01
    for metric in ADJUSTED:
        for k in (4, 64):
            assert abs(metric.compute(ev, k=k)["a"].value) < 0.02


@pytest.mark.parametrize(("k", "seeds"), [(2, 10), (32, 10), (64, 5), (200, 2)])
def test_more_clusters_are_taken_from_fewer_seeds(coded, k, seeds):
    ev = coded([A], blobs, sizes=(300, 50, 50))
    assert ev.shared(metrics._clusters, k=k, view="mean").shape == (seeds, 50)


def quantised(coded, views, sizes=(300, 50, 60)):
    """Two attributes and a model whose code is one of eight places, of which the test rows use five."""
    ev = coded(
        [A, THREE],
        lambda n, g: (torch.randn(n, 2, generator=g), torch.randint(0, 2, (n, 2), generator=g)),
        sizes,
    )
    ev.model.views = lambda: dict.fromkeys(views)
    places = torch.nn.functional.one_hot(torch.arange(sizes[2]) % 5, 8).float()
    ev._codes |= {f"test/{view}": codes(places) for view, codes in views.items()}
    return ev


@pytest.mark.parametrize(
    "views",
    [
        {"one-hot": lambda places: places},
        {
            "one-hot": lambda places: torch.cat(
                [places, places], dim=1
            ),  # two places a picture, one codebook
            "bag": lambda places: (places + places.roll(1, 0)) / 2,
        },
    ],
)
def test_clusters_can_be_as_many_as_the_codes_that_are_used(coded, views):
    ev = quantised(coded, views)
    found, expected = (metrics.ami.compute(ev, k=k) for k in ("codebook", 5))
    for name in ("a", "three"):
        assert found[name].value == expected[name].value
        assert found[name].note == "5 clusters"
        assert expected[name].note == ""


@pytest.mark.parametrize(
    ("views", "told"),
    [
        ({}, "no codebook"),
        ({"one-hot": lambda places: torch.cat([places, places], dim=1)}, "several variables"),
    ],
)
def test_without_a_codebook_there_is_no_such_number(coded, views, told):
    with pytest.raises(NotApplicable, match=told):
        metrics.ami.compute(quantised(coded, views), k="codebook")


def test_in_full_clusters_are_scored_at_several_numbers_of_them():
    entries = lvmbench_metrics.lvmbench_metrics()
    for name in ("purity", "ami", "ari", "adjusted-purity"):
        assert entries[name].also == ({"k": "classes"}, {"k": 64}, {"k": "codebook"})
    assert {metric.family for metric in ALL} == {"clusters"}
    assert {metric for metric in ALL if not metric.main} == {metrics.nmi, metrics.rand_index, metrics.ari}


def test_rows_without_a_label_are_ignored_and_not_counted(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: blobs(400, g, noise=4) for s in ("train", "val", "test")}
    z, labels = drawn["test"]
    hole = torch.arange(400)[:, None] >= 100
    some = dict(drawn, test=(z, labels.float().masked_fill(hole, math.nan)))
    few = dict(drawn, test=(z[:100], labels[:100]))
    for metric in ALL:
        found, expected = metric.compute(coded([A], some))["a"], metric.compute(coded([A], few))["a"]
        assert found.n == 100
        assert found.value == pytest.approx(expected.value)
        assert torch.allclose(found.replicates, expected.replicates, atol=1e-5)


def test_one_class_among_the_test_rows_is_not_applicable(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: blobs(100, g) for s in ("train", "val", "test")}
    drawn["test"] = (drawn["test"][0], torch.ones(100, 1))
    for metric in ALL:
        assert isinstance(metric.compute(coded([A], drawn))["a"], NotApplicable)


def test_more_clusters_than_training_rows_is_not_applicable(coded):
    with pytest.raises(NotApplicable, match="40 clusters of 30"):
        metrics.ami.compute(coded([A], blobs, sizes=(30, 30, 30)), k=40)


def test_codes_that_are_not_numbers_are_an_error(coded):
    ev = coded([A], lambda n, g: (torch.full((n, 2), math.inf), torch.zeros(n, 1)))
    with pytest.raises(LvmbenchError, match="not finite"):
        metrics.ami.compute(ev)


def test_two_evaluations_of_one_seed_agree(coded):
    one, same = (metrics.ami.compute(coded([A], blobs))["a"] for _ in range(2))
    assert one.value == same.value
    assert torch.equal(one.replicates, same.replicates)


@pytest.mark.parametrize("name", ["purity", "adjusted_purity", "nmi", "ami", "rand_index", "ari"])
def test_the_first_order_bootstrap_has_the_spread_of_new_rows(name):
    # what is compared: the spread of the score over 60 fresh samples, and what the bootstrap of each tells
    g = torch.Generator().manual_seed(0)
    values, told = [], []
    for _ in range(60):
        labels = (torch.rand(600, generator=g) < 0.4).long()
        clusters = (
            (labels + (torch.rand(600, generator=g) < 0.25)) % 2 * 3
            + torch.randint(0, 3, (600,), generator=g)
        )[None]
        of = Contributions(clusters, labels, 6, 2)
        values.append(float(getattr(of.scores(torch.ones(1, 600).double()), name)))
        boot = getattr(of.scores(torch.poisson(torch.ones(300, 600), generator=g)), name)
        told.append(float(boot.std()))
        assert float(boot.mean()) == pytest.approx(values[-1], abs=0.02)
    spread = float(torch.tensor(values).std())
    assert sum(told) / len(told) == pytest.approx(spread, rel=0.25)
