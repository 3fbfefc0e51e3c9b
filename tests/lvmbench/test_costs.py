"""What grows with the number of cells, counted in calls: twice the cells cost twice as many, no more."""

import subprocess
import sys
from collections import Counter

import pytest
import torch

from lvmbench import Budget, Evaluation, Schema, Split, cells, evaluation, plan, runner
from lvmbench.aggregate import groups
from lvmbench.api import Record, Score
from lvmbench.cards import Cards
from lvmbench.catalog import Catalog
from lvmbench.options import option_model
from lvmbench.records import Store, Stored
from lvmbench.spec import Spec
from lvmbench.tables import model_table
from tests_support import assert_linear, calls

TINY = Budget("tiny", images=64, batch=32, train=64, val=32, test=32, draws=4, density_rows=16)


def means(seeds):
    return Spec("means", "stripes", "auroc", seeds, TINY, controls=False)


def test_a_plan_its_tasks_and_what_answers_it(strangers, tmp_path):
    catalog, store = Catalog.discover(), Store.open(tmp_path)

    def cost(seeds):
        def work():
            planned = plan.plan(means(seeds), catalog)
            assert len(runner.tasks_of(planned, store, "cpu")) == seeds
            runner.gather(planned, store)

        return calls(work)

    assert_linear(cost)


def test_a_cell_is_digested_once_by_the_process_that_plans_it(strangers, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        plan, "digest", lambda value, digest=plan.digest: asked.append(value) or digest(value)
    )
    planned = plan.plan(means(5), Catalog.discover())
    runner.tasks_of(planned, Store.open(tmp_path), "cpu")
    runner.gather(planned, Store.open(tmp_path))
    assert sum("model_source" in value and "seed" in value for value in asked) == 5


def record(label, seed, metrics, attributes):
    about = {"label": label, "seed": seed, "role": "model", "dataset_label": "d", "fingerprint": "f"}
    cell = {**about, "model_source": "s", "device": "cpu", "budget": vars(TINY)}
    scores = [
        Score(f"m{m}", 1, "done", "k", attribute=f"a{a}", value=float(seed))
        for m in range(metrics)
        for a in range(attributes)
    ]
    return Record(f"{label}{seed}".encode().hex(), cell, "done", scores=tuple(scores))


@pytest.mark.parametrize("what", ["rows", "seeds", "metrics", "attributes"])
def test_a_table(what, tmp_path):
    def cost(n):
        size = {"rows": 2, "seeds": 2, "metrics": 1, "attributes": 1, what: n}
        found = [
            record(f"r{r}", seed, size["metrics"], size["attributes"])
            for r in range(size["rows"])
            for seed in range(size["seeds"])
        ]
        stored = [Stored(one, tmp_path / f"{i:06}.json") for i, one in enumerate(found)]
        (group,) = groups(stored)
        return calls(lambda: model_table(group, Cards(Catalog([])), "simple", "all"))

    assert_linear(cost)


def test_the_failures_of_a_run(tmp_path):
    def cost(n):
        found = []
        for seed in range(n):
            one = record("r", seed, 1, 1)
            found.append(Record(one.fit_key, one.cell, "failed", "it broke"))
        results = runner.Results(tuple(Stored(one, tmp_path / "x.json") for one in found))
        return calls(lambda: results.failed)

    assert_linear(cost)


def test_a_finished_cell_is_read_from_its_own_record_alone(strangers, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Store, "read", lambda store, key=None, read=Store.read: asked.append(key) or read(store, key)
    )
    asked = []
    settings = runner.Settings(tmp_path, jobs=0)
    assert len(runner.answer(means(3), Catalog.discover(), settings).records) == 3
    assert sorted(Counter(asked).values()) == [2, 2, 2]  # what there is, and what answers the spec


def test_the_bootstrap_of_test_rows_is_drawn_once_for_all_cells_that_share_them(monkeypatch):
    drawn = []
    draw = evaluation.bootstrap_weights
    monkeypatch.setattr(evaluation, "bootstrap_weights", lambda keys: drawn.append(list(keys)) or draw(keys))
    evaluation._weights.cache_clear()

    def weights(first):
        images = torch.zeros(8, 1, 4, 4, dtype=torch.uint8)
        split = Split(images, torch.zeros(8, 1), torch.arange(8) + first)
        return Evaluation(None, Schema((1, 4, 4), "gaussian"), {"test": split}, TINY).weights()

    assert torch.equal(weights(0), weights(0))
    assert drawn == [list(range(8))]
    assert not torch.equal(weights(100), weights(0))


def test_a_signature_and_the_form_of_a_task_are_read_once():
    class Model:
        def __init__(self, schema, *, size: int = 3):
            pass

    assert option_model(Model) is option_model(Model)
    assert cells._adapter() is cells._adapter()


def test_noise_loads_no_compiler():
    told = "import sys; from lvmbench.randomness import noise\nwith noise(3): import torch; torch.rand(2)\n"
    script = f"{told}assert 'torch._dynamo' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_noise_is_that_of_its_seed_and_disturbs_nothing():
    from lvmbench.randomness import noise

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with noise(5):
        assert torch.equal(torch.rand(3), expected)
    with pytest.raises(KeyError), noise(5):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
