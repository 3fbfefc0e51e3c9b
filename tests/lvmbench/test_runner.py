import json
from dataclasses import asdict, replace

import pytest
import torch

import lvmbench
from lvmbench import runner
from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.errors import StoreError, UsageError
from lvmbench.evaluation import Evaluation
from lvmbench.plan import plan
from lvmbench.records import Store
from lvmbench.spec import Spec
from lvmbench.vae import VAE

TINY = Budget("tiny", images=128, batch=32, train=128, val=32, test=64, draws=4, density_rows=16)


@pytest.fixture
def bench(strangers, tmp_path):
    """Run a spec in this process, into one folder."""

    def bench(models="means", rerun="missing", **changes):
        asked = {
            "dataset": "stripes",
            "seeds": 1,
            "metrics": "auroc",
            "budget": TINY,
            "controls": False,
            **changes,
        }
        settings = runner.Settings(tmp_path / "runs", jobs=0, rerun=rerun)
        return runner.answer(Spec(models, **asked), Catalog.discover(), settings)

    bench.path = tmp_path / "runs"
    return bench


def scores(results):
    return {(r.cell["label"], s.metric, s.attribute): s for r in results.records for s in r.scores}


def test_a_cell_becomes_a_record_with_its_scores(bench):
    results = bench("vae(net=mlp,latent_dim=2)", metrics="elbo,auroc")
    (record,) = results.records
    assert record.status == "done"
    assert {s.metric for s in record.scores} == {"elbo", "auroc"}
    assert record.origins["model lvmbench:vae"].startswith("lvmbench ")
    assert set(record.seconds) == {"load", "fit", "encode", "measure"}
    assert record.versions["torch"] == torch.__version__.partition("+")[0] or record.versions["torch"]
    assert record.code_dims == 2


def test_a_gpu_rounds_products_in_training_alone(bench, monkeypatch):
    class Switch:
        allow_tf32 = True

    def told(method):
        def spied(*given):
            found.setdefault(method.__name__, set()).add(Switch.allow_tf32)
            return method(*given)

        return spied

    found = {}
    monkeypatch.setattr("lvmbench.bodies._switches", lambda: [Switch])
    for whole, method in ((VAE, VAE.loss), (Evaluation, Evaluation.batches)):
        monkeypatch.setattr(whole, method.__name__, told(method))
    bench("vae(net=mlp,latent_dim=2)", metrics="iw-bound,auroc", precision="bfloat16")
    assert found == {"loss": {True}, "batches": {False}}
    assert Switch.allow_tf32


def test_a_second_run_computes_nothing_and_gives_the_same(bench):
    first, second = bench(), bench()
    assert (first.computed, second.computed) == (1, 0)
    assert first.records == second.records


def test_another_metric_trains_nothing_again(bench, monkeypatch):
    bench("vae(net=mlp)")
    monkeypatch.setattr("lvmbench.making.fit_together", lambda *a, **k: pytest.fail("it trained again"))
    results = bench("vae(net=mlp)", metrics="auroc,rate")
    assert results.computed == 1
    assert {s.metric for r in results.records for s in r.scores} == {"auroc", "rate"}


def test_a_stored_fit_scores_as_a_fresh_one(bench, tmp_path):
    fresh = scores(bench("vae(net=mlp)", metrics="elbo,auroc"))
    bench.path.rename(tmp_path / "elsewhere")
    bench("vae(net=mlp)", metrics="active-units")
    stored = scores(bench("vae(net=mlp)", metrics="elbo,auroc"))
    assert stored["vae(net=mlp)", "elbo", None].value == fresh["vae(net=mlp)", "elbo", None].value
    assert stored["vae(net=mlp)", "auroc", "Upright"].value == fresh["vae(net=mlp)", "auroc", "Upright"].value


def test_a_failing_model_takes_no_other_down_and_keeps_its_log(bench):
    results = bench("raises,means,leaves", seeds=1)
    assert [r.status for r in results.records] == ["failed", "done", "failed"]
    assert results.records[0].reason == "RuntimeError: seed 0 is not to my taste"
    assert results.failed == [results.records[0], results.records[2]]


def test_a_failed_cell_stays_failed_until_it_is_asked_to_run_again(bench):
    bench("raises")
    assert bench("raises").computed == 0
    assert bench("raises", rerun="failed").computed == 1
    assert bench("means").computed == 1
    assert bench("means", rerun="all").computed == 1


