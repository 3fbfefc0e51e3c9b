"""The pure parts of the scripts that compare speeds: rounds, limits, power laws, the file."""

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import against_peers
import by_hand
import numpy as np
import pytest
import scaling
import time_to_quality
import torch
import where_time_goes
from peers import kernels, limits, machine, powers, report, rounds, training
from peers.window import Timing, Window
from peers.workloads import WORKLOADS
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.functional import linear

PEAK = machine.Peak(1, float32=100.0, bfloat16=400.0, copy=10.0, operator=1e-6)


def test_what_is_timed_begins_when_the_first_step_has_ended():
    window = Window()
    assert window.timing(5).images == 0
    for number in (2, 2, 4, 10):
        window.step(number)
        if number == 2:
            begin = window.end
    assert window.begin == begin
    assert window.timing(5).images == 8 * 5
    assert window.timing(5).seconds == window.end[0] - window.begin[0]


def test_timings_add_up():
    both = Timing(10, 1.0, 0.5, 0.1) + Timing(30, 1.0, 0.7, 0.2)
    assert both == Timing(40, 2.0, 1.2, pytest.approx(0.3))
    assert both.rate == 20


def test_a_spread_is_the_median_with_the_least_and_the_most():
    assert rounds.Spread.of([3.0, 1.0, 10.0]) == rounds.Spread(3.0, 1.0, 10.0)


def test_the_order_of_the_sides_is_reversed_in_every_second_round():
    heard = []
    sides = {name: lambda r, name=name: heard.append((r, name)) or [Timing(10, 1.0)] for name in "abc"}
    found = rounds.play(sides, 3, lambda: True)
    assert heard == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a"), (2, "a"), (2, "b"), (2, "c")]
    assert found.idle


def test_rounds_that_did_not_all_begin_on_an_idle_machine_are_not_idle():
    said = iter([True, False, True])
    assert not rounds.play({"a": lambda _: [Timing(1, 1.0)]}, 3, lambda: next(said)).idle


def test_the_rate_of_processes_is_that_until_the_slowest_ends_and_is_compared_within_a_round():
    two = [[Timing(10, 1.0), Timing(30, 2.0)], [Timing(50, 1.0), Timing(0, 0.0)]]
    found = rounds.Rounds({"a": two, "b": [[Timing(5, 1.0)], [Timing(100, 1.0)]]}, idle=True)
    assert found.rates("a") == [20, 50]
    assert found.times_as_fast("a", "b") == rounds.Spread(2.25, 0.5, 4.0)
    assert found.costs("a", lambda t: t.seconds) == [3 / 40, 1 / 50]


def trained(ours, hand_processor=1.0):
    sides = {
        "pythae": [[Timing(100, 1.0, 1.0)]] * 2,
        "ours": [[Timing(ours, 1.0, 1.05)]] * 2,
        "ours together": [[Timing(ours, 1.0), Timing(ours, 1.0)]] * 2,
        "hand": [[Timing(ours, 1.0, hand_processor, 0.1)]] * 2,
    }
    step = limits.Step(128, flops=128 * 10**8, operators=1000, bytes=10**7)
    return training.Trained(WORKLOADS["mlp-128"], rounds.Rounds(sides, True), 2, step, "float32", 8)


def test_all_cores_are_told_beside_what_the_machine_does():
    both = machine.Peak(2, float32=190.0, bfloat16=800.0, copy=12.0, operator=1e-6)
    text = training.together_text([trained(200)], PEAK, both)
    assert text.startswith("All cores train 2.00 to 2.00 times as many images as one;")
    assert text.endswith("float32 runs 1.90 times as fast as on one, a copy 1.20 times.")
    assert training.together_text([trained(200)], PEAK, PEAK) == ""


def test_the_kernels_of_a_step_are_counted_and_those_named_that_take_most():
    ran = [
        SimpleNamespace(key=key, count=count, self_device_time_total=taken)
        for key, count, taken in [("a" * 99, 20, 300.0), ("b", 10, 600.0), ("c", 10, 60.0), ("d", 10, 40.0)]
    ]
    told = ["5.00", "100", f"b 60 %, {'a' * kernels.WIDTH} 30 %, c 6 %"]
    assert kernels.summary(ran, steps=10) == told


