import math

import pytest
import torch
from scipy.stats import norm, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    log_loss,
    r2_score,
    roc_auc_score,
)

from lvmbench import Attribute, Estimate, LvmbenchError, NotApplicable
from lvmbench_metrics import linear
from lvmbench_metrics.auroc import auroc as rank_auroc
from lvmbench_metrics.probes import (
    auroc,
    average_precision,
    balanced_accuracy,
    r2,
    spearman,
    within_gender_auroc,
)
from lvmbench_metrics.scores import best_threshold
from lvmbench_metrics.usable import usable_information

A = Attribute("a", "binary")
RACE = Attribute("race", "categorical", ("x", "y", "z"))
YEARS = Attribute("years", "ordinal", unit="y")
TONE = Attribute("tone", "ordinal", ("pale", "light", "olive", "brown", "dark"))
MALE, BALD = Attribute("Male", "binary"), Attribute("bald", "binary")


def shifted(d, prevalence=0.5, dims=3):
    """A label that moves one of three dimensions by d, as in reference closed forms."""

    def draw(n, g):
        a = (torch.rand(n, 1, generator=g) < prevalence).float()
        z = torch.randn(n, dims, generator=g)
        z[:, :1] += d * (a - 0.5)
        return z, a

    return draw


def interval(estimate):
    low, high = torch.quantile(
        estimate.replicates[~estimate.replicates.isnan()], torch.tensor([0.001, 0.999]).double()
    )
    return float(low), float(high)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_auroc_and_balanced_accuracy_reach_their_closed_forms(coded, d):
    ev = coded([A], shifted(d), sizes=(4000, 2000, 4000))
    assert auroc.compute(ev)["a"].value == pytest.approx(norm.cdf(d / math.sqrt(2)), abs=0.015)
    assert balanced_accuracy.compute(ev)["a"].value == pytest.approx(norm.cdf(d / 2), abs=0.02)


def test_auroc_does_not_depend_on_how_common_the_attribute_is(coded):
    rare = auroc.compute(coded([A], shifted(2, prevalence=0.03), sizes=(8000, 2000, 4000)))["a"]
    assert interval(rare)[0] < norm.cdf(2 / math.sqrt(2)) < interval(rare)[1]


def test_labels_without_a_tie_to_z_score_chance_within_the_interval(coded):
    def draw(n, g):
        a, race = torch.randint(0, 2, (n,), generator=g), torch.randint(0, 3, (n,), generator=g)
        return torch.randn(n, 8, generator=g), torch.stack([a, race], dim=1)

    ev = coded([A, RACE], draw)
    for estimate, chance in [
        (auroc.compute(ev)["a"], 0.5),
        (auroc.compute(ev)["race"], 0.5),
        (balanced_accuracy.compute(ev)["a"], 1 / 2),
        (balanced_accuracy.compute(ev)["race"], 1 / 3),
    ]:
        low, high = interval(estimate)
        assert low < chance < high
        assert high - low < 0.25


def test_a_rotation_of_z_leaves_every_probe_alone(coded):
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]

    def draw(n, g):
        z = torch.randn(n, 4, generator=g)
        noise = torch.randn(n, 3, generator=g)
        labels = torch.stack(
            [z[:, 0] > noise[:, 0], (z[:, :3] + noise).argmax(1), z[:, 1] + noise[:, 2]], dim=1
        )
        return z, labels

    def turned(n, g):
        z, labels = draw(n, g)
        return z @ turn, labels

    attributes = [A, RACE, YEARS]
    one, other = coded(attributes, draw), coded(attributes, turned)
    for metric in (auroc, r2):
        for name, estimate in metric.compute(one).items():
            # the sample is not quite isotropic, so that to standardise it after a rotation differs a little
            assert metric.compute(other)[name].value == pytest.approx(estimate.value, abs=2e-3)


def test_the_probe_of_two_classes_scores_as_scikit_learns(coded):
    ev = coded([A], shifted(1.5, dims=6))
    x, y = ({s: f(s) for s in ("train", "val", "test")} for f in (ev.codes, lambda s: ev.labels(s)[:, 0]))
    mean, std = x["train"].mean(0), x["train"].std(0, correction=0)
    fits = [
        LogisticRegression(C=c, tol=1e-8).fit((x["train"] - mean) / std, y["train"])
        for c in (0.012, 0.12, 1.2)
    ]
    best = min(fits, key=lambda fit: log_loss(y["val"], fit.predict_proba((x["val"] - mean) / std)))
    expected = roc_auc_score(y["test"], best.decision_function((x["test"] - mean) / std))
    assert auroc.compute(ev, view="mean")["a"].value == pytest.approx(expected, abs=1e-4)


