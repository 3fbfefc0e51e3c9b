import csv
import io
import json
import re

import pytest
import torch

from lvmbench.aggregate import groups
from lvmbench.api import Metric, Record, Score
from lvmbench.pooling import interquartile_mean, pooled, probability_of_improvement
from lvmbench.records import Store
from lvmbench.report import report
from lvmbench.spec import BUDGETS
from lvmbench.summary import comparison, matrix
from tests_support import catalog_of

CATALOG = catalog_of(
    metrics={
        "auroc": Metric(len, "higher", headline=True),
        "error": Metric(len, "lower", headline=True),
        "mse": Metric(len, "lower"),
    }
)
NAMES = ("Male", "Young", "Bald", "age")
# a matrix [seeds, attributes] a model
VAE = torch.tensor([[0.80, 0.70, 0.60, 0.90], [0.82, 0.68, 0.62, 0.88]])
IWAE = torch.tensor([[0.90, 0.70, 0.55, 0.90], [0.91, 0.69, 0.55, 0.90]])


def record(label, seed, scores, role="model"):
    cell = {
        "label": label,
        "seed": seed,
        "role": role,
        "dataset_label": "faces",
        "fingerprint": "f",
        "model_source": "s",
        "device": "cpu",
        "budget": vars(BUDGETS["quick"]),
    }
    return Record(f"{label}{seed}".encode().hex().ljust(32, "0"), cell, "done", scores=tuple(scores))


@pytest.fixture
def keep(tmp_path):
    """Store matrices [S, A] of each model, with replicates of half-width ``spread``."""
    store = Store.open(tmp_path)

    def keep(metric="auroc", spread=0.01, **matrices):
        noise = torch.linspace(-spread, spread, 1000)
        for label, values in matrices.items():
            for seed, row in enumerate(values.tolist()):
                scores = [
                    Score(metric, 1, "done", f"{metric}/{a}", attribute=a, value=v)
                    for a, v in zip(NAMES, row, strict=True)
                ]
                boots = {f"{metric}/{s.attribute}": s.value + noise for s in scores}
                one = record(label, seed, scores, "floor" if label == "pca" else "model")
                store.write(store.attempt(one.fit_key), one, boots)
        return store.read().stored

    return keep


def lines(stored):
    return json.loads(report(stored, CATALOG, "json", by="aggregate"))


def figure(found, model, statistic, than=""):
    return next(x for x in found if (x["model"], x["statistic"], x["than"]) == (model, statistic, than))


def test_aggregates_are_those_of_the_matrix_of_seeds_and_attributes(keep):
    found = lines(keep(vae=VAE, iwae=IWAE))
    for label, of in (("vae", VAE), ("iwae", IWAE)):
        expected = pooled(interquartile_mean, of)
        iqm, mean = figure(found, label, "IQM"), figure(found, label, "mean")
        assert [iqm["value"], iqm["low"], iqm["high"]] == pytest.approx(
            [expected.value, expected.low, expected.high]
        )
        assert mean["value"] == pytest.approx(float(of.mean()))
        assert (iqm["attributes"], iqm["seeds"]) == (4, 2)
    expected = pooled(probability_of_improvement, IWAE, VAE)
    chance = figure(found, "iwae", "probability of improvement", "vae")
    assert chance["value"] == pytest.approx(expected.value)  # (1 + 5/8 + 0 + 6/8) / 4, by hand
    assert chance["value"] == pytest.approx((1 + 0.625 + 0 + 0.75) / 4)
    assert chance["low"] == pytest.approx(expected.low)


