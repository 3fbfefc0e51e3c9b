import threading
from dataclasses import replace

import pytest
import torch

from lvmbench import fits, making, runner
from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.environment import Phases
from lvmbench.errors import DataError, LvmbenchError, StoreError, TrainingError
from lvmbench.fits import Workshop
from lvmbench.plan import plan
from lvmbench.records import Store
from lvmbench.spec import Spec
from tests_support import Cut, KilledError

TINY = Budget("tiny", images=128, batch=32, train=128, val=32, test=64, draws=4, density_rows=16)
JUDGED = {"metrics": "judge-accuracy", "controls": False}


def spec(models="vae(net=mlp,latent_dim=2),supervised(net=mlp)", **changes):
    asked = {"dataset": "stripes", "seeds": 1, "metrics": "active-units", "budget": TINY, "controls": False}
    return Spec(models, **{**asked, **changes})


@pytest.fixture
def catalog(strangers):
    return Catalog.discover()


@pytest.fixture
def shop(catalog, tmp_path):
    return Workshop(catalog, Store(tmp_path / "runs"), "cpu", Phases())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LVMBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bench(catalog, shop):
    return lambda *models, **changes: runner.answer(
        spec(*models, **changes), catalog, runner.Settings(shop.store.path, jobs=0)
    )


def score(results, label):
    (record,) = (r for r in results.records if r.cell["label"] == label)
    return record.scores[0]


def test_every_cell_is_judged_by_the_first_ceiling_of_its_data(catalog):
    planned = plan(spec("means,supervised(net=mlp),supervised", seeds=2), catalog)
    first = next(c for c in planned.cells if c.label == "supervised(net=mlp)" and c.seed == 0)
    assert {c.judge for c in planned.cells} == {first.fit_key}
    assert {c.judge for c in plan(spec("means"), catalog).cells} == {""}


def test_the_judge_decides_no_weights_but_the_scores_that_need_one(catalog):
    with_judge, without = (plan(spec(m, **JUDGED), catalog) for m in ("means,supervised(net=mlp)", "means"))
    one, other = with_judge.cells[0], without.cells[0]
    assert one.fit_key == other.fit_key
    assert with_judge.measures[0].key(one) != without.measures[0].key(other)
    plain = plan(spec("means"), catalog).measures[0]
    assert plain.key(one) == plain.key(other)


def test_a_score_that_had_no_judge_is_taken_once_there_is_one(bench):
    alone = score(bench("means", **JUDGED), "means")
    assert alone.status == "n/a"
    assert "no ceiling" in alone.reason
    judged = score(bench("means,supervised(net=mlp)", **JUDGED), "means")
    assert judged.status == "done"
    assert judged.value > 0.5


def test_models_are_judged_by_one_network_and_the_ceiling_by_itself(bench):
    results = bench("means,vae(net=mlp,latent_dim=2),supervised(net=mlp)", **JUDGED)
    values = {r.cell["label"]: r.scores[0].value for r in results.records}
    assert len(values) == 3
    assert len(set(values.values())) == 1  # the pictures judged are the same


def test_what_was_found_in_the_files_stands_in_every_record_of_a_worker_that_read_them_once(bench, cache):
    records = bench("means,vae(net=mlp,latent_dim=2)", dataset="stained").records
    found = {"changed: alpha": 3, "left out: row without a picture": 2}
    assert [r.findings for r in records] == [found, found]
    again = bench("means,vae(net=mlp,latent_dim=2)", dataset="stained", metrics="auroc").records
    assert [r.findings for r in again if r.scores] == [found, found]  # read with the stored fits
    assert bench("means").records[0].findings == {}


def test_a_judge_that_nobody_trains_is_trained_and_kept(catalog, shop, monkeypatch):
    cell = plan(spec(), catalog).cells[1]
    model = making.judge(cell, shop)
    assert shop.store.fit(cell.fit_key)
    monkeypatch.setattr(making, "fit_together", lambda *a, **k: pytest.fail("it trained again"))
    again = making.judge(cell, shop)
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_a_judge_that_another_process_trains_is_waited_for(catalog, shop, monkeypatch):
    cell = plan(spec(), catalog).cells[1]
    monkeypatch.setattr(making, "WAIT", 0.01)
    found = []
    with shop.store.claim(cell.fit_key) as mine:
        assert mine
        waiting = threading.Thread(target=lambda: found.append(making.judge(cell, shop)))
        waiting.start()
        waiting.join(0.2)
        assert not found
        making.fitted(cell, shop)
    waiting.join(20)
    assert len(found) == 1