def test_one_versus_rest_is_averaged_over_the_classes_that_occur(coded):
    def draw(n, g):
        labels = torch.randint(0, 3, (n,), generator=g)
        return torch.eye(3)[labels] * 2 + torch.randn(n, 3, generator=g), labels

    full = auroc.compute(coded([RACE], draw))["race"]
    four = Attribute("race", "categorical", ("x", "y", "z", "nobody"))
    assert auroc.compute(coded([four], draw))["race"].value == pytest.approx(full.value, abs=1e-4)
    assert full.value == pytest.approx(roc_auc_of_three(coded([RACE], draw)), abs=5e-3)


def roc_auc_of_three(ev):
    reference = LogisticRegression(C=0.1).fit(ev.codes("train"), ev.labels("train")[:, 0])
    return roc_auc_score(ev.labels()[:, 0], reference.predict_proba(ev.codes()), multi_class="ovr")


def test_classes_win_by_how_far_they_rise_above_their_share(coded):
    # one class in fifty: a plain argmax would hardly ever say it, and its recall would be near 0
    def draw(n, g):
        labels = torch.multinomial(torch.tensor([0.6, 0.38, 0.02]), n, replacement=True, generator=g)
        return torch.eye(3)[labels] * 2 + torch.randn(n, 3, generator=g), labels

    ev = coded([RACE], draw, sizes=(4000, 1000, 4000))
    reference = LogisticRegression(class_weight="balanced").fit(ev.codes("train"), ev.labels("train")[:, 0])
    expected = balanced_accuracy_score(ev.labels()[:, 0], reference.predict(ev.codes()))
    assert balanced_accuracy.compute(ev)["race"].value == pytest.approx(expected, abs=0.03)


def test_the_threshold_is_the_best_one_of_the_validation_rows():
    scores, positive = (
        torch.tensor([0.1, 0.4, 0.35, 0.8, 0.9]),
        torch.tensor([False, False, True, True, True]),
    )
    threshold = best_threshold(scores, positive)
    found = balanced_accuracy_score(positive, scores > threshold)
    assert found == max(balanced_accuracy_score(positive, scores > t) for t in (0, 0.2, 0.37, 0.6, 0.85, 1))
    assert best_threshold(torch.zeros(5), positive) == 0


def test_balanced_accuracy_keeps_the_threshold_of_validation_rows(coded):
    # in the test rows the scores are shifted: only a threshold chosen there would still do well
    def rows(n, shift, g):
        z, a = shifted(6, dims=1)(n, g)
        return z + shift, a

    g = torch.Generator().manual_seed(0)
    ev = coded([A], {"train": rows(500, 0, g), "val": rows(500, 0, g), "test": rows(500, 10, g)})
    assert balanced_accuracy.compute(ev)["a"].value == 0.5
    assert auroc.compute(ev)["a"].value > 0.99


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_that_a_split_lacks_is_not_applicable_with_the_reason(coded, split):
    g = torch.Generator().manual_seed(0)
    drawn = {s: shifted(1)(200, g) for s in ("train", "val", "test")}
    z, labels = drawn[split]
    drawn[split] = (z, torch.zeros_like(labels))
    for metric in (auroc, balanced_accuracy):
        found = metric.compute(coded([A], drawn))["a"]
        assert isinstance(found, NotApplicable)
        assert split in str(found)


def test_a_class_that_only_the_test_rows_have_is_left_out_of_the_mean(coded):
    def draw(n, g):
        labels = torch.randint(0, 3, (n,), generator=g)
        return torch.eye(3)[labels] * 8 + torch.randn(n, 3, generator=g), labels

    g = torch.Generator().manual_seed(0)
    drawn = {s: draw(600, g) for s in ("train", "val", "test")}
    drawn["train"] = tuple(rows[drawn["train"][1] < 2] for rows in drawn["train"])
    ev = coded([RACE], drawn)
    assert balanced_accuracy.compute(ev)["race"].value > 0.95  # 2/3, were the third class a miss
    assert auroc.compute(ev)["race"].value > 0.95