def test_a_loss_that_is_no_number_names_the_step(bench):
    (record,) = bench("nan-at-step(step=2)").records
    assert record.status == "failed"
    assert "step 3" in record.reason
    assert record.reason.endswith("rate is nan.")


def test_a_metric_that_raises_fails_alone(bench):
    results = bench(metrics="raises,auroc,no-number")
    found = {s.metric: s for s in results.records[0].scores}
    assert results.records[0].status == "done"
    assert found["auroc"].status == "done"
    assert (found["raises"].status, found["raises"].reason) == ("failed", "ValueError: no such luck")
    assert (found["no-number"].status, found["no-number"].reason) == ("failed", "the metric returned nan")
    assert results.failed


def test_a_metric_that_a_model_cannot_serve_is_not_applicable(bench):
    (score,) = bench(metrics="elbo").records[0].scores
    assert (score.status, score.value) == ("n/a", None)
    assert "log_weights" in score.reason
    assert not bench(metrics="elbo").failed


def test_a_record_cut_in_half_is_told_and_computed_again(bench):
    stored = bench().stored[0]
    stored.path.write_bytes(stored.path.read_bytes()[:100])
    results = bench()
    assert results.computed == 1
    assert len(results.records) == 1
    assert str(stored.path) in results.problems[0]


def test_a_fitted_model_is_given_back(bench):
    (record,) = bench("vae(net=mlp,latent_dim=2)").records
    model = lvmbench.load(record, results=bench.path)
    assert model.encode(torch.zeros(3, 1, 28, 28)).shape == (3, 2)
    folder = Store(bench.path).fit(record.fit_key)
    assert json.loads((folder / "fit.json").read_text())["cell"]["label"] == "vae(latent_dim=2,net=mlp)"


def test_a_record_without_weights_says_where_it_looked(bench):
    (record,) = bench("raises").records
    with pytest.raises(StoreError, match=r"no weights of raises, seed 0 \(status failed\)"):
        lvmbench.load(record, results=bench.path)


def test_what_the_command_line_does_a_notebook_can_do(strangers, tmp_path):
    results = lvmbench.run(
        "means",
        dataset="stripes",
        metrics="auroc",
        seeds=2,
        budget=TINY,
        controls=False,
        results=tmp_path,
        jobs=0,
    )
    assert list(results.frame["seed"]) == [0, 1]
    assert {"dataset", "model", "metric", "attribute", "value", "low", "high", "n"} <= set(
        results.frame.columns
    )


def test_finished_cells_are_told_to_plugins(strangers, tmp_path):
    heard = []

    class Tracker:
        @lvmbench.hookimpl
        def lvmbench_cell_done(self, record):
            heard.append(record.cell["label"])

    catalog = Catalog.discover()
    catalog.manager.register(Tracker())
    spec = Spec("means", "stripes", "auroc", 1, TINY, controls=False)
    runner.answer(spec, catalog, runner.Settings(tmp_path, jobs=0))
    assert heard == ["means"]


def test_a_strangers_model_runs_beside_the_built_in_ones_with_its_metric(bench):
    results = bench("free-bits(net=mlp,nats=2.0),vae(net=mlp)", metrics="code-norm,elbo", controls=True)
    assert {r.status for r in results.records} == {"done"}
    assert {r.cell["role"] for r in results.records} == {"model", "floor", "control", "ceiling"}
    assert scores(results)["free-bits(nats=2,net=mlp)", "code-norm", None].value > 0


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="No device 'gpu'"):
        runner.kind_of("gpu")
    with pytest.raises(UsageError, match="this machine has"):
        runner.kind_of("cuda:99")


def test_weights_and_scores_do_not_depend_on_what_ran_before_in_the_same_process(bench, tmp_path):
    alone = scores(bench("vae(net=mlp)", metrics="elbo"))
    bench.path.rename(tmp_path / "elsewhere")
    among = scores(bench("iwae-not,vae(net=mlp)".replace("iwae-not", "beta-vae(net=mlp)"), metrics="elbo"))
    assert among["vae(net=mlp)", "elbo", None].value == alone["vae(net=mlp)", "elbo", None].value


def test_the_plan_of_a_stored_spec_has_no_tasks_left(bench):
    bench()
    spec = Spec("means", "stripes", "auroc", 1, TINY, controls=False)
    planned = plan(spec, Catalog.discover())
    assert runner.tasks_of(planned, Store(bench.path), "cpu") == []


def test_a_mended_cell_no_longer_fails_the_run(bench, monkeypatch):
    assert bench("raises").failed
    monkeypatch.setattr("lvmbench_misbehaving.Raises.fit", lambda *a: None)
    assert not bench("raises", rerun="failed").failed