def test_a_damaged_judge_is_made_again(catalog, shop):
    cell = plan(spec(), catalog).cells[1]
    model = making.judge(cell, shop)
    (shop.store.fit(cell.fit_key) / "weights.safetensors").write_bytes(b"x")
    again = making.judge(cell, shop)
    assert all((a == b).all() for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_what_failed_as_a_cell_judges_nobody(catalog, shop, bench):
    bench("raises")
    cell = plan(spec("raises"), catalog).cells[0]
    with pytest.raises(LvmbenchError, match="the judge, raises, was not fitted: RuntimeError"):
        making.judge(cell, shop)


def test_a_stored_fit_is_read_and_a_missing_or_damaged_one_is_told(catalog, shop, bench):
    cell = plan(spec(), catalog).cells[0]
    with pytest.raises(StoreError, match="no weights of vae"):
        fits.stored(cell, shop)
    bench("vae(net=mlp,latent_dim=2)")
    ev = fits.stored(cell, shop).evaluation(cell, "cpu")
    assert ev.codes("test").shape == (64, 2)
    (shop.store.fit(cell.fit_key) / "codes.safetensors").write_bytes(b"x")
    with pytest.raises(StoreError, match="not a whole fit"):
        fits.stored(cell, shop)


def test_data_that_changed_since_is_told(catalog, shop):
    cell = replace(plan(spec(), catalog).cells[0], fingerprint="stripes 0")
    with pytest.raises(DataError, match="changed since"):
        making.fitted(cell, shop)


@pytest.fixture
def cut(shop, catalog, monkeypatch):
    """A function that starts the fit of a cell and kills it after two of its four steps; returns the cell."""

    def start(models="vae(net=mlp,latent_dim=2)"):
        cell = plan(spec(models), catalog).cells[0]
        with monkeypatch.context() as patched:
            patched.setattr(making, "Checkpoints", lambda path, made: Cut(path, 2, made))
            with pytest.raises(KilledError):
                making.fitted(cell, shop)
        assert shop.store.checkpoint(cell.fit_key).exists()
        return cell

    return start


@pytest.fixture
def heard(shop):
    """The steps done that a fit told of, and the shop that hears them."""
    steps = []
    told = replace(shop, progress=lambda phase, done, total: steps.append(done) if phase == "fit" else None)
    return steps, told


def test_a_fit_goes_on_from_its_checkpoint_which_is_gone_once_it_is_stored(cut, heard, shop):
    cell, (steps, listening) = cut(), heard
    found = making.fitted(cell, listening)
    assert steps == [2, 3, 4]
    assert not shop.store.checkpoint(cell.fit_key).exists()
    fresh = making.fitted(cell, replace(shop, store=Store(shop.store.path.parent / "other")))
    assert found.history == fresh.history
    expected = fresh.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())


def test_a_checkpoint_that_outlived_its_fit_is_cleared_away(cut, shop):
    cell = cut()
    path = shop.store.checkpoint(cell.fit_key)
    kept = path.read_bytes()
    making.fitted(cell, shop)
    path.write_bytes(kept)  # the process was killed at its last act
    making.fitted(cell, shop)
    assert not path.exists()


def test_a_checkpoint_is_no_record_and_no_fit_of_the_store(cut, shop):
    cell = cut()
    store = Store.open(shop.store.path)
    assert (store.read().stored, store.read().problems, store.fit(cell.fit_key)) == ((), (), None)
    assert store.checkpoint(cell.fit_key).exists()


def test_the_seconds_of_a_fit_are_those_of_all_its_parts(cut, shop):
    cell = cut()
    keep = making.checkpoints(cell, shop)
    found = keep.last()
    keep.earlier = 5000.0
    keep.write(found)
    making.fitted(cell, shop)
    assert 5000 < shop.phases.seconds["fit"] < 6000
    again = replace(shop, phases=Phases())
    making.fitted(cell, again)  # as it is stored
    assert again.phases.seconds["fit"] == shop.phases.seconds["fit"]


def test_a_fit_that_is_asked_for_anew_is_trained_from_the_start(cut, heard):
    cell, (steps, listening) = cut(), heard
    making.fitted(cell, listening, refit=True)
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("spoilt", ["damaged", "of another model", "of other threads", "of other versions"])
def test_what_cannot_be_gone_on_from_is_told_and_the_fit_trained_from_the_start(
    cut, heard, shop, spoilt, monkeypatch, capsys
):
    cell, (steps, listening) = cut(), heard
    path = shop.store.checkpoint(cell.fit_key)
    if spoilt == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    elif spoilt == "of another model":
        keep = making.checkpoints(cell, shop)
        keep.write(replace(keep.last(), weights={"a": torch.ones(1)}))
    elif spoilt == "of other threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    else:
        monkeypatch.setattr(making, "versions", lambda: {"torch": "0.1"})
    making.fitted(cell, listening)
    assert steps == [1, 2, 3, 4]
    assert capsys.readouterr().out.startswith(f"{path}: ")
    assert 0 < shop.phases.seconds["fit"] < 600


def test_a_fit_that_broke_leaves_no_checkpoint(cut, shop):
    cell = cut("nan-at-step(step=2)")
    with pytest.raises(TrainingError, match="step 3 of 4"):
        making.fitted(cell, shop)
    assert not shop.store.checkpoint(cell.fit_key).exists()


def test_the_data_of_a_worker_are_built_and_named_once_for_all_its_cells(catalog, shop, monkeypatch):
    built, named = [], []
    stripes = type(catalog.get("dataset", "stripes").load()())
    monkeypatch.setattr(stripes, "__init__", lambda self: built.append(1), raising=False)
    monkeypatch.setattr(fits, "content_of", lambda data, of=fits.content_of: named.append(1) or of(data))
    first, second = plan(spec("means", seeds=2, metrics="auroc"), catalog).cells
    built.clear()
    fits._read.cache_clear()
    data = [making.fitted(cell, shop).dataset for cell in (first, second, first)]
    assert data[0] is data[1] is data[2]
    assert (len(built), len(named)) == (1, 1)
    other = replace(first, budget=replace(first.budget, train=64))
    assert len(making.fitted(other, shop).splits["train"]) == 64
