import csv
import io
import json
import shlex
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from lvmbench.aggregate import Figure, groups
from lvmbench.api import Budget, Metric, Record, Score
from lvmbench.figures import number
from lvmbench.records import Store
from lvmbench.report import report
from lvmbench.spec import BUDGETS
from tests_support import catalog_of

BUDGET = BUDGETS["quick"]


def record(label="vae", seed=0, role="model", status="done", scores=(), budget=BUDGET, **changes):
    cell = {
        "label": label,
        "seed": seed,
        "role": role,
        "dataset_label": "faces",
        "fingerprint": "f",
        "model_source": "s",
        "device": "cpu",
        "budget": vars(budget),
    }
    return Record(
        f"{label}{seed}".encode().hex().ljust(32, "0"), cell, status, scores=tuple(scores), **changes
    )


def score(metric="auroc", attribute="Male", value=0.8, **changes):
    return Score(metric, 1, "done", f"{metric}/{attribute}", attribute=attribute, value=value, **changes)


@pytest.fixture
def catalog():
    compute = len
    return catalog_of(
        metrics={
            "auroc": Metric(compute, "higher", headline=True, chance=0.5),
            "elbo": Metric(compute, "higher", "nats"),
            "mse": Metric(compute, "lower"),
        }
    )


@pytest.fixture
def keep(tmp_path):
    """Store records with replicates around their values, as wide as is asked."""
    store = Store.open(tmp_path)

    def keep(*records, spread=0.01):
        rng = np.random.default_rng(0)
        shared = torch.from_numpy(rng.normal(size=1000))
        for one in records:
            boots = {
                f"{s.metric}/{s.attribute or ''}": s.value + spread * shared for s in one.scores if s.value
            }
            store.write(store.attempt(one.fit_key), one, {k: v.float() for k, v in boots.items()})
        return store.read().stored

    return keep


def test_seeds_become_one_row_with_their_mean(keep, catalog):
    stored = keep(*(record(seed=s, scores=[score(value=0.7 + 0.1 * s)]) for s in range(3)))
    (group,) = groups(stored)
    figure = group.rows[0].figure("auroc", ("Male",))
    assert figure.value == pytest.approx(0.8)
    assert figure.seeds == 3
    assert figure.low < 0.8 < figure.high


def test_a_mean_over_attributes_takes_those_that_every_row_has(keep, catalog):
    full = [score(attribute="Male", value=0.9), score(attribute="Bald", value=0.5)]
    stored = keep(record("vae", scores=full), record("iwae", scores=full[:1]))
    (group,) = groups(stored)
    assert group.common("auroc") == ("Male",)
    assert group.rows[0].figure("auroc", group.common("auroc")).value == pytest.approx(0.9)


def test_the_newest_score_of_a_fit_counts(keep):
    first, second = record(scores=[score(value=0.6)]), record(scores=[score(value=0.7)])
    (group,) = groups(keep(first, second))
    assert group.rows[0].figure("auroc", ("Male",)).value == pytest.approx(0.7)


def test_other_data_budgets_and_devices_are_never_in_one_table(keep):
    small = Budget("other", images=64)
    assert len(groups(keep(record(scores=[score()]), record(scores=[score()], budget=small)))) == 2


def pair(gap, **changes):
    """Two models on three seeds, the second better by the gap."""
    jitter = [0.0, 0.01, -0.01]
    return [
        record(label, seed, scores=[score(value=0.8 + shift + jitter[seed], **changes)])
        for label, shift in (("vae", 0.0), ("iwae", gap))
        for seed in range(3)
    ]


FOUND = {"left out: row without a picture": 20_000, "changed: alpha": 1}
TOLD = [
    "data, left out: row without a picture (20,000)",
    "data, changed: alpha (1)",
    "data: each is named by: lvmbench data check faces --all",
]


@pytest.mark.parametrize("by", ["model", "attribute", "both", "pair", "aggregate"])
def test_what_was_wrong_with_the_files_is_told_once_below_the_tables_of_a_group(keep, catalog, by):
    records = [record(m, s, scores=[score()], findings=FOUND) for m in ("vae", "iwae") for s in (0, 1)]
    text = report(keep(*records), catalog, by=by)
    assert text.splitlines()[-3:] == TOLD
    assert text.count("20,000") == 1


