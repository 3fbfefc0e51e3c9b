"""Cells that a GPU trains at the same time: which they are, who trains them, and what becomes of each."""

from dataclasses import replace

import pytest
import torch

from lvmbench import making, runner
from lvmbench.api import Budget
from lvmbench.catalog import Catalog
from lvmbench.companions import in_cohorts
from lvmbench.environment import Phases
from lvmbench.executors import Inline, Queue
from lvmbench.fits import Workshop
from lvmbench.plan import plan
from lvmbench.records import Store
from lvmbench.runner import tasks_of
from lvmbench.spec import Spec

TINY = Budget("tiny", images=128, batch=32, train=128, val=32, test=64, draws=4, density_rows=16)
MLP = "net=mlp,latent_dim=2"


@pytest.fixture
def catalog(strangers):
    return Catalog.discover()


@pytest.fixture
def shop(catalog, tmp_path):
    return Workshop(catalog, Store(tmp_path / "runs"), "cpu", Phases())


def planned(models, catalog, **changes):
    asked = {"dataset": "stripes", "metrics": "active-units", "budget": TINY, "controls": False, "seeds": 2}
    return plan(Spec(models, **{**asked, **changes}), catalog)


def told(models, catalog, shop, device="cuda", **changes):
    """Return the label and seed of each task, with those of the cells that it trains along."""
    tasks = tasks_of(planned(models, catalog), shop.store, device, **changes)
    found = in_cohorts(tasks, shop.store, catalog)
    assert [task.cell for task in found] == [task.cell for task in tasks]
    return {
        (task.cell.label, task.cell.seed): [(mate.label, mate.seed) for mate in task.mates]
        for task in found
        if not task.leader
    }


def test_cells_that_differ_in_their_seed_or_in_a_fraction_are_trained_together(catalog, shop):
    betas = f"beta-vae({MLP},beta=2.0,3.0)"
    first, other = (f"beta-vae(beta={b},latent_dim=2,net=mlp)" for b in (2, 3))
    assert told(betas, catalog, shop) == {(first, 0): [(first, 1), (other, 0), (other, 1)]}


@pytest.mark.parametrize(
    "models", [f"vae({MLP}),discrete(net=mlp)", "vae(net=mlp,latent_dim=2,3)", f"lvmbench:iwae({MLP},k=2,3)"]
)
def test_other_models_and_other_sizes_are_other_cohorts(models, catalog, shop):
    assert [len(mates) for mates in told(models, catalog, shop).values()] == [1, 1]


def test_on_a_processor_in_a_fit_of_its_own_or_anew_each_trains_alone(catalog, shop):
    for models, device, changes in (
        (f"vae({MLP})", "cpu", {}),
        ("means", "cuda", {}),
        (f"vae({MLP})", "cuda", {"rerun": "all"}),
    ):
        assert set(map(len, told(models, catalog, shop, device, **changes).values())) == {0}


def test_a_fit_that_is_stored_needs_no_company(catalog, shop):
    first, *_ = planned(f"vae({MLP})", catalog).cells
    making.fitted(first, shop)
    on_gpu = replace(planned(f"vae({MLP})", catalog), cells=(first,))
    tasks = tasks_of(on_gpu, shop.store, "cuda")
    (task,) = in_cohorts(tasks, shop.store, catalog)
    assert (task.mates, task.leader) == ((), "")


def test_mates_wait_until_their_leader_has_trained_them(catalog, shop):
    tasks = tasks_of(planned(f"vae({MLP})", catalog, seeds=3), shop.store, "cuda")
    queue = Queue(in_cohorts(tasks, shop.store, catalog))
    leader = queue.take()
    assert len(leader.mates) == 2
    assert queue.take() is None
    queue.end(leader)
    assert [queue.take().cell.seed, queue.take().cell.seed] == [1, 2]


def test_a_leader_stores_the_fits_of_its_mates_which_are_those_that_each_makes_alone(
    catalog, shop, monkeypatch
):
    leader, mate = planned(f"vae({MLP})", catalog).cells
    making.fitted(leader, shop, mates=(mate,))
    elsewhere = replace(shop, store=Store(shop.store.path.parent / "other"))
    alone = making.fitted(mate, elsewhere)
    monkeypatch.setattr(making, "fit_together", lambda *a, **k: pytest.fail("it trained again"))
    found = making.fitted(mate, shop)
    assert [tuple(point) for point in found.history.curve] == list(alone.history.curve)
    assert shop.phases.seconds["fit"] > 0
    for name, tensor in alone.model.state_dict().items():
        assert torch.equal(tensor, found.model.state_dict()[name])
    assert all(torch.equal(codes, found.codes[name]) for name, codes in alone.codes.items())


