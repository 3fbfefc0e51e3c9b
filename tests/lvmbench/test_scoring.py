import gc
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import lvmbench
from lvmbench.errors import ExitCode

D = 2.0  # a ~ Bernoulli(1/2), z|a ~ N(±d/2, 1): reference values in closed form
N = 6000


@pytest.fixture(scope="module")
def pair():
    """Codes of which one dimension tells one attribute and another nothing, and labels with a hole in ten."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2, (2, N))
    z = np.stack([rng.normal(size=N) + D * (a - 0.5), rng.normal(size=N)], axis=1)
    return z, pd.DataFrame({"a": np.where(rng.random(N) < 0.1, math.nan, a), "b": b})


@pytest.fixture(scope="module")
def scored(pair):
    return lvmbench.score(*pair, metrics="auroc,ami(k=2),r2", seeds=2)


def value(results, label, metric, attribute, seed=0):
    frame = results.frame
    found = frame.query("model == @label and metric == @metric and attribute == @attribute and seed == @seed")
    return found.iloc[0]


def test_the_auroc_of_a_pair_of_gaussians_is_that_of_the_closed_form(scored):
    found = value(scored, "codes", "auroc", "a")
    assert found.value == pytest.approx(norm.cdf(D / math.sqrt(2)), abs=0.02)  # 0.921350, of 1,080 test rows
    assert found.low < norm.cdf(D / math.sqrt(2)) < found.high
    assert found.n == pytest.approx(0.9 * 0.2 * N, abs=40)
    assert value(scored, "codes", "auroc", "b").value == pytest.approx(0.5, abs=0.04)


def test_on_permuted_labels_the_same_codes_are_at_chance(scored):
    for seed in (0, 1):
        assert value(scored, "codes, labels permuted", "auroc", "a", seed).value == pytest.approx(
            0.5, abs=0.05
        )
        assert abs(value(scored, "codes, labels permuted", "ami(k=2)", "a", seed).value) < 0.01


def test_the_majority_class_is_a_row_of_its_own(scored):
    assert value(scored, "majority", "auroc", "a").value == 0.5
    assert set(scored.frame.role) == {"model", "control"}


def test_seeds_change_the_splits_that_are_drawn(scored):
    assert value(scored, "codes", "auroc", "a", 0).value != value(scored, "codes", "auroc", "a", 1).value


def test_a_second_call_gives_the_same_numbers(pair, scored):
    again = lvmbench.score(*pair, metrics="auroc,ami(k=2),r2", seeds=2)
    pd.testing.assert_frame_equal(again.frame, scored.frame)


def test_splits_that_are_given_are_the_same_for_every_seed(pair):
    z, labels = pair
    labels = labels.assign(part=np.array(["train", "val", "test"])[np.arange(N) % 3])
    found = lvmbench.score(z, labels, splits="part", metrics="auroc", seeds=2)
    assert value(found, "codes", "auroc", "a", 0).value == value(found, "codes", "auroc", "a", 1).value
    assert value(found, "codes", "auroc", "a").n == labels.query("part == 'test'")["a"].notna().sum()


def test_identities_in_train_and_test_add_the_row_that_tells_what_memory_is_worth():
    # a code that names the identity, and nothing else, has random labels of identities by heart
    who = np.arange(900) % 30
    z = np.eye(30)[who]
    part = np.array(["train", "val", "test"])[np.arange(900) // 300]
    labels = {"a": who % 2, "part": part, "who": who}
    found = lvmbench.score(z, labels, splits="part", groups="who", metrics="auroc", seeds=1)
    assert value(found, "codes, labels by identity", "auroc", "a").value == 1
    assert value(found, "codes, labels permuted", "auroc", "a").value < 0.7
    drawn = lvmbench.score(z, {"a": who % 2, "who": who}, groups="who", metrics="auroc", seeds=1)
    assert "codes, labels by identity" not in set(drawn.frame.model)  # no test identity was seen


def test_by_default_every_metric_is_taken_that_reads_codes_or_labels_alone(pair):
    z, labels = pair[0][:300], pair[1][:300]
    found = lvmbench.score(z, labels, seeds=1)
    assert {r.status for r in found.records} == {"done"}
    taken = set(found.frame.metric)
    assert {"auroc", "balanced-accuracy", "ami", "active-units"} <= taken
    assert not {"elbo", "mse", "bits-per-dim"} & taken
    assert not (found.frame.status == "failed").any()


def test_a_metric_that_codes_cannot_answer_says_why_where_it_was_asked_for(pair):
    found = lvmbench.score(pair[0][:300], pair[1][:300], metrics="elbo", seeds=1)
    assert (found.frame.query("model == 'codes'").status == "n/a").all()
    assert "log_weights" in found.frame.reason.iloc[0]


def test_columns_that_were_left_out_are_told():
    labels = {"a": [0, 1] * 50, "file": [f"{i}.jpg" for i in range(100)]}
    found = lvmbench.score(np.zeros((100, 1)), labels, metrics="auroc", seeds=1)
    assert found.problems == ("column 'file': another word in every row",)


def test_what_was_kept_is_not_computed_again_and_other_codes_stand_beside_it(pair, tmp_path):
    asked = {"metrics": "auroc", "seeds": 1, "results": tmp_path}
    first = lvmbench.score(*pair, name="first", **asked)
    assert first.computed == 3
    assert lvmbench.score(*pair, name="first", **asked).computed == 0
    other = lvmbench.score(pair[0] @ np.diag([0.1, 1]), pair[1], name="other", **asked)
    assert other.computed == 2  # the majority is the same
    both = lvmbench.Results(tuple(lvmbench.records.Store(tmp_path).read().stored))
    text = lvmbench.table(both)
    assert len(re.findall(r"^labels: 6,000 rows", text, re.M)) == 1
    assert re.search(r"^first ", text, re.M)
    assert re.search(r"^other ", text, re.M)


def test_records_that_are_not_kept_live_as_long_as_the_results(pair):
    found = lvmbench.score(pair[0][:200], pair[1][:200], metrics="auroc", seeds=1)
    folder = Path(found.stored[0].path).parents[2]
    assert found.stored[0].replicates.exists()
    del found
    gc.collect()
    assert not folder.exists()


def test_the_table_says_what_was_scored_and_fits_100_columns(scored):
    text = lvmbench.table(scored)
    head = text.splitlines()
    assert head[0] == "labels: 6,000 rows of codes and labels"
    assert head[1] == "60 / 20 / 20 % train, val, test, drawn anew by each seed; seeds 0, 1"
    assert re.search(r"^codes +2 +0\.\d+ ±", text, re.M)
    assert re.search(r"^a +auroc ↑ +0\.9\d+ ±\S+ +0\.\d+ ±", text, re.M)  # the codes, and chance
    for word in ("images seen", "K =", "parameters", "fit s", "ceiling"):
        assert word not in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.fixture
def typed(lvmbench_command, pair, tmp_path):
    np.save(tmp_path / "codes.npy", pair[0][:300])
    labels = pair[1][:300].assign(part=np.arange(300) % 3, age=np.arange(300) % 7)
    labels.to_csv(tmp_path / "labels.csv", index=False)

    def typed(*words, codes="codes.npy", labels="labels.csv"):
        return lvmbench_command("score", tmp_path / codes, tmp_path / labels, *words)

    typed.path = tmp_path
    return typed


@pytest.fixture
def lvmbench_command(capfd):
    from lvmbench import cli

    def command(*words):
        capfd.readouterr()
        code = 0
        try:
            cli.main([str(w) for w in words])
        except SystemExit as leave:
            code = leave.code or 0
        return code, *capfd.readouterr()

    return command


def test_the_command_prints_the_tables_and_keeps_what_is_to_be_kept(typed, lvmbench_command):
    kept = typed.path / "kept"
    words = (
        "--splits",
        "part",
        "--kind",
        "age=number",
        "--metrics",
        "auroc,r2",
        "--seeds",
        1,
        "--results",
        kept,
    )
    code, out, err = typed(*words)
    assert code == ExitCode.OK
    assert out.startswith(
        "labels: 300 rows of codes and labels\n100 / 100 / 100 train, val, test, as given; seeds 0"
    )
    assert re.search(r"^age +r2 ↑", out, re.M)
    assert "3 of 3 cells computed; results in" in err.splitlines()[-1]
    assert lvmbench_command("table", "--results", kept, "--show", "all")[1] == out


def test_the_command_keeps_nothing_unless_told(typed):
    code, out, err = typed(
        "--metrics", "auroc", "--seeds", 1, "--format", "csv", "--kind", "age=0,1,2,3,4,5,6"
    )
    assert code == ExitCode.OK
    assert out.startswith("dataset,")
    assert "nothing kept" in err
    assert sorted(p.name for p in typed.path.iterdir()) == ["codes.npy", "labels.csv"]


@pytest.mark.parametrize(
    ("words", "files", "told"),
    [
        (["--splits", "prt"], {}, "Did you mean 'part'"),
        (["--kind", "age"], {}, "'age' is not COLUMN=KIND"),
        (["--kind", "age=numbr"], {}, "Did you mean 'number'"),
        (["--metrics", "aurok"], {}, "Did you mean 'auroc'"),
        ([], {"codes": "none.npy"}, "none.npy: No such file"),
        ([], {"labels": "codes.npy"}, "no file of a known kind"),
        ([], {"labels": "short.csv"}, "300 rows of codes in .*codes.npy, 2 rows of labels in .*short.csv"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_with_the_exit_code_of_its_kind(typed, words, files, told):
    (typed.path / "short.csv").write_text("a,b\n0,1\n1,0\n")
    code, out, err = typed(*words, **files)
    assert code == ExitCode.USAGE
    assert re.search(told, err)
    assert "Traceback" not in err
    assert not out