def test_the_newest_record_tells_what_is_wrong_with_the_files(keep, catalog):
    old = record("vae", 0, scores=[score()], findings=FOUND, started="2026-01-01")
    new = record("iwae", 0, scores=[score()], findings={}, started="2026-01-02")
    assert "data," in report(keep(old), catalog)
    assert "data," not in report(keep(new), catalog)  # beside the old one


def test_the_command_that_names_the_findings_has_the_options_that_were_asked_for(keep, catalog):
    class Folder:
        def __init__(self, *, root, crop=148):
            pass

    known = catalog_of(metrics={"auroc": Metric(len, "higher")}, datasets={"images": Folder})
    one = record(scores=[score()], findings=FOUND)
    asked = {"dataset": "dist-a:images", "dataset_options": {"root": "my faces", "crop": 148}}
    text = report(keep(replace(one, cell={**one.cell, **asked})), known)
    assert text.endswith("""lvmbench data check "images(root='my faces')" --all""")


def test_a_long_command_stays_in_one_line(keep, catalog):
    one = record(scores=[score()], findings=FOUND)
    name = f"images(root='{' '.join(['my faces'] * 20)}')"
    text = report(keep(replace(one, cell={**one.cell, "dataset_label": name})), catalog)
    assert shlex.split(text.splitlines()[-1])[-2:] == [name, "--all"]


def test_findings_of_the_files_as_they_are_stand_for_those_of_the_record(keep, catalog):
    clean = record(scores=[score()])
    (stored,) = keep(replace(clean, cell={**clean.cell, "dataset": "d:faces"}))
    known = {("d:faces", "f"): FOUND, ("d:faces", "g"): {"noted: copy": 1}}
    assert report([stored], catalog, findings=known).splitlines()[-3:] == TOLD
    amiss = replace(stored, record=replace(stored.record, findings=FOUND))
    assert "data," in report([amiss], catalog)
    assert "data," not in report([amiss], catalog, findings={("d:faces", "f"): {}})


def test_data_of_one_name_and_other_contents_are_told_apart(keep, catalog):
    one, other = record("vae", scores=[score()]), record("iwae", scores=[score()])
    other = replace(other, cell={**other.cell, "fingerprint": "0123456789abcdef"})
    stored = keep(one, other)
    heads = [line for line in report(stored, catalog).splitlines() if "at most" in line]
    assert [line.partition(":")[0] for line in heads] == ["faces [f]", "faces [01234567]"]
    assert {line["dataset"] for line in json.loads(report(stored, catalog, "json"))} == {
        "faces [f]",
        "faces [01234567]",
    }
    assert report(keep(record(scores=[score()]))[-1:], catalog).startswith("faces: at most")


def test_a_cell_that_was_skipped_before_any_metric_is_told_as_lacking_every_metric(keep, catalog):
    text = report(keep(record("pca", role="floor", status="skipped", reason="16 components")), catalog)
    assert "n/a: pca (floor): every metric: 16 components" in text


def test_the_best_is_marked_where_the_paired_difference_excludes_nothing(keep, catalog):
    text = report(keep(*pair(0.02)), catalog)
    assert "0.820" in next(line for line in text.splitlines() if line.startswith("iwae"))
    assert "*" in next(line for line in text.splitlines() if line.startswith("iwae"))
    assert "*" not in next(line for line in text.splitlines() if line.startswith("vae"))


def test_no_best_is_marked_where_the_difference_may_be_none(keep, catalog):
    records = pair(0.0)
    records[4] = record("iwae", 1, scores=[score(value=0.83)])
    text = report(keep(*records), catalog)
    assert not any("*" in line for line in text.splitlines() if line.startswith(("vae", "iwae")))


def test_a_pair_is_told_by_the_second_minus_the_first_under_paired_seeds(keep, catalog):
    text = report(keep(*pair(0.02)), catalog, by="pair")
    (line,) = [line for line in text.splitlines() if line.startswith("iwae - vae")]
    assert line.split()[3:] == ["0.0200", "±0.0000", "*"]  # the jitter is the same for both
    assert "Holm" in text
    (told,) = json.loads(report(keep(*pair(0.02)), catalog, fmt="json", by="pair"))[:1]
    assert (told["model"], told["minus"], round(told["value"], 6)) == ("iwae", "vae", 0.02)