def test_rows_without_a_label_are_ignored_and_not_counted(coded):
    g = torch.Generator().manual_seed(0)
    drawn = {s: shifted(2)(800, g) for s in ("train", "val", "test")}
    holes = {
        s: (z, a.masked_fill(torch.arange(800)[:, None] % 2 == 0, math.nan)) for s, (z, a) in drawn.items()
    }
    halves = {s: (z[1::2], a[1::2]) for s, (z, a) in drawn.items()}
    found, expected = auroc.compute(coded([A], holes))["a"], auroc.compute(coded([A], halves))["a"]
    assert found.n == 400
    # the codes are still standardised by all training rows
    assert found.value == pytest.approx(expected.value, abs=1e-3)


def test_codes_that_never_change_score_one_half(coded):
    ev = coded([A], lambda n, g: (torch.full((n, 4), 0.1), torch.randint(0, 2, (n, 1), generator=g)))
    assert auroc.compute(ev)["a"].value == 0.5
    assert balanced_accuracy.compute(ev)["a"].value == 0.5


def test_a_spread_that_is_only_rounding_carries_nothing(coded):
    def draw(n, g):
        labels = torch.randint(0, 2, (n, 1), generator=g)
        return 1000 + 1e-4 * labels.float(), labels

    assert auroc.compute(coded([A], draw))["a"].value == 0.5


def test_codes_that_are_not_numbers_are_an_error_that_counts_them(coded):
    def draw(n, g):
        z, a = shifted(1)(n, g)
        z[3, 1] = math.nan
        return z, a

    with pytest.raises(LvmbenchError, match="1 of 1000 train rows"):
        auroc.compute(coded([A], draw))


def test_r2_agrees_with_scikit_learn_where_the_penalty_is_weak(coded):
    def draw(n, g):
        z = torch.randn(n, 4, generator=g)
        return z, 30 + 5 * z[:, :1] - 2 * z[:, 1:2] + 3 * torch.randn(n, 1, generator=g)

    ev = coded([YEARS], draw, sizes=(2000, 500, 1000))
    x = torch.cat([ev.codes("train"), torch.ones(2000, 1)], dim=1)
    weights = torch.linalg.lstsq(x, ev.labels("train")).solution
    predicted = torch.cat([ev.codes(), torch.ones(1000, 1)], dim=1) @ weights
    found = r2.compute(ev)["years"]
    assert found.value == pytest.approx(r2_score(ev.labels(), predicted), abs=5e-3)
    assert found.value == pytest.approx(29 / 38, abs=0.04)
    assert found.replicates.mean() == pytest.approx(found.value, abs=0.01)


def test_a_number_that_does_not_vary_is_not_applicable(coded):
    ev = coded([YEARS], lambda n, g: (torch.randn(n, 2, generator=g), torch.full((n, 1), 7.0)))
    assert isinstance(r2.compute(ev)["years"], NotApplicable)


def test_each_metric_keeps_to_attributes_of_its_kind(coded):
    ev = coded(
        [A, YEARS], lambda n, g: (torch.randn(n, 2, generator=g), torch.randint(0, 2, (n, 2), generator=g))
    )
    assert list(auroc.compute(ev)) == ["a"]
    assert list(r2.compute(ev)) == ["years"]
    with pytest.raises(NotApplicable, match="no attribute"):
        r2.compute(coded([A], shifted(1)))


def test_replicates_of_two_attributes_come_from_the_same_rows(coded):
    def draw(n, g):
        z, a = shifted(1)(n, g)
        return z, torch.cat([a, a], dim=1)

    found = auroc.compute(coded([A, Attribute("same", "binary")], draw))
    assert torch.equal(found["a"].replicates, found["same"].replicates)


def test_the_bootstrap_has_the_spread_of_new_test_rows(coded):
    estimates = [
        auroc.compute(coded([A], shifted(1), sizes=(2000, 200, 300), seed=s))["a"] for s in range(40)
    ]
    spread = torch.tensor([e.value for e in estimates]).std()
    told = torch.stack([e.replicates.std() for e in estimates]).mean()
    assert float(told / spread) == pytest.approx(1, abs=0.3)
    assert all(isinstance(e, Estimate) for e in estimates)


