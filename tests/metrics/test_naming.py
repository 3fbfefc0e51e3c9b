import math
from dataclasses import replace

import pytest
import torch

from lvmbench import Attribute, NotApplicable
from lvmbench_metrics import naming as module
from lvmbench_metrics.mixtures import Space
from lvmbench_metrics.naming import gmm_clusters, mixture, named_clusters, namings

A = Attribute("Blond", "binary")
HAIR = Attribute("hair", "categorical", ("black", "blond", "red"))


def planted(n, g, share=0.95):
    """Four clusters far apart; the first is blond, attribute by attribute, and nothing else is."""
    place = torch.arange(n) % 4
    z = torch.stack([10.0 * (place % 2), 10.0 * (place // 2)], 1) + torch.randn(n, 2, generator=g)
    odd = torch.rand(n, generator=g) > share
    blond = (place == 0) ^ odd
    return z, torch.stack([blond.float(), torch.randint(0, 2, (n,), generator=g).float()], 1)


def noise(n, g):
    return planted(n, g)[0], torch.randint(0, 2, (n, 1), generator=g).float()


def test_a_planted_cluster_has_its_name_and_the_others_that_they_lack_it(coded):
    ev = coded([A, Attribute("Coin", "binary")], planted)
    found = namings(ev, 4, "mean")[0]
    blond = [names for names in found.names if names and names[0].label == "Blond"]
    assert len(blond) == 1
    (first,) = blond[0]
    assert first.share == pytest.approx(0.95, abs=0.04)
    assert first.low < first.odds < first.high
    assert first.p < 1e-20
    own = next(i for i, names in enumerate(found.names) if names is blond[0])
    rows = found.clusters == own
    assert float(ev.labels("test")[rows, 0].mean()) == pytest.approx(first.share)
    assert all(name.attribute.name == "Blond" for names in found.names for name in names)


def test_noise_is_named_hardly_ever(coded):
    named = [named_clusters.compute(coded([A], noise, seed=s), k=16).value for s in range(20)]
    assert sum(share > 0 for share in named) <= 2  # 5 % of runs, and test rows have to agree


def test_the_share_counts_the_rows_of_named_clusters_of_every_start(coded):
    def by_side(n, g):
        z, _ = planted(n, g)
        return z, (torch.arange(n)[:, None] % 2 == 0) ^ (torch.rand(n, 1, generator=g) > 0.95)

    ev = coded([A], by_side)
    found = named_clusters.compute(ev, k=2)  # they part the square either way, by the label or across
    named = namings(ev, 2, "z")
    rows = [torch.tensor([bool(names) for names in one.names])[one.clusters].double() for one in named]
    assert len({float(of.mean()) for of in rows}) > 1
    assert len(rows) == 10
    torch.testing.assert_close(found.rows, torch.stack(rows).mean(0))
    assert found.value == pytest.approx(float(found.rows.mean()))
    names = sum(sum(bool(names) for names in one.names) for one in named) / 10
    assert found.note.startswith(f"{names:.3g} of 2 clusters, ")


def persons(n, g):
    """Five pictures of each person close by, all of one label, which says nothing of where."""
    people = n // 5
    of = torch.arange(n) % people
    place, labels = torch.randn(people, 2, generator=g), torch.randint(0, 2, (people, 1), generator=g)
    return place[of] + 0.01 * torch.randn(n, 2, generator=g), labels[of].float()


def test_pictures_of_one_person_are_no_independent_witnesses_of_a_name(coded):
    named = []
    for s in range(30):
        ev = coded([A], persons, sizes=(600, 600, 600), seed=s, people=120)
        named.append(named_clusters.compute(ev, k=8).value)
    assert sum(share > 0 for share in named) <= 2


def test_persons_whose_place_tells_their_label_give_a_name(coded):
    def told(n, g):
        z, _ = persons(n, g)
        return z, (z[:, :1] > 0).float()

    assert named_clusters.compute(coded([A], told, sizes=(2000, 100, 2000), people=400), k=4).value > 0.9


def test_a_mixture_is_fitted_to_rows_of_everywhere_in_a_sorted_file(coded, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 400)

    def in_order(n, g):
        z, labels = planted(n, g)
        order = (torch.arange(n) % 4).argsort()
        return z[order], labels[order, :1]

    assert gmm_clusters.compute(coded([A], in_order, sizes=(4000, 500, 1000))).value == 4


def test_a_component_that_no_training_row_is_in_may_hold_test_rows(coded, monkeypatch):
    ev = coded([A, Attribute("Coin", "binary")], planted)
    z, found = ev.codes("train"), mixture(ev, "mean")[1]
    far = replace(found, means=torch.cat([found.means[:, :3], found.means[:, 3:] + 1e3], 1))
    space = Space.of(z.double())
    monkeypatch.setattr(module, "mixture", lambda ev, view: (space, far))
    ev._codes["test/mean"] = torch.cat([z[:-1], space.out(far.means[0, 3:]).float()])
    (one,) = namings(ev, "likelihood", "mean")
    assert len(one.names) == 4
    assert int(one.clusters.max()) == 3


def test_a_name_that_only_training_rows_know_does_not_hold(coded):
    g = torch.Generator().manual_seed(0)
    parts = {"train": planted(1000, g), "val": planted(200, g), "test": noise(1000, g)}
    parts["train"] = (parts["train"][0], parts["train"][1][:, :1])
    parts["val"] = (parts["val"][0], parts["val"][1][:, :1])
    assert named_clusters.compute(coded([A], parts), k=4).value == 0


def test_a_value_that_few_of_a_cluster_bear_is_no_name_however_sure(coded):
    def rare(n, g):
        z, _ = planted(n, g)
        in_first = torch.arange(n) % 4 == 0
        return z, (in_first & (torch.rand(n, generator=g) < 0.3)).float()[:, None]

    ev = coded([A], rare, sizes=(4000, 100, 4000))
    assert not any(name.label == "Blond" for names in namings(ev, 4, "mean")[0].names for name in names)


def test_missing_labels_do_not_count(coded):
    def half_missing(n, g):
        z, labels = planted(n, g)
        labels = labels[:, :1].clone()
        labels[torch.rand(n, generator=g) < 0.5] = math.nan
        return z, labels

    first = [n for n in namings(coded([A], half_missing), 4, "mean")[0].names if n and n[0].label == "Blond"]
    assert first[0][0].share == pytest.approx(0.95, abs=0.05)


def test_a_class_of_several_is_named_with_its_attribute(coded):
    def three(n, g):
        z, labels = planted(n, g)
        return z, torch.where(labels[:, :1] == 1, 1.0, 2.0 * torch.randint(0, 2, (n, 1), generator=g))

    labels = {n[0].label for n in namings(coded([HAIR], three), 4, "mean")[0].names if n}
    assert "hair: blond" in labels


def test_a_mixture_has_as_many_components_as_there_are(coded):
    ev = coded([A], lambda n, g: (planted(n, g)[0], planted(n, g)[1][:, :1]))
    assert gmm_clusters.compute(ev).value == 4
    assert mixture(ev, "mean")[1].means.shape == (1, 4, 2)
    assert named_clusters.compute(ev, k="likelihood").value >= 0


def test_codes_that_are_one_point_have_no_mixture(coded):
    ev = coded([A], lambda n, g: (torch.ones(n, 2), torch.zeros(n, 1)))
    with pytest.raises(NotApplicable, match="all training rows are the same"):
        mixture(ev, "mean")


def test_an_odds_ratio_under_two_is_no_name_however_sure(coded):
    def slightly(n, g):
        z, _ = planted(n, g)
        in_first = (torch.arange(n) % 4 == 0).float()
        return z, (torch.rand(n, generator=g) < 0.55 + 0.1 * in_first).float()[:, None]

    ev = coded([A], slightly, sizes=(20_000, 100, 20_000))
    labels, first = ev.labels("test")[:, 0], torch.arange(20_000) % 4 == 0
    assert float(labels[first].mean()) > float(labels[~first].mean()) + 0.07  # z = 12: nobody's chance
    assert not any(namings(ev, 4, "mean")[0].names)