def test_a_pair_of_one_seed_has_the_interval_of_its_rows_and_says_so(keep, catalog):
    records = [record(label, scores=[score(value=v)]) for label, v in (("vae", 0.8), ("iwae", 0.7))]
    records.append(record("pca", role="floor", scores=[score(value=0.6)]))
    text = report(keep(*records), catalog, by="pair")
    assert next(line for line in text.splitlines() if " - " in line and "±" in line).startswith("iwae - vae")
    assert "-0.1000 ±0.0000" in text  # replicates that move together leave no doubt
    assert "another seed may differ" in " ".join(text.split())
    assert "pca" not in text
    assert "*" not in report(keep(*records), catalog).replace("*:", "")


def test_a_pair_with_a_model_that_lacks_the_number_is_not_available(keep, catalog):
    lacking = Score("elbo", 1, "n/a", "k", reason="no density")
    records = [
        record("vae", scores=[score(), Score("elbo", 1, "done", "e", value=-3.0)]),
        record("wae", scores=[score(), lacking]),
        record("iwae", scores=[score(), Score("elbo", 1, "done", "e", value=-2.0)]),
    ]
    text = report(keep(*records), catalog, by="pair")
    (line,) = [line for line in text.splitlines() if line.startswith("wae - vae")]
    assert line.split()[-1] == "n/a"
    assert "n/a: wae: elbo: no density" in text


def test_a_lone_seed_against_several_has_no_interval(keep, catalog):
    records = [record("vae", s, scores=[score(value=0.8 + 0.01 * s)]) for s in range(3)]
    text = report(keep(*records, record("iwae", scores=[score(value=0.9)])), catalog, by="pair")
    assert next(line for line in text.splitlines() if line.startswith("iwae - vae")).split()[3:] == [
        "0.09",
        "±–",
    ]


def test_pairs_are_marked_by_holms_correction_over_all_of_them(keep, catalog):
    jitter = torch.randn(8, 3, generator=torch.Generator().manual_seed(2)).tolist()
    records = [
        record(f"m{i}", seed, scores=[score(value=0.8 + 0.01 * row[seed])])
        for i, row in enumerate(jitter)
        for seed in range(3)
    ]
    stored = keep(*records, spread=1e-9)
    (group,) = groups(stored)
    apart = [b.difference(a, "auroc", ("Male",)) for a, b in combinations(group.rows, 2)]
    assert any(figure.excludes_zero for figure in apart)  # of 28 pairs of equals, one by chance
    assert "*" not in report(stored, catalog, by="pair").partition("±: half")[0]


def test_one_model_makes_no_pair(keep, catalog):
    assert "no pair" in report(keep(record(scores=[score()])), catalog, by="pair")


def test_lower_is_better_where_the_card_says_so(keep, catalog):
    records = [
        record(label, seed, scores=[Score("mse", 1, "done", "k", value=v)])
        for label, v in (("vae", 0.5), ("iwae", 0.4))
        for seed in range(3)
    ]
    text = report(keep(*records, spread=1e-6), catalog)
    assert "*" in next(line for line in text.splitlines() if line.startswith("iwae"))


def test_controls_never_win(keep, catalog):
    records = [*pair(0.0), *(record("pca", s, "floor", scores=[score(value=0.99)]) for s in range(3))]
    text = report(keep(*records), catalog)
    assert "*" not in next(line for line in text.splitlines() if line.startswith("pca (floor)"))


def test_an_attribute_stands_between_the_better_floor_and_the_ceiling(keep, catalog):
    records = [
        record("vae", scores=[score(value=0.8)], code_dims=16),
        record("pca", role="floor", scores=[score(value=0.7)], code_dims=16),
        record("random-encoder", role="floor", scores=[score(value=0.6)], code_dims=16),
        record("pca(latent_dim=99)", role="floor", scores=[score(value=0.79)], code_dims=99),
        record("supervised", role="ceiling", scores=[score(value=0.95)], code_dims=64),
    ]
    text = report(keep(*records), catalog, by="attribute")
    line = next(line for line in text.splitlines() if line.startswith("Male"))
    assert [float(word) for word in line.split() if word.startswith("0.") and "±" not in word] == [
        0.7,
        0.8,
        0.95,
    ]
    assert "a code without information scores, by the metric's definition: auroc 0.5" in text