def test_average_precision_is_told_where_a_class_is_rare_and_is_scikit_learns(coded):
    ev = coded([A], shifted(2, prevalence=0.03), sizes=(6000, 2000, 4000))
    z, y = ev.codes("train"), ev.labels("train")[:, 0]
    scores = LogisticRegression(C=0.1).fit(z, y).decision_function(ev.codes())
    found = average_precision.compute(ev, view="mean")["a"]
    assert found.value == pytest.approx(average_precision_score(ev.labels()[:, 0], scores), abs=0.02)
    assert interval(found)[0] < found.value < interval(found)[1]


def test_average_precision_of_what_is_common_is_not_applicable_with_its_share(coded):
    found = average_precision.compute(coded([A], shifted(2, prevalence=0.2)))["a"]
    assert isinstance(found, NotApplicable)
    assert "% of the training rows" in str(found)


def test_average_precision_of_several_classes_is_that_of_the_rare_ones(coded):
    def draw(n, g):
        labels = torch.multinomial(torch.tensor([0.57, 0.4, 0.03]), n, replacement=True, generator=g)
        return torch.eye(3)[labels] * 2 + torch.randn(n, 3, generator=g), labels

    ev = coded([RACE], draw, sizes=(6000, 2000, 4000))
    probe = LogisticRegression(C=0.1).fit(ev.codes("train"), ev.labels("train")[:, 0])
    expected = average_precision_score(ev.labels()[:, 0] == 2, probe.predict_proba(ev.codes())[:, 2])
    assert average_precision.compute(ev, view="mean")["race"].value == pytest.approx(expected, abs=0.02)


def confounded(n, g):
    """A gender that moves z, baldness that is nearly always a man's, and nothing in z of baldness itself."""
    male = torch.randint(0, 2, (n,), generator=g)
    bald = torch.rand(n, generator=g) < torch.where(male == 1, 0.5, 0.05)
    z = torch.randn(n, 2, generator=g) + 4 * male[:, None]
    return z, torch.stack([male, bald], dim=1)


def test_what_only_gender_tells_is_chance_within_gender(coded):
    ev = coded([MALE, BALD], confounded, sizes=(4000, 1000, 4000))
    assert auroc.compute(ev)["bald"].value > 0.75
    found = within_gender_auroc.compute(ev)
    assert interval(found["bald"])[0] < 0.5 < interval(found["bald"])[1]
    assert found["bald"].value == pytest.approx(0.5, abs=0.05)
    assert "parted" in str(found["Male"])


def test_within_gender_is_the_mean_of_scikit_learns_score_of_either_side(coded, monkeypatch):
    monkeypatch.setattr(linear, "strengths", lambda rows: (0.1,))

    def draw(n, g):
        z, labels = confounded(n, g)
        z[:, 1] += 1.5 * labels[:, 1]
        return z, labels.float().masked_fill(torch.rand(n, 2, generator=g) < 0.3, math.nan)

    ev = coded([MALE, BALD], draw, sizes=(4000, 1000, 3000))
    known = ~ev.labels("train").isnan().any(1)
    mean, std = ev.codes("train").mean(0), ev.codes("train").std(0, correction=0)
    probe = LogisticRegression(C=0.1).fit(
        ((ev.codes("train") - mean) / std)[known], ev.labels("train")[known, 1]
    )
    scores, y = torch.from_numpy(probe.decision_function((ev.codes() - mean) / std)), ev.labels()
    sides = [(y[:, 0] == side) & ~y[:, 1].isnan() for side in (0, 1)]
    expected = sum(roc_auc_score(y[side, 1], scores[side]) for side in sides) / 2
    found = within_gender_auroc.compute(ev, view="mean")["bald"]
    assert found.value == pytest.approx(expected, abs=3e-3)
    assert found.n == int((~y.isnan().any(1)).sum())
    weights = ev.weights()[:200]
    boot = [rank_auroc(scores[side], y[side, 1] == 1, weights[:, side]) for side in sides]
    assert float(found.replicates[:200].std() / torch.stack(boot).mean(0).std()) == pytest.approx(1, abs=0.05)


def test_a_side_with_too_few_rows_is_not_applicable_with_the_counts(coded):
    g = torch.Generator().manual_seed(0)
    parts = {s: confounded(1000, g) for s in ("train", "val", "test")}
    _, labels = parts["test"]
    women = (labels[:, 0] == 0).nonzero().flatten()
    labels[women, 1] = 0
    labels[women[:9], 1] = 1
    found = within_gender_auroc.compute(coded([MALE, BALD], parts))["bald"]
    assert isinstance(found, NotApplicable)
    assert f"9 positive and {len(women) - 9} negative test rows where Male is no" in str(found)