def test_attributes_are_counted_where_the_paired_difference_stands_after_holm(keep):
    # per attribute: 0.1 and 0.09 apart; nothing; -0.05 and -0.07; nothing
    (group,) = groups(keep(vae=VAE.repeat(3, 1), iwae=IWAE.repeat(3, 1)))
    vae, iwae = group.rows
    found = comparison(iwae, vae, "auroc", NAMES, "higher")
    assert (found.better, found.worse, found.attributes) == (1, 1, 4)
    assert comparison(vae, iwae, "auroc", NAMES, "higher").better == 1
    lower = comparison(iwae, vae, "auroc", NAMES, "lower")
    assert (lower.better, lower.worse) == (1, 1)
    assert lower.chance.value == pytest.approx(1 - found.chance.value)


def test_holms_correction_is_over_the_attributes(keep):
    # one difference with p of about 0.03 alone: among four attributes it does not stand
    apart = torch.zeros(6, 4)
    apart[:, 0] = torch.tensor([0.03, 0.01, 0.02, -0.002, 0.03, 0.005])
    apart[:, 1:] = torch.tensor([0.01, -0.01, 0.012, -0.011, 0.009, -0.01])[:, None]
    (group,) = groups(keep(vae=VAE[:1].repeat(6, 1), iwae=VAE[:1].repeat(6, 1) + apart, spread=0.0))
    vae, iwae = group.rows
    assert 0.0125 < iwae.difference(vae, "auroc", ("Male",)).p < 0.05
    assert comparison(iwae, vae, "auroc", NAMES, "higher").better == 0
    assert comparison(iwae, vae, "auroc", NAMES[:1], "higher").better == 1


def test_a_metric_of_which_less_is_better_is_turned_round(keep):
    found = lines(keep(metric="error", vae=VAE, iwae=IWAE))
    assert figure(found, "iwae", "probability of improvement", "vae")["value"] == pytest.approx(1 - 2.375 / 4)


def test_the_table_of_aggregates_and_that_of_pairs(keep):
    text = report(keep(vae=VAE, iwae=IWAE, pca=VAE - 0.1), CATALOG, by="aggregate")
    assert re.search(r"^model +auroc +auroc\n +IQM of 4 +mean of 4$", text, re.M)
    assert re.search(r"^pca \(floor\) +0\.6\d+ ±", text, re.M)
    assert re.search(r"^iwae > vae +0\.59 ±0\.\d+ +\d, \d$", text, re.M)
    assert "Holm" in text
    assert "pca >" not in text  # a control is no side of a pair
    assert max(map(len, text.splitlines())) <= 100


def test_with_one_seed_there_is_nothing_to_draw_anew_and_the_table_says_so(keep):
    text = report(keep(vae=VAE[:1], iwae=IWAE[:1]), CATALOG, by="aggregate")
    assert "one seed: there is nothing to draw anew" in text
    assert re.search(r"^vae +\S+ ±– +\S+ ±–$", text, re.M)


def test_one_model_has_no_pair(keep):
    text = report(keep(vae=VAE), CATALOG, by="aggregate")
    assert "IQM" in text
    assert "better than" not in text


def test_a_mean_is_over_the_attributes_that_every_row_has(keep):
    keep(vae=VAE)
    (group,) = groups(keep(iwae=IWAE))
    assert matrix(group.rows[0], "auroc", NAMES) == pytest.approx(VAE)
    assert matrix(group.rows[0], "auroc", ("Male", "hat")) is None


def test_without_a_headline_there_is_no_aggregate(keep):
    text = report(keep(metric="mse", vae=VAE), CATALOG, by="aggregate")
    assert text.endswith("no aggregate: no metric here says how well z holds an attribute")


def test_flat_lines_share_their_keys(keep):
    text = report(keep(vae=VAE, iwae=IWAE), CATALOG, "csv", by="aggregate")
    read = list(csv.DictReader(io.StringIO(text)))
    assert len(read) == 2 * 2 + 3
    assert figure(read, "iwae", "attributes surely better", "vae")["value"] in ("0.0", "1.0")


def test_two_readings_give_one_table(keep):
    stored = keep(vae=VAE, iwae=IWAE)
    assert report(stored, CATALOG, by="aggregate") == report(stored, CATALOG, by="aggregate")