def test_a_failed_cell_is_visible_with_its_reason(keep, catalog):
    stored = keep(record("vae", scores=[score()]), record("iwae", status="failed", reason="RuntimeError: no"))
    text = report(stored, catalog)
    assert "failed" in next(line for line in text.splitlines() if line.startswith("iwae"))
    assert "failed: iwae: every metric: RuntimeError: no" in text


def test_what_does_not_apply_is_told_and_never_a_number(keep, catalog):
    missing = Score("elbo", 1, "n/a", "k", reason="the model gives no log_weights")
    there = Score("elbo", 1, "done", "k", value=-5.0)
    text = report(keep(record("vae", scores=[there]), record("pca", scores=[missing])), catalog)
    assert "n/a" in next(line for line in text.splitlines() if line.startswith("pca"))
    assert "n/a: pca: every metric: the model gives no log_weights" in text


def test_a_number_without_an_interval_says_so():
    assert number(Figure(0.12345)) == "0.1235 ±–"


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (0.81234, 0.00612, "0.812 ±0.006"),
        (0.81234, 0.0123, "0.812 ±0.012"),
        (-1234.5, 12.3, "-1,234 ±12"),
        (104.26, 0.31, "104.26 ±0.31"),
        (16.0, 0.0, "16 ±0"),
    ],
)
def test_a_number_has_as_many_digits_as_its_interval_allows(value, half, text):
    assert number(Figure(value, value - half, value + half)) == text


def wide(n):
    return [score(f"a-metric-with-a-long-name-{i}", None, float(i)) for i in range(n)]


def test_tables_fit_into_a_hundred_columns(keep, catalog):
    text = report(keep(*(record(label, scores=wide(20)) for label in ("vae", "beta-vae(beta=16)"))), catalog)
    assert max(map(len, text.splitlines())) <= 100
    assert all(f"a-metric-with-a-long-name-{i}" in text for i in range(20))


def test_every_format_of_tabulate_is_drawn(keep, catalog):
    from tabulate import tabulate_formats

    stored = keep(*pair(0.02))
    for fmt in tabulate_formats:
        assert "0.820" in report(stored, catalog, fmt=fmt), fmt


def test_csv_and_json_hold_every_figure_with_its_interval(keep, catalog):
    stored = keep(*pair(0.02))
    lines = json.loads(report(stored, catalog, fmt="json"))
    assert {line["attribute"] for line in lines} == {"Male", "mean of 1"}
    rows = list(csv.DictReader(io.StringIO(report(stored, catalog, fmt="csv"))))
    assert [float(row["value"]) for row in rows] == [line["value"] for line in lines]
    assert all(row["low"] and row["high"] and row["better"] == "higher" for row in rows)


def test_a_fit_that_has_not_converged_is_marked(keep, catalog):
    stored = keep(
        record("vae", scores=[score()], converged=False), record("iwae", scores=[score()], converged=True)
    )
    lines = {
        line.split()[0]: line.split() for line in report(stored, catalog, by="model").splitlines() if line
    }
    assert "no" in lines["vae"]
    assert "yes" in lines["iwae"]


def test_a_record_whose_replicates_are_lost_still_has_its_value(keep, catalog):
    stored = keep(record(scores=[score()]))
    stored[0].replicates.unlink()
    (group,) = groups(stored)
    figure = group.rows[0].figure("auroc", ("Male",))
    assert (figure.value, figure.low) == (0.8, None)


def test_a_metric_whose_plugin_is_gone_keeps_its_numbers(keep):
    text = report(keep(record(scores=[score("unheard-of", None, 3.0)])), catalog_of())
    assert "unheard-of" in text


def test_a_seed_that_failed_is_told_even_where_others_have_a_value(keep, catalog):
    records = [record(seed=s, scores=[score()]) for s in range(2)]
    text = report(keep(*records, record(seed=2, status="timeout", reason="too slow")), catalog)
    assert "failed: vae: auroc (seed 2): too slow" in text