def test_within_an_attribute_that_is_not_there_is_not_applicable(coded):
    with pytest.raises(NotApplicable, match="no attribute 'Male'"):
        within_gender_auroc.compute(coded([A], shifted(1)))
    found = within_gender_auroc.compute(coded([MALE, BALD], confounded), within="bald")
    assert isinstance(found["bald"], NotApplicable)
    assert isinstance(found["Male"], Estimate)


def test_the_rank_correlation_of_numbers_and_of_ordered_classes_is_scipys(coded):
    def draw(n, g):
        z = torch.randn(n, 4, generator=g)
        years = torch.exp(z[:, 0] + torch.randn(n, generator=g))
        tone = (2 + z[:, 1] + 0.5 * torch.randn(n, generator=g)).round().clamp(0, 4)
        return z, torch.stack([years, tone], dim=1)

    ev = coded([YEARS, TONE], draw, sizes=(3000, 1000, 1500))
    found = spearman.compute(ev, view="mean")
    years, tone = ev.labels().T
    x, y = ev.codes("train"), ev.labels("train")
    weights = torch.linalg.lstsq(torch.nn.functional.pad(x, (0, 1), value=1.0), y[:, :1]).solution
    predicted = torch.nn.functional.pad(ev.codes(), (0, 1), value=1.0) @ weights
    expected = torch.from_numpy(LogisticRegression(C=0.1).fit(x, y[:, 1]).predict_proba(ev.codes()))
    assert found["years"].value == pytest.approx(spearmanr(predicted[:, 0], years).statistic, abs=5e-3)
    expected = expected @ torch.arange(5.0).double()
    assert found["tone"].value == pytest.approx(spearmanr(expected, tone).statistic, abs=5e-3)
    assert found["tone"].replicates.mean() == pytest.approx(found["tone"].value, abs=0.01)


def test_there_is_no_rank_correlation_with_classes_that_have_no_order(coded):
    with pytest.raises(NotApplicable, match="no attribute"):
        spearman.compute(coded([A], shifted(1)))


def test_pictures_of_one_person_are_drawn_together_by_the_bootstrap(coded):
    # twenty people of fifty pictures each, all alike: there are twenty rows to learn from, not a thousand
    g = torch.Generator().manual_seed(0)
    person = torch.arange(1000) % 20
    z, a = shifted(1)(20, g)
    alike = (z[person] + 0.01 * torch.randn(1000, 3, generator=g), a[person])
    parts = {"train": shifted(1)(1000, g), "val": shifted(1)(500, g), "test": alike}
    apart, together = (auroc.compute(coded([A], parts, people=n))["a"] for n in (None, 20))
    assert together.value == apart.value
    spread = [e.replicates[~e.replicates.isnan()].std() for e in (apart, together)]
    assert float(spread[1] / spread[0]) == pytest.approx(math.sqrt(50), rel=0.35)


def test_nothing_is_chosen_on_validation_rows_of_classes_that_training_has_not_shown(coded):
    def rows(classes):
        labels = torch.tensor(classes).repeat(50)
        return torch.randn(len(labels), 2), labels

    ev = coded([RACE], {"train": rows([0, 1]), "val": rows([2, 2]), "test": rows([0, 1])})
    assert "fewer than two classes occur among the val rows" in str(auroc.compute(ev)["race"])
    ev = coded([RACE], {"train": rows([0, 1]), "val": rows([1, 2]), "test": rows([0, 1])})
    assert "both training and validation rows" in str(auroc.compute(ev)["race"])


def test_the_bootstrap_of_an_average_precision_has_the_value_as_its_mean(coded):
    found = average_precision.compute(coded([A], shifted(1.5, prevalence=0.03), sizes=(3000, 1000, 1000)))[
        "a"
    ]
    assert float(found.replicates.nanmean()) == pytest.approx(found.value, abs=1e-9)
    assert 0.02 < float(found.replicates.std()) < 0.2


def test_few_rows_weigh_as_much_against_the_penalty_as_many(coded):
    assert linear.strengths(120) == pytest.approx((0.1, 1, 10))
    assert linear.strengths(200_000) == pytest.approx((0.001, 0.01, 0.1))
    # nearly separable: a penalty that fits many rows would hide what few of them show
    few = coded([A], shifted(4, dims=2), sizes=(120, 120, 2000))
    assert usable_information.compute(few, view="mean")["a"].value > 0.8