def test_the_overhead_is_what_an_image_costs_beyond_the_loop():
    found = trained(200)
    assert found.overhead.median == pytest.approx(5.0)
    assert found.looking == pytest.approx(10.0)


def test_an_aim_that_was_missed_is_told_with_what_the_machine_would_allow():
    every = machine.Peak(2, 200.0, 800.0, 10.0, 1e-6)
    said = training.shortfalls([trained(150)], PEAK, every)
    # 1.5 of 1.8 at 1 seed; 100 GF/s / 0.1 GF an image = 1,000 images/s, ten times pythae's
    assert "1 seed: 1.50 of 1.80. At the peak of float32 it would be 10.0." in said
    assert "8 seeds: 3.00 of 4.00. At the peak of float32 it would be 20.0." in said
    assert training.shortfalls([trained(1000)], PEAK, every) == ""


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_the_limits_of_a_step_are_shares_of_its_time(seconds):
    step = limits.Step(64, flops=10**10, operators=10**4, bytes=5 * 10**8)
    bounds = step.bounds(PEAK, "float32")
    assert bounds == {"arithmetic": 0.1, "bytes": 0.05, "dispatch": 0.01}
    assert step.bounds(PEAK, "bfloat16")["arithmetic"] == 0.025
    told = limits.told(bounds, seconds)
    assert told == f"arithmetic {10 / seconds:.0f} %, bytes {5 / seconds:.0f} %, dispatch {1 / seconds:.0f} %"


STAT = "cpu  {} 20 30 {} 50 60 70 {} 5 5\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


def test_busy_processors_are_told_by_what_they_did_between_two_looks():
    before, after = STAT.format(100, 1000, 80), STAT.format(150, 1140, 90)
    # 50 ticks of work and 10 that were stolen, of 200 in all
    assert machine.busy_cores(before, after, 4) == pytest.approx(4 * 60 / 200)
    assert machine.busy_cores(before, before, 4) == 0


def test_a_machine_that_never_rests_is_waited_for_until_the_limit(monkeypatch):
    looks = []
    monkeypatch.setattr(machine, "is_idle", lambda: looks.append(1) or False)
    assert not machine.wait_until_idle(0.05)
    assert looks
    monkeypatch.setattr(machine, "is_idle", lambda: True)
    assert machine.wait_until_idle(0.0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.5])
def test_the_exponent_of_a_power_law_is_found(exponent):
    x = [1, 2, 4, 8]
    found = powers.fitted(x, [3 * v**exponent for v in x])
    assert found.exponent == pytest.approx(exponent)
    assert found.off == pytest.approx(1.0)


def test_the_power_law_is_that_of_least_squares_and_tells_its_farthest_point():
    x, y = [1, 3, 10, 30], [2, 7, 15, 100]
    found = powers.fitted(x, y)
    slope, intercept = np.polyfit(np.log(x), np.log(y), 1)
    assert found.exponent == pytest.approx(slope)
    assert math.log(found.off) == pytest.approx(np.abs(np.log(y) - slope * np.log(x) - intercept).max())


def test_one_point_has_no_exponent():
    with pytest.raises(ValueError, match="1 points have no exponent"):
        powers.fitted([1], [1])


def test_a_table_is_text_whose_columns_stand_in_line():
    assert report.table(["a", "n"], [["longer", "1"], ["b", "20"]]) == (
        "| a      |  n |\n| ------ | -: |\n| longer |  1 |\n| b      | 20 |"
    )


def test_the_tables_of_likely_figures_fit_a_hundred_columns():
    found = trained(123_456)
    for text in (
        training.rates_table([found]),
        training.aims_table([found], training.on_two_cores),
        training.peak_table([found], PEAK, PEAK),
        training.limits_table([found], PEAK),
        training.overhead_table([found]),
    ):
        assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.4567, "0.46"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (26_619, "26.6k"),
        (3.2e6, "3.20M"),
        (2e5, "200k"),
    ],
)
def test_numbers_are_told_with_some_three_figures(value, told):
    assert report.number(value) == told