def test_an_attribute_that_failed_is_told_though_the_mean_does_without_it(keep, catalog):
    broken = Score("auroc", 1, "failed", "k", attribute="Bald", reason="ZeroDivisionError")
    text = report(keep(record(scores=[score(), broken])), catalog)
    assert "failed: vae: auroc (Bald): ZeroDivisionError" in text


def test_one_seed_marks_no_best(keep, catalog):
    records = [record(label, scores=[score(value=v)]) for label, v in (("vae", 0.7), ("iwae", 0.9))]
    text = report(keep(*records), catalog)
    assert not any("*" in line for line in text.splitlines() if line.startswith(("vae", "iwae")))
    assert "over test pictures" in text


def test_of_a_model_whose_source_changed_the_newest_stands_alone(keep, catalog):
    old, new = record(scores=[score(value=0.6)]), record(scores=[score(value=0.7)])
    new.cell["model_source"] = "t"
    (group,) = groups(keep(old, new))
    assert [r.figure("auroc", ("Male",)).value for r in group.rows] == [pytest.approx(0.7)]


def test_what_tells_of_the_labels_alone_is_a_column_of_the_attributes_and_none_of_the_models(keep, catalog):
    both = [score(value=0.8), score("prevalence", value=0.3)]
    stored = keep(record("vae", scores=both), record("iwae", scores=both))
    card = Metric(len, "neither", needs=("labels",))
    known = catalog_of(metrics={"auroc": Metric(len, "higher", headline=True), "prevalence": card})
    model, attribute, pair = (report(stored, known, by=by) for by in ("model", "attribute", "pair"))
    assert "prevalence" not in model + pair
    assert attribute.splitlines()[4].split() == ["attribute", "metric", "vae", "iwae", "prevalence"]
    assert next(line for line in attribute.splitlines() if line.startswith("Male")).split()[-2:] == [
        "0.300",
        "±0.019",
    ]


def test_rows_that_were_judged_by_different_networks_are_told_apart(keep):
    known = catalog_of(metrics={"lift": Metric(len, "higher", needs=("judge",))})
    rows = [record(label, scores=[score("lift", None, 0.3)]) for label in ("vae", "iwae")]
    for row, judge in zip(rows, ("a", "b"), strict=True):
        row.cell["judge"] = judge
    assert "judged by different networks, and not to be compared across: vae; iwae: lift" in report(
        keep(*rows), known
    )


def test_rows_that_one_network_judged_are_told_nothing_about_it(keep):
    known = catalog_of(metrics={"lift": Metric(len, "higher", needs=("judge",))})
    rows = [record(label, scores=[score("lift", None, 0.3)]) for label in ("vae", "iwae")]
    assert "different networks" not in report(keep(*rows), known)


def test_a_reason_that_many_attributes_share_is_one_line(keep, catalog):
    blind = [
        Score("auroc", 1, "n/a", "k", attribute=f"a{i}", reason="the judge cannot tell it") for i in range(9)
    ]
    text = report(keep(record(scores=[score(), *blind])), catalog)
    assert text.count("the judge cannot tell it") == 1
    assert "n/a: vae: auroc (9 attributes): the judge cannot tell it" in text


def test_a_model_trained_in_two_precisions_stands_there_twice_and_an_old_one_of_another_not_at_all(
    keep, catalog
):
    exact, fast, old = (record(scores=[score(value=v)]) for v in (0.6, 0.7, 0.8))
    fast.cell["precision"] = "bfloat16"
    old.cell["model_source"] = "before"
    (group,) = groups(keep(old, exact, fast))
    assert [r.label for r in group.rows] == ["vae, float32", "vae, bfloat16"]
    other = record("pca", scores=[score(value=0.5)])
    assert "\ntrained in bfloat16: vae, bfloat16\n" in report(keep(exact, fast, other), catalog)


def test_of_a_small_batch_it_is_told_which_networks_were_trained_in_less_than_float32(keep, catalog):
    fast = record(scores=[score()])
    fast.cell.update(precision="bfloat16", budget={**fast.cell["budget"], "batch": 20})
    assert "\ntrained in bfloat16 where a network was given 32 rows or more: vae\n" in report(
        keep(fast), catalog
    )
