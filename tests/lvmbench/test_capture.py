import json

import numpy as np
import pytest
import torch

from lvmbench.aggregate import groups
from lvmbench.api import Metric, Record, Score
from lvmbench.capture import capture, models_of, questions_of, shared
from lvmbench.cards import Cards
from lvmbench.records import Store
from lvmbench.report import report
from lvmbench.spec import BUDGETS
from tests_support import catalog_of


@pytest.fixture
def catalog():
    card = {"better": "higher", "headline": True, "bounds": (0, 1)}
    return catalog_of(
        metrics={"auroc": Metric(len, chance=0.5, **card), "r2": Metric(len, chance=0.0, **card)}
    )


@pytest.fixture
def group(tmp_path):
    """A table of rows: ``label/role/size`` to the values of auroc by attribute, a seed each."""

    def build(rows, spread=0.001, metric="auroc", shared_noise=True):
        store, rng = Store.open(tmp_path), np.random.default_rng(0)
        common = rng.normal(size=1000)
        for row, attributes in rows.items():
            label, role, size = row.split("/")
            seeds = len(next(iter(attributes.values())))
            for seed in range(seeds):
                scores = [
                    Score(metric, 1, "done", f"{metric}/{a}", attribute=a, value=values[seed])
                    for a, values in attributes.items()
                ]
                cell = {
                    "label": label, "seed": seed, "role": role, "dataset_label": "faces", "fingerprint": "f",
                    "model_source": "s", "device": "cpu", "budget": vars(BUDGETS["quick"]),
                    "seedless": role == "floor" and seeds == 1,
                }  # fmt: skip
                key = f"{label}{seed}".encode().hex().ljust(32, "0")
                one = Record(key, cell, "done", scores=tuple(scores), code_dims=int(size))
                noise = common if shared_noise else rng.normal(size=1000)
                boots = {
                    f"{metric}/{s.attribute}": torch.from_numpy(s.value + spread * noise).float()
                    for s in scores
                }
                store.write(store.attempt(key), one, boots)
        (found,) = groups(store.read().stored)
        return found

    build.path = tmp_path
    return build


def bracket(model, floor=(0.6, 0.6), ceiling=(0.9, 0.9), size=16):
    return {
        f"vae/model/{size}": {"Male": model},
        f"pca/floor/{size}": {"Male": floor},
        "supervised/ceiling/64": {"Male": ceiling},
    }


def of(group, catalog, attribute="Male"):
    cards = Cards(catalog)
    asked = [q for q in questions_of(group, cards, group.metrics) if q.attribute == attribute]
    return capture(group, models_of(group)[0], asked)


@pytest.mark.parametrize(("value", "share"), [(0.6, 0.0), (0.9, 1.0), (0.75, 0.5), (0.54, -0.2)])
def test_capture_is_the_way_from_the_floor_to_the_ceiling(group, catalog, value, share):
    assert of(group(bracket((value, value))), catalog).value == pytest.approx(share)


def test_its_interval_is_that_of_the_linearised_ratio_over_seeds(group, catalog):
    model, floor, ceiling = (0.70, 0.80, 0.75), (0.60, 0.64, 0.62), (0.90, 0.94, 0.86)
    found = of(group(bracket(model, floor, ceiling), spread=0.0), catalog)
    a, f, c = (np.array(v) for v in (model, floor, ceiling))
    ratio = (a - f).mean() / (c - f).mean()
    errors = ((a - f) - ratio * (c - f)) / (c - f).mean()  # Cochran 1977, section 6.3: a ratio of means
    reach = 4.302653 * errors.std(ddof=1) / np.sqrt(3)
    assert found.value == pytest.approx(ratio)
    assert found.high - found.value == pytest.approx(reach, rel=1e-5)


def test_what_moves_all_three_together_cancels(group, catalog):
    together = of(group(bracket((0.7, 0.7)), spread=0.02), catalog)
    assert together.high - together.low < 1e-6


def test_a_better_floor_of_another_size_is_no_floor(group, catalog):
    rows = bracket((0.75, 0.75)) | {"pca(latent_dim=99)/floor/99": {"Male": (0.74, 0.74)}}
    assert of(group(rows), catalog).value == pytest.approx(0.5)