def test_a_spread_is_told_with_its_least_and_most():
    assert report.spread(rounds.Spread(3.0, 2.5, 12.0)) == "3.00 (2.50-12.0)"


def test_a_verdict_says_whether_the_machine_was_idle():
    assert report.verdict(True) == "reached"
    assert report.verdict(False, idle=False) == "not reached, not idle"


def test_a_part_of_the_file_is_written_and_the_other_stays(tmp_path):
    path, (first, second, *_) = tmp_path / "new" / "performance.md", report.PARTS
    report.write(path, second, "two")
    report.write(path, first, "one\n\n### deeper\n\ntext")
    report.write(path, second, "three")
    text = path.read_text()
    assert text.startswith("# Performance\n")
    assert report.split(text) == {first: "one\n\n### deeper\n\ntext", second: "three"}
    assert text.index(first) < text.index(second)
    assert [p.name for p in path.parent.iterdir()] == ["performance.md"]


def test_a_section_that_fails_is_a_sentence_and_the_others_stay(capsys):
    def fails():
        raise SystemExit("first line\nthe cause")

    assert report.attempted(lambda: "figures", "fine") == "figures"
    assert report.attempted(fails, "broken") == "Not measured: broken: SystemExit: the cause"
    assert "in fails" in capsys.readouterr().err


def test_a_run_of_the_scaling_keeps_the_figures_of_the_axes_that_did_not_fail(tmp_path, monkeypatch, capsys):
    def section(name, *, quick):
        if name == "seeds":
            raise ValueError("no seeds")
        return f"figures of {name}"

    monkeypatch.setattr(scaling, "_section", section)
    scaling.main(["--out", str(tmp_path / "file.md")])
    text = report.split((tmp_path / "file.md").read_text())[report.SCALING]
    assert "### Seeds\n\nNot measured: seeds: ValueError: no seeds" in text
    assert all(f"figures of {name}" in text for name in (*scaling.AXES, "cells"))


