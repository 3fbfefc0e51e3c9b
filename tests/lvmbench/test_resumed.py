"""A fit that was killed goes on to the same numbers; the whole catalog is held to it beside its models."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from lvmbench import VAE, Attribute, Budget, ParameterGroup, Schema, Split, build, fit
from lvmbench.checkpoints import Misfit
from lvmbench.errors import TrainingError
from lvmbench.feed import Order
from tests_support import Cut, KilledError, fit_in_parts

SCHEMA = Schema((1, 28, 28), "gaussian", (Attribute("on", "binary"),))
BUDGET = Budget(images=640, batch=16, train=40, val=20)  # 40 steps, looks after every other


def split(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *SCHEMA.shape), generator=generator).to(torch.uint8)
    return Split(images, torch.zeros(n, 1), torch.arange(n))


ARGS = split(40, 0), split(20, 1), BUDGET, SCHEMA


class Line(nn.Module):
    """One weight, drawn to 0 with noise; ``seen`` and ``drawn`` are what this process showed it."""

    def __init__(self, schema):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0) + 0.1 * torch.randn(()))
        self.seen, self.drawn, self.told = [], [], []

    def loss(self, x):
        noise = torch.rand(())
        if self.training:
            self.seen.append(x.flatten(1).mean(1))
            self.drawn.append(noise)
        return self.weight**2 * noise + 0 * x.flatten(1).sum(1)


def assert_same(kind, path, parts, **options):
    whole = build(kind, SCHEMA, options, 0)
    told = fit(whole, *ARGS, seed=0)
    parted, again = fit_in_parts(lambda: build(kind, SCHEMA, options, 0), path, parts, *ARGS, seed=0)
    assert again == told
    for a, b in zip(whole.state_dict().values(), parted.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    return whole, parted, told


@pytest.mark.parametrize("rows", [10, 12, 3])
def test_an_order_without_its_first_batches_is_the_rest_of_it(rows):
    def drawn(after):
        order = Order(rows, torch.Generator().manual_seed(5))
        order.skip(4 * after)
        return [order.take(4).tolist() for _ in range(9 - after)]

    whole = drawn(0)
    for after in range(9):
        assert drawn(after) == whole[after:]


@pytest.mark.parametrize("after", [1, 2, 3, 4, 39])
def test_batches_noise_and_weights_are_those_of_an_undisturbed_fit(tmp_path, after):
    whole, parted, told = assert_same(Line, tmp_path / "kept", [after])
    assert len(parted.seen) == told.steps - after
    assert all(torch.equal(a, b) for a, b in zip(whole.seen[after:], parted.seen, strict=True))
    assert whole.drawn[after:] == parted.drawn


def test_a_fit_that_is_killed_again_and_again_comes_to_the_same(tmp_path):
    assert_same(Line, tmp_path / "kept", [3, 1, 1, 7, 20])


def test_torchs_random_state_is_left_as_it_was(tmp_path):
    before = torch.get_rng_state()
    fit_in_parts(lambda: build(Line, SCHEMA, {}, 0), tmp_path / "kept", [5], *ARGS, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


class Game(nn.Module):
    """Two groups of their own betas, one of which rests for the first half."""

    def __init__(self, schema):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(()))

    def parameter_groups(self):
        return {"a": ParameterGroup([self.a], betas=(0.5, 0.9)), "b": [self.b]}

    def losses(self, batch, progress):
        a = (self.a - batch.x.mean()).square().sum() * torch.rand(())
        return {"a": a} if progress < 0.5 else {"a": a, "b": (self.b - 0.3).square()}


@pytest.mark.parametrize("after", [10, 20, 21, 30])
def test_each_group_goes_on_with_the_moments_of_its_own(tmp_path, after):
    assert_same(Game, tmp_path / "kept", [after])


class Patient(Line):
    """Best after the tenth step, and patient for six looks."""

    patience = 6

    def __init__(self, schema):
        super().__init__(schema)
        self.steps = 0

    def after_step(self):
        self.steps += 1
        self.weight.data.fill_(abs(self.steps - 10))


@pytest.mark.parametrize("after", [5, 10, 11, 20])
def test_patience_remembers_the_best_weights_and_how_long_ago_they_were(tmp_path, after):
    _, parted, told = assert_same(Patient, tmp_path / "kept", [after])
    assert (told.steps, parted.weight.item(), parted.steps) == (22, 0, 22)


class Staged(Line):
    """Two milestones: one takes another function into the loss, one moves a weight."""

    def __init__(self, schema):
        super().__init__(schema)
        self.called, self.function = [], torch.square

    def milestones(self):
        return {0.25: self.change, 0.5: self.move}

    def change(self, train):
        self.called.append("change")
        self.function = torch.sin

    @torch.no_grad()
    def move(self, train):
        self.called.append("move")
        self.weight.mul_(-2 * torch.rand(()) - len(train))

    def loss(self, x):
        return super().loss(x) + self.function(self.weight)


@pytest.mark.parametrize(
    ("after", "called"), [(9, []), (10, []), (11, ["change"]), (20, ["change"]), (21, ["change", "move"])]
)
def test_milestones_that_were_passed_are_called_anew_and_the_others_in_their_turn(tmp_path, after, called):
    keep = tmp_path / "kept"
    _, parted, _ = assert_same(Staged, keep, [after])
    assert parted.called == ["change", "move"]
    cut = build(Staged, SCHEMA, {}, 0)
    keep.unlink()
    with pytest.raises(KilledError):
        fit(cut, *ARGS, seed=0, keep=Cut(keep, after))
    assert cut.called == called


def test_a_loss_that_breaks_is_told_with_the_same_step_wherever_the_fit_was_cut(tmp_path):
    class Breaks(Patient):
        def loss(self, x):
            return super().loss(x) * (float("nan") if self.training and self.steps == 12 else 1.0)

    for i, parts in enumerate(([], [12], [11, 1])):
        with pytest.raises(TrainingError, match="the loss is not finite at step 13 of 40"):
            fit_in_parts(lambda: build(Breaks, SCHEMA, {}, 0), tmp_path / str(i), parts, *ARGS, seed=0)
    with pytest.raises(TrainingError, match="the loss is not finite at step 13 of 40"):  # before it is kept
        fit(build(Breaks, SCHEMA, {}, 0), *ARGS, seed=0, keep=Cut(tmp_path / "kept", 13))
    assert not (tmp_path / "kept").exists()


def test_progress_goes_on_from_the_step_that_was_kept_and_the_log_says_so(tmp_path, capsys):
    heard = []
    keep = tmp_path / "kept"
    with pytest.raises(KilledError):
        fit(build(Line, SCHEMA, {}, 0), *ARGS, seed=0, keep=Cut(keep, 7))
    fit(
        build(Line, SCHEMA, {}, 0),
        *ARGS,
        seed=0,
        on_progress=lambda done, total: heard.append((done, total)),
        keep=Cut(keep),
    )
    assert heard == [(step, 40) for step in range(7, 41)]
    assert f"{keep}: goes on after step 7 of 40" in capsys.readouterr().out


def test_what_does_not_fit_the_model_is_told(tmp_path):
    path = tmp_path / "kept"
    with pytest.raises(KilledError):
        fit(build(VAE, SCHEMA, {"net": "mlp", "latent_dim": 3}, 0), *ARGS, seed=0, keep=Cut(path, 2))
    with pytest.raises(Misfit, match="does not fit the model"):
        fit(build(VAE, SCHEMA, {"net": "mlp", "latent_dim": 2}, 0), *ARGS, seed=0, keep=Cut(path))
    shorter = *ARGS[:2], replace(BUDGET, images=16), SCHEMA
    with pytest.raises(Misfit, match="step 2 of 1"):
        fit(build(VAE, SCHEMA, {"net": "mlp", "latent_dim": 3}, 0), *shorter, seed=0, keep=Cut(path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss/0/exp_avg", torch.ones(2)),
        ("loss/0/step", torch.ones(2)),
        ("loss/0/exp_avg_sq", None),
        ("loss/9/step", torch.ones(())),
        ("other/0/step", torch.ones(())),
    ],
)
def test_moments_of_other_parameters_do_not_fit_the_model(tmp_path, name, value):
    path = tmp_path / "kept"
    keep = Cut(path, 2)
    with pytest.raises(KilledError):
        fit(build(Line, SCHEMA, {}, 0), *ARGS, seed=0, keep=keep)
    found = keep.last()
    moments = {**found.optimisers, name: value}
    with pytest.raises(KilledError):
        keep.write(replace(found, optimisers={k: v for k, v in moments.items() if v is not None}))
    with pytest.raises(Misfit, match="does not fit the model"):
        fit(build(Line, SCHEMA, {}, 0), *ARGS, seed=0, keep=Cut(path))


def test_a_model_that_fits_itself_keeps_none(tmp_path):
    class Itself(nn.Module):
        def __init__(self, schema):
            super().__init__()

        def fit(self, train, budget, seed):
            pass

    fit(build(Itself, SCHEMA, {}, 0), *ARGS, seed=0, keep=Cut(tmp_path / "kept", 1))
    assert not (tmp_path / "kept").exists()