def test_without_a_floor_of_its_size_there_is_none(group, catalog):
    rows = {**bracket((0.75, 0.75)), "pca/floor/99": {"Male": (0.74, 0.74)}}
    del rows["pca/floor/16"]
    assert "no floor with a code of 16" in of(group(rows), catalog).reason


def test_there_is_none_while_a_floor_of_its_size_lacks_its_value(group, catalog):
    rows = bracket((0.75, 0.75)) | {"random-encoder/floor/16": {"Bald": (0.7, 0.7)}}
    assert "random-encoder has no value" in of(group(rows), catalog).reason


def test_the_better_of_two_floors_of_its_size_counts(group, catalog):
    rows = bracket((0.75, 0.75)) | {"random-encoder/floor/16": {"Male": (0.7, 0.7)}}
    assert of(group(rows), catalog).value == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("ceiling", "spread"), [((0.605, 0.605), 0.0001), ((0.55, 0.55), 0.001), ((0.4, 0.95), 0.001)]
)
def test_there_is_none_where_the_ceiling_does_not_surely_rise_above_the_floor(
    group, catalog, ceiling, spread
):
    found = of(group(bracket((0.75, 0.75), ceiling=ceiling), spread=spread), catalog)
    assert found.value is None
    assert "hardly rises" in found.reason


def test_over_attributes_rises_and_rooms_are_summed_so_that_no_small_room_decides(group, catalog):
    rows = {
        "vae/model/16": {"Male": (0.7, 0.7), "Bald": (0.9, 0.9)},
        "pca/floor/16": {"Male": (0.6, 0.6), "Bald": (0.98, 0.98)},
        "supervised/ceiling/64": {"Male": (1.0, 1.0), "Bald": (0.99, 0.99)},
    }
    found = group(rows)
    asked = shared(found, list(questions_of(found, Cards(catalog), found.metrics)))
    assert len(asked) == 2
    assert capture(found, models_of(found)[0], asked).value == pytest.approx((0.1 - 0.08) / (0.4 + 0.01))


def test_a_span_is_the_way_from_chance_to_perfection(group, catalog):
    found = group(bracket((0.75, 0.75)))
    assert [q.span for q in questions_of(found, Cards(catalog), ("auroc",))] == [0.5]


def test_seeds_that_differ_are_not_compared(group, catalog):
    rows = bracket((0.75, 0.75), floor=(0.6, 0.6, 0.6))
    assert "other seeds" in of(group(rows), catalog).reason


def test_one_seed_of_a_seedless_floor_stands_for_all(group, catalog):
    once = of(group(bracket((0.7, 0.8), floor=(0.6,))), catalog)
    assert once.value == pytest.approx(0.5)
    assert once.seeds == 2
    assert once.high > 0.6  # the seeds of the model still count


def test_the_first_seed_of_a_seedless_floor_stands_for_all_where_it_has_several(group, catalog):
    found = group(bracket((0.7, 0.8), floor=(0.6, 0.1)))
    for fit in next(r for r in found.rows if r.role == "floor").fits:
        fit.record.cell["seedless"] = True
    assert of(found, catalog).value == pytest.approx(0.5)


def test_an_attribute_that_one_model_lacks_is_no_part_of_the_sum(group, catalog):
    rows = {
        **bracket((0.75, 0.75)),
        "iwae/model/16": {"Male": (0.75, 0.75), "Bald": (0.7, 0.7)},
        "pca/floor/16": {"Male": (0.6, 0.6), "Bald": (0.6, 0.6)},
        "supervised/ceiling/64": {"Male": (0.9, 0.9), "Bald": (0.9, 0.9)},
    }
    found = group(rows)
    asked = shared(found, list(questions_of(found, Cards(catalog), found.metrics)))
    assert [q.attribute for q in asked] == ["Male"]


def test_tables_and_json_tell_it(group, catalog):
    group(bracket((0.75, 0.75)))
    stored = Store(group.path).read().stored
    text = report(stored, catalog)
    assert any(line.startswith("vae ") and " 50 ±0" in line for line in text.splitlines())
    line = next(line for line in text.splitlines() if line.startswith("Male"))
    assert line.split()[-2:] == ["50", "±0"]
    lines = [one for one in json.loads(report(stored, catalog, "json")) if one["metric"] == "capture"]
    assert {(one["attribute"], round(one["value"], 6)) for one in lines} == {("all of 1", 0.5), ("Male", 0.5)}