def test_a_mate_that_another_process_holds_or_that_is_stored_is_left_alone(catalog, shop, monkeypatch):
    leader, mate = planned(f"vae({MLP})", catalog).cells
    trained = []
    together = making.fit_together
    monkeypatch.setattr(
        making,
        "fit_together",
        lambda models, *a, **k: trained.append(len(models)) or together(models, *a, **k),
    )
    with shop.store.claim(mate.fit_key):
        making.fitted(leader, shop, mates=(mate,))
    making.fitted(mate, shop)
    other = replace(leader, seed=5)
    making.fitted(other, shop, mates=(mate,))
    assert trained == [1, 1, 1]


def test_of_a_cohort_only_what_failed_leaves_no_fit(catalog, shop, monkeypatch):
    leader, mate = planned(f"vae({MLP})", catalog).cells
    together = making.fit_together

    def breaking(which):
        def train(models, *args, **given):
            found = together(models, *args, **given)
            return [RuntimeError("broke") if i == which else one for i, one in enumerate(found)]

        return train

    monkeypatch.setattr(making, "fit_together", breaking(1))
    making.fitted(leader, shop, mates=(mate,))
    assert shop.store.fit(leader.fit_key)
    assert not shop.store.fit(mate.fit_key)
    monkeypatch.setattr(making, "fit_together", breaking(0))
    other = replace(leader, seed=7)
    with pytest.raises(RuntimeError, match="broke"):
        making.fitted(other, shop, mates=(mate,))
    assert shop.store.fit(mate.fit_key)
    assert not shop.store.fit(other.fit_key)


def test_a_mate_that_cannot_be_encoded_takes_its_leader_not_along(catalog, shop, monkeypatch):
    leader, mate = planned(f"vae({MLP})", catalog).cells
    keep = making._kept

    def kept(cell, *args):
        if cell == mate:
            raise ValueError("codes")
        return keep(cell, *args)

    monkeypatch.setattr(making, "_kept", kept)
    making.fitted(leader, shop, mates=(mate,))
    assert shop.store.fit(leader.fit_key)
    assert not shop.store.fit(mate.fit_key)


def test_each_cell_of_a_cohort_is_told_its_share_of_the_seconds(catalog, shop, monkeypatch):
    told = []
    monkeypatch.setattr(making, "_kept", lambda cell, *args: told.append(args[-1].phases.seconds["fit"]))
    earlier = making.Checkpoints.last
    monkeypatch.setattr(
        making.Checkpoints, "last", lambda self: setattr(self, "earlier", 100.0) or earlier(self)
    )
    leader, mate = planned(f"vae({MLP})", catalog).cells
    making._made([leader, mate], making.read_data(leader, shop), shop)
    assert told[0] == told[1]
    assert 50 <= told[0] < 100


def test_only_our_own_executors_are_told_of_mates(catalog, shop, monkeypatch, tmp_path):
    heard = []

    class Elsewhere:
        def __init__(self, jobs, timeout):
            pass

        def run(self, tasks, on_progress):
            heard.extend(tasks)
            return iter(())

    monkeypatch.setattr(runner, "kind_of", lambda device: "cuda")
    for executor in (Elsewhere(1, None), type("Ours", (Elsewhere, Inline), {})(1, None)):
        monkeypatch.setattr(runner, "_executor", lambda *a, executor=executor: executor)
        asked = Spec(f"vae({MLP})", "stripes", "active-units", 2, TINY, controls=False)
        runner.answer(asked, catalog, runner.Settings(tmp_path / "none", jobs=0))
    assert [len(task.mates) for task in heard] == [0, 0, 1, 0]


def test_another_task_of_a_mates_fit_waits_for_the_leader_as_well(catalog, shop):
    first, second = tasks_of(planned(f"vae({MLP})", catalog), shop.store, "cuda")
    again = replace(second, cell=replace(second.cell, labels="permuted"))
    assert again.cell.fit_key == second.cell.fit_key
    found = in_cohorts([first, second, again], shop.store, catalog)
    assert [task.leader for task in found] == ["", first.cell.fit_key, first.cell.fit_key]
    assert [len(task.mates) for task in found] == [1, 0, 0]