def test_a_run_against_peers_keeps_the_figures_of_what_did_not_fail(monkeypatch, capsys):
    def train(workload, *_):
        if workload.name == "conv-64":
            raise SystemExit("its process ended")
        return trained(200)

    monkeypatch.setattr(against_peers.training, "train", train)
    monkeypatch.setattr(against_peers, "peak", lambda *_: PEAK)
    monkeypatch.setattr(against_peers.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(against_peers.beside, "memory", lambda: 1 / 0)
    text = "\n\n".join(against_peers._sections(["mlp-128", "conv-64", "memory"], against_peers.QUICKLY))
    assert "Not measured: conv 64×64×3, batch 64: SystemExit: its process ended" in text
    assert "Not measured: memory: ZeroDivisionError: division by zero" in text
    assert "| MLP 784-512-16, batch 128 |" in text


def test_a_script_is_shown_as_it_is_started_from_the_root():
    script = Path(machine.__file__).parents[1] / "scaling.py"
    typed = [str(script), "--out", "there.md", "--quick"]
    assert machine.shown(typed) == ["tests/perf/scaling.py", "--quick"]


def test_a_point_of_the_scaling_is_measured_in_a_fresh_process():
    script = Path(machine.__file__).parents[1] / "scaling.py"
    point = {"images": 64, "latent_dim": 2, "batch": 32, "rounds": 1}
    found = json.loads(machine.fresh(script, "point", json.dumps(point)))
    assert found["seconds"] > 0
    assert found["mib"] > 0


def test_the_time_of_operators_is_told_by_their_kind():
    spent = [
        ("aten::addmm", 1.0), ("mkldnn::_linear_pointwise", 2.0), ("aten::mkldnn_convolution", 1.0),
        ("aten::convolution_backward", 1.0), ("aten::_fused_adam_", 1.0), ("aten::normal_", 0.5), ("aten::copy_", 0.5),
        ("aten::mul", 1.0), ("aten::scatter", 1.0), ("aten::native_batch_norm", 1.0),
    ]  # fmt: skip
    assert where_time_goes.by_kind(spent) == {
        "convolutions, products": 0.5, "Adam": 0.1, "draws": 0.05, "casts, copies": 0.05, "elementwise, sums": 0.3,
    }  # fmt: skip


def test_the_gradients_written_by_hand_are_those_of_autograd():
    torch.manual_seed(0)
    stack = by_hand.ByHand(2)
    x, noise = torch.bernoulli(torch.full((2, 3, 784), 0.3)), torch.randn(2, 3, 50)
    loss, gradients = stack.gradients(x, noise)
    for member in range(2):
        given = [t[member].clone().requires_grad_() for t in (*stack.weights, *stack.biases)]
        layers = [partial(linear, weight=w, bias=b) for w, b in zip(given[:7], given[7:], strict=True)]
        h = layers[1](layers[0](x[member]).tanh()).tanh()
        q = Normal(layers[2](h), layers[3](h).exp())
        logits = layers[6](layers[5](layers[4](q.mean + q.stddev * noise[member]).tanh()).tanh())
        nats = kl_divergence(q, Normal(0.0, 1.0)).sum(1) - Bernoulli(logits=logits).log_prob(x[member]).sum(1)
        torch.testing.assert_close(loss[member], nats.mean().detach())
        for found, expected in zip(gradients, torch.autograd.grad(nats.mean(), given), strict=True):
            torch.testing.assert_close(found[member], expected, rtol=1e-4, atol=1e-5)


def test_a_stack_by_hand_learns_in_either_precision():
    torch.manual_seed(0)
    images = torch.randint(0, 2, (2, 20, 1, 28, 28), dtype=torch.uint8) * 255
    for dtype in (torch.float32, torch.bfloat16):
        stack = by_hand.ByHand(2, dtype)
        losses = torch.stack([stack.step(images) for _ in range(60)])
        assert (losses[-1] < 0.9 * losses[0]).all()


def test_the_cells_of_the_scaling_are_those_of_the_script_that_runs_many():
    cost, libraries = scaling.of_cells(4)
    assert cost.seconds > 0
    assert cost.mib >= libraries > 50


def test_the_section_on_cells_tells_the_libraries_beside_the_aim(monkeypatch):
    found = {100: 2.0, 1024: 9.0, 10_000: 50.0}
    monkeypatch.setattr(
        scaling, "of_cells", lambda cells: (scaling.Cost(found[cells], 600 + cells / 100), 508.0)
    )
    said = scaling._cells(quick=False)
    assert "has loaded torch and the libraries and done nothing takes 508 MiB,\n" in said
    assert "a cell, with its plan and record, 10 KiB more. Aim" in said
    assert "Aim for 10,000 cells: 60 s and 500 MiB: not reached." in said


def test_the_script_says_what_to_install_where_pythae_is_absent():
    code = (
        "import importlib.util as u, sys; sys.argv = ['against_peers.py']\n"
        "find = u.find_spec; u.find_spec = lambda n, *a: None if n == 'pythae' else find(n, *a)\n"
        "import against_peers; against_peers.main([])"
    )
    perf = Path(machine.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=perf, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "pythae is not installed: pip install 'lvmbench[peers]'."


def test_a_fit_that_took_longer_than_its_minutes_is_made_anew_with_fewer_images():
    rates = iter([100.0, 100.0, 80.0, 90.0])  # of the warm-up, the trial and two fits, in images a second
    model, images, seconds = time_to_quality.within(60, lambda n: (f"of {n}", n / next(rates)), 500)
    first = int(500 * 0.94 * 60 / 5)
    assert images == int(first * 0.94 * 60 / (first / 80))
    assert (model, seconds) == (f"of {images}", images / 90)
    assert seconds <= 60


def test_a_control_variate_gives_the_mean_of_all_rows_and_the_error_of_the_gap():
    torch.manual_seed(0)
    many = torch.randn(10_000, dtype=torch.float64) * 25 + 90
    truth = many - 4 + 0.3 * torch.randn(10_000, dtype=torch.float64)
    value, error = time_to_quality.with_control(truth[:400], many)
    assert error == pytest.approx(0.3 / 20, rel=0.1)
    assert abs(value - float(truth.mean())) < 3 * error