def test_another_budget_of_the_same_fit_is_no_part_of_the_answer(bench):
    bench(budget=replace(TINY, test=48))
    results = bench()
    assert [r.cell["budget"]["test"] for r in results.records] == [64]


@pytest.mark.parametrize("file", ["weights.safetensors", "codes.safetensors", "fit.json"])
def test_a_damaged_fit_is_made_again(bench, file):
    (record,) = bench("vae(net=mlp)").records
    path = Store(bench.path).fit(record.fit_key) / file
    path.write_bytes(path.read_bytes()[:20])
    again = bench("vae(net=mlp)", metrics="auroc,rate").records[-1]
    assert again.status == "done"
    assert path.stat().st_size > 20


def test_all_is_trained_again_when_all_is_asked_for(bench):
    (record,) = bench("vae(net=mlp)").records
    weights = Store(bench.path).fit(record.fit_key) / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    bench("vae(net=mlp)", rerun="all")
    assert weights.stat().st_mtime_ns > before


def test_a_tracker_that_fails_stops_nothing(strangers, tmp_path):
    class Tracker:
        @lvmbench.hookimpl
        def lvmbench_cell_done(self, record):
            raise ConnectionError("the tracker is away")

    catalog = Catalog.discover()
    catalog.manager.register(Tracker())
    spec = Spec("means", "stripes", "auroc", 1, TINY, controls=False)
    with pytest.warns(UserWarning, match="the tracker is away"):
        assert runner.answer(spec, catalog, runner.Settings(tmp_path, jobs=0)).records


def test_permuted_labels_are_a_row_through_the_same_path_for_which_nothing_is_trained(bench, monkeypatch):
    results = bench("means", controls=True, metrics="auroc,elbo")
    rows = {r.cell["label"]: r for r in results.records}
    permuted = rows["means, labels permuted"]
    assert permuted.fit_key == rows["means"].fit_key
    assert [s.metric for s in permuted.scores] == ["auroc"]
    assert rows["means"].scores[0].value > 0.95
    assert permuted.scores[0].low < 0.5 < permuted.scores[0].high
    assert bench("means", controls=True, metrics="auroc,elbo").computed == 0
    assert rows["majority"].scores[0].value == 0.5


@pytest.fixture
def two_rows(strangers, tmp_path):
    """A model and the same on permuted labels, which share a fit: plan, store, and a function that writes records."""
    spec = Spec("means", "stripes", "auroc", 1, TINY)
    planned = plan(spec, Catalog.discover())
    store = Store.open(tmp_path)
    cells = {c.labels: c for c in planned.cells if c.label.startswith("means")}
    key = planned.measures[0].key

    def write(labels, status, *scores):
        cell = cells[labels]
        found = tuple(
            lvmbench.Score("auroc", 1, s, key(cell), attribute=a, value=0.5 if s == "done" else None)
            for a, s in scores
        )
        record = lvmbench.Record(cell.fit_key, asdict(cell), status, f"it {status}", found)
        store.write(store.attempt(cell.fit_key), record)

    return replace(planned, cells=tuple(cells.values())), store, write


@pytest.mark.parametrize(("given", "permuted"), [("timeout", "done"), ("done", "timeout")])
def test_a_row_that_failed_is_told_whatever_became_of_the_other_row_of_its_fit(two_rows, given, permuted):
    planned, store, write = two_rows
    status = {"given": given, "permuted": permuted}
    for labels, how in status.items():
        write(labels, how, *([("Upright", "done")] if how == "done" else []))
    results = runner.gather(planned, store)
    assert {r.cell["labels"]: r.status for r in results.records} == status
    assert [r.cell["labels"] for r in results.failed] == [k for k, v in status.items() if v == "timeout"]
    assert not runner.tasks_of(planned, store, "cpu")
    again = runner.tasks_of(planned, store, "cpu", "failed")
    assert [t.cell.labels for t in again] == [k for k, v in status.items() if v == "timeout"]


def test_a_metric_that_failed_as_a_whole_is_mended_by_a_record_that_answers_it(two_rows):
    planned, store, write = two_rows
    write("permuted", "done", ("Upright", "done"))
    write("given", "done", (None, "failed"))
    assert [r.cell["labels"] for r in runner.gather(planned, store).failed] == ["given"]
    write("given", "done", ("Upright", "done"))
    assert runner.gather(planned, store).failed == []
