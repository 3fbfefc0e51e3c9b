"""Both sides of a comparison train the same nets, see the same images, and score the same pictures."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import where_time_goes
from peers import engine, hand, likelihood, limits, metric_set
from peers.leg import Side
from peers.window import Window
from peers.workloads import WORKLOADS, Workload, pictures, split_of

from lvmbench.adam import Adam
from lvmbench.catalog import Catalog
from lvmbench.data import Attribute, Schema
from lvmbench.descent import often
from lvmbench.training import fit

needs_pythae = pytest.mark.skipif(
    find_spec("pythae") is None, reason="pythae is not installed: pip install 'lvmbench[peers]'"
)
TINY = Workload("tiny", "tiny", "burda", batch=8, latent_dim=3)


def parameters(net):
    return sorted(p.numel() for p in net.parameters() if p.requires_grad)


@needs_pythae
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_both_sides_train_nets_of_equally_many_parameters(workload):
    from peers import pythae_side

    ours, theirs = engine.made(workload, 0), pythae_side.made(workload, 0)
    for net in ("encoder", "decoder"):
        counts = [sum(parameters(getattr(side, net))) for side in (ours, theirs)]
        assert counts[0] == counts[1]


@needs_pythae
@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_the_layers_of_both_decoders_are_of_the_same_sizes(workload):
    from peers import pythae_side

    ours, theirs = engine.made(workload, 0), pythae_side.made(workload, 0)
    assert parameters(ours.decoder) == parameters(theirs.decoder)


@needs_pythae
def test_both_decoders_say_the_same_with_the_same_weights():
    from peers import pythae_side

    for workload in WORKLOADS.values():
        ours, theirs = engine.made(workload, 0).eval().decoder, pythae_side.made(workload, 0).eval().decoder
        with torch.no_grad():
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                b.copy_(a)
            z = torch.randn(2, workload.latent_dim)
            torch.testing.assert_close(theirs(z).reconstruction, ours(z).sigmoid(), atol=1e-5, rtol=1e-4)


@needs_pythae
def test_pythaes_trainer_sees_the_images_that_it_was_asked_to_but_for_those_of_its_first_step():
    from peers import pythae_side

    timing = pythae_side.run(TINY, 40, [0, 1], "cpu")
    assert timing.images == 2 * 32
    assert timing.seconds > 0


def test_the_engine_and_the_hand_written_loop_see_the_same_images():
    ours, loop = engine.run(TINY, 40, [0, 1], "cpu"), hand.run(TINY, 40, [0, 1], "cpu")
    assert ours.images == loop.images == 2 * 32
    assert 0 < loop.looking < loop.seconds + 1


def test_the_hand_written_loop_learns_what_the_engine_learns():
    images = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 7:21] = 255
    data, budget = split_of(images, 64), engine.budget_of(TINY, 64 * 8)
    by_hand, by_engine = engine.made(TINY, 0), engine.made(TINY, 0)
    hand.train(by_hand, data, data, budget, TINY.schema, Window())
    history = fit(by_engine, data, data, budget, TINY.schema, seed=0)
    reached = hand.look(by_hand, data, 8, TINY.schema)
    before = hand.look(engine.made(TINY, 0), data, 8, TINY.schema)
    assert reached == pytest.approx(history.curve[-1][1], abs=0.05 * before)


def test_seeds_are_dealt_to_the_processes_of_a_side():
    with Side("hand", "iwae-k1-20", "cpu", processes=2) as side:
        assert [t.images for t in side.run(80, [0, 1, 2])] == [2 * 60, 60]
        assert [t.images for t in side.run(80, [5])] == [60]


def test_a_side_that_fails_tells_why():
    with Side("hand", "no such workload", "cpu") as side, pytest.raises(SystemExit, match="KeyError"):
        side.run(80, [0])


def test_looks_of_a_short_run_cost_the_share_that_they_cost_in_a_long_one():
    long = engine.budget_of(TINY, 1 << 20)
    for budget in (long, engine.budget_of(TINY, 4096), engine.budget_of(TINY, 4 * 8 * 128)):
        seen = min(20 * often(budget.steps), budget.steps) * engine.looks_at(budget)
        assert seen / budget.images == pytest.approx(20 / 128, rel=0.2)


def test_the_arithmetic_of_a_step_is_that_of_its_products():
    found = limits.counted(TINY)
    layers = [(784, 200), (200, 200), (200, 6), (3, 200), (200, 200), (200, 784)]
    forward = sum(2 * 8 * a * b for a, b in layers)
    # backward is twice that, but for the gradient of the pictures, which nobody asks for
    assert found.flops == 3 * forward - 2 * 8 * 784 * 200
    assert found.operators > 2 * len(layers)
    assert found.bytes > 0


def test_what_is_changed_in_place_is_read_and_written_and_memory_that_nobody_wrote_is_neither():
    x, y = torch.zeros(100), torch.zeros(100)
    for work, operators, numbers in (
        (lambda: x.add_(1), 1, 200),
        (lambda: x + y, 1, 300),
        (lambda: torch.add(x, 1, out=y), 1, 300),
        (lambda: torch.empty_like(x), 0, 0),
        (lambda: x.view(10, 10), 0, 0),
    ):
        with limits.Operators() as found:
            work()
        assert (found.count, found.bytes) == (operators, 4 * numbers)


def test_adam_reads_four_numbers_of_each_weight_and_writes_three_and_its_kernel_may_write_the_gradient():
    weight, slope = torch.zeros(1000), torch.ones(1000)
    adam = Adam([weight], (0.9, 0.999))
    with limits.Operators() as found:
        adam.step([slope], 1e-3)
    assert found.count == 2
    assert found.bytes == pytest.approx(4 * 8 * 1000, abs=50)


def test_what_is_set_up_once_is_no_part_of_a_step(monkeypatch):
    class Sets(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.ready = torch.nn.Parameter(torch.zeros(())), False

        def loss(self, x):
            if not self.ready:
                self.ready = [torch.zeros(1000) for _ in range(100)]
            return self.weight * torch.ones(len(x))

    monkeypatch.setattr(limits, "made", lambda *_: Sets())
    assert limits.counted(TINY).bytes < 100 * 4000


def test_a_window_of_the_engine_begins_with_the_first_hundredth_of_a_run():
    timing = engine.run(TINY, 8 * 300, [0, 1], "cpu")
    assert timing.images == 2 * 8 * 297


def test_the_arithmetic_of_a_likelihood_is_that_of_its_decodings():
    # the encoder runs once for a hundred draws that are counted, and once for all 5,000: it is 1 % of the whole
    decoder = 2 * 5000 * (50 * 200 + 200 * 200 + 200 * 784)
    assert likelihood.flops(WORKLOADS["iwae-k1-20"]) == pytest.approx(decoder, rel=0.02)


def test_the_pictures_of_a_workload_fill_whole_batches():
    for workload in WORKLOADS.values():
        assert workload.rows % workload.batch == 0
    assert pictures(TINY).shape == (TINY.rows, 1, 28, 28)


@pytest.fixture
def told_apart():
    """A table of pictures whose code is their two factors, and a third number that never changes much."""
    rng = np.random.default_rng(0)
    factors = torch.from_numpy(rng.integers(0, 4, (512, 2)))
    attributes = tuple(Attribute(name, "categorical", tuple("abcd")) for name in ("one", "two"))
    schema = Schema((1, 1, 2), "gaussian", attributes)
    images = (factors * 64).to(torch.uint8)[:, None, None]

    class Reads(torch.nn.Module):
        def encode(self, x):
            z = (x.flatten(1) * 4).floor()
            return torch.cat([z, 1e-3 * torch.randn(len(z), 1)], dim=1)

    return metric_set.Truth(Reads(), schema, images, factors)


@pytest.mark.parametrize(("score", "least", "most"), [
    ("MIG", 0.9, 1.0), ("DCI", 0.9, 1.0), ("SAP", 0.3, 1.0), ("FactorVAE", 1.0, 1.0), ("modularity", 0.6, 1.0),
])  # fmt: skip
def test_the_other_librarys_ways_give_a_code_that_is_the_factors_what_its_own_tests_expect(
    told_apart, monkeypatch, score, least, most
):
    for name, size in {"TRAIN": 400, "TEST": 200, "GROUPS": 8}.items():
        monkeypatch.setattr(metric_set, name, size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn's, of a solver that stops early
        found = metric_set.THEIRS[score](told_apart, np.random.default_rng(0))
    assert least <= found <= most + 1e-9


def test_rows_that_share_a_factor_share_it(told_apart):
    rows = told_apart.rows_sharing(1, 16, np.random.default_rng(0))
    assert len(told_apart.factors[rows, 1].unique()) == 1
    assert told_apart.sharing("two", 3, 5).shape == (3, 5, 1, 1, 2)
    assert all(len(group[:, 0, 0, 1].unique()) == 1 for group in told_apart.sharing("two", 3, 5))


@pytest.mark.parametrize("name", metric_set.OURS)
def test_our_scores_of_the_same_names_are_taken_of_the_same_pictures(told_apart, monkeypatch, name):
    for part, size in {"TRAIN": 256, "VAL": 128, "TEST": 128}.items():
        monkeypatch.setattr(metric_set, part, size)
    metric_set.ours(told_apart, metric_set.OURS[name], Catalog.discover())


def test_a_score_of_ours_that_is_not_done_is_no_figure(told_apart, monkeypatch):
    for part, size in {"TRAIN": 256, "VAL": 128, "TEST": 128}.items():
        monkeypatch.setattr(metric_set, part, size)
    told_apart.factors.zero_()  # nothing to tell apart
    with pytest.raises(SystemExit, match="sap-auroc: n/a"):
        metric_set.ours(told_apart, ("sap-auroc",), Catalog.discover())


def test_a_replayed_step_is_told_by_its_seconds_its_operations_and_where_they_go(monkeypatch):
    monkeypatch.setattr(where_time_goes, "SECONDS", 0.01)
    told = where_time_goes.looked_at(TINY)
    assert told["seconds"] > 0
    assert told["flops"] == limits.counted(TINY).flops
    assert sum(told["shares"].values()) == pytest.approx(1)
    assert {"convolutions, products", "Adam", where_time_goes.REST} <= told["shares"].keys()
