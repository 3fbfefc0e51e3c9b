import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lvmbench import VAE, Attribute, Budget, ParameterGroup, Schema, Split, build, fit, ways
from lvmbench.convergence import has_converged
from lvmbench.descent import Descent, decay, denormals_flushed, learning_rate, objective
from lvmbench.errors import TrainingError
from lvmbench.feed import Order

SCHEMA = Schema((1, 28, 28), "gaussian", (Attribute("on", "binary"),))
BUDGET = Budget(images=320, batch=16, train=40, val=20)


def split(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *SCHEMA.shape), generator=generator).to(torch.uint8)
    return Split(images, torch.zeros(n, 1), torch.arange(n))


TRAIN, VAL = split(40, 0), split(20, 1)


class Line(nn.Module):
    """One weight, drawn to 0 by its loss; it keeps what it was shown."""

    def __init__(self, schema, *, start=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(start) + 0.1 * torch.randn(()))
        self.seen, self.drawn, self.modes = [], [], []

    def loss(self, x):
        self.modes.append(self.training)
        if self.training:
            self.seen.append(x.flatten(1).mean(1))
            self.drawn.append(torch.rand(()))
        return self.weight**2 + 0 * x.flatten(1).sum(1)


def trained(kind=Line, seed=0, budget=BUDGET, train=TRAIN, val=VAL, **options):
    model = build(kind, SCHEMA, options, seed)
    return model, fit(model, train, val, budget, SCHEMA, seed=seed)


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_one_seed_gives_one_run_whatever_was_drawn_before():
    torch.manual_seed(1)
    first, told = trained(VAE)
    torch.manual_seed(2)
    second, again = trained(VAE)
    assert same(first, second)
    assert told == again


def test_another_seed_gives_other_weights_order_and_noise():
    (a, _), (b, _) = trained(seed=0), trained(seed=1)
    assert not same(a, b)
    assert not torch.equal(a.seen[0], b.seen[0])
    assert a.drawn[0] != b.drawn[0]


def test_torchs_random_state_is_left_as_it_was():
    before = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), before)


def test_looks_and_order_do_not_disturb_the_noise_of_training(monkeypatch):
    many, _ = trained()
    monkeypatch.setattr("lvmbench.training.LOOKS", 2)
    few, _ = trained(val=split(7, 3))
    assert many.drawn == few.drawn
    assert all(torch.equal(a, b) for a, b in zip(many.seen, few.seen, strict=True))


def test_each_look_is_at_the_same_rows_under_the_same_noise():
    class Fixed(Line):
        def loss(self, x):
            return super().loss(x) * 0 + x.flatten(1).mean(1) + torch.rand(len(x))

    _, told = trained(Fixed)
    assert len({loss for _, loss in told.curve}) == 1


def test_the_validation_loss_is_the_mean_over_every_row_once():
    class Bright(Line):
        def loss(self, x):
            return super().loss(x) * 0 + x.flatten(1).mean(1)

    _, told = trained(Bright)  # 20 rows in batches of 16 and 4
    assert told.curve[0][1] == pytest.approx(float((VAL.images.float() + 0.5).mean() / 256), abs=1e-3)


def test_every_step_has_a_full_batch_and_every_epoch_every_row():
    order = Order(10, torch.Generator().manual_seed(0))
    drawn = [order.take(4) for _ in range(5)]
    assert all(len(rows) == 4 for rows in drawn)
    drawn = torch.cat(drawn)
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()


def test_a_batch_may_be_larger_than_the_data():
    model, _ = trained(train=split(5, 0))
    assert all(len(x) == 16 for x in model.seen)


def test_the_run_takes_the_steps_of_the_budget_and_looks_twenty_times():
    model, told = trained()
    assert told.steps == len(model.seen) == BUDGET.steps == 20
    assert told.images == 320
    assert [seen for seen, _ in told.curve] == list(range(16, 321, 16))
    assert len(trained(budget=replace(BUDGET, images=16 * 333))[1].curve) == 20


def test_progress_is_told_up_to_the_end():
    heard = []
    model = build(Line, SCHEMA, {}, 0)
    fit(
        model, TRAIN, VAL, BUDGET, SCHEMA, seed=0, on_progress=lambda done, total: heard.append((done, total))
    )
    assert heard[-1] == (20, 20)
    assert heard == sorted(heard)


def test_a_model_learns_in_training_mode_and_is_left_in_evaluation_mode():
    model, _ = trained()
    assert model.modes[:3] == [True, False, False]  # a step, then a look of two batches
    assert not model.training


def test_the_learning_rate_warms_up_stays_and_goes_to_nothing():
    rates = [learning_rate(p, 1000) for p in (0, 0.015, 0.03, 0.5, 0.8, 0.9, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])


def test_the_decay_of_a_long_run_takes_a_larger_share_of_it():
    assert [decay(steps) for steps in (1, 600, 10_000)] == [0.2] * 3
    assert decay(100_000) == pytest.approx(0.45)
    assert decay(10**7) == 0.5
    assert learning_rate(0.75, 10**7) == pytest.approx(0.5)


def test_a_long_run_decays_by_its_length_and_is_looked_at_more_often(monkeypatch):
    class Constant(Line):
        def loss(self, x):
            return self.weight + 0 * x.flatten(1).sum(1)

    asked = []
    monkeypatch.setattr("lvmbench.training.has_converged", lambda *given: asked.append(given[1:]))
    monkeypatch.setattr("lvmbench.descent.LONG", 20)
    budget = replace(BUDGET, images=16 * 200)
    model = build(Constant, SCHEMA, {}, 0)
    start = float(model.weight.detach())
    told = fit(model, TRAIN, VAL, budget, SCHEMA, seed=0)
    moved = 1e-3 * sum(learning_rate((step + 0.5) / 200, 200) for step in range(200))
    assert decay(200) == pytest.approx(0.45)
    assert start - float(model.weight.detach()) == pytest.approx(moved, rel=1e-3)
    assert len(told.curve) == 60
    assert asked == [(3200, 200, 0.0)]


def test_patience_lasts_for_the_same_share_of_a_long_run(monkeypatch):
    class Worsens(Line):
        patience = 4

        def loss(self, x):
            return -super().loss(x) if self.training else super().loss(x)

    monkeypatch.setattr("lvmbench.descent.LONG", 20)
    _, told = trained(Worsens, budget=replace(BUDGET, images=16 * 120))
    assert told.steps == 2 + 3 * 4 * 2


def test_a_step_may_have_no_loss():
    class Late(Two):
        def losses(self, batch, progress):
            return super().losses(batch, progress) if progress > 0.5 else {}

    _, told = trained(Late)
    assert told.steps == 20


def test_what_a_long_decay_brings_does_not_undo_convergence():
    drops = curve(lambda t: math.exp(-20 * t) - 5 * (t > 0.55))
    assert has_converged(drops, 2000, 100_000) is True
    assert has_converged(drops, 2000, 1000) is False


def test_a_run_that_fits_noise_free_data_gets_better():
    _, told = trained(VAE, budget=replace(BUDGET, images=1600))
    assert told.curve[-1][1] < told.curve[0][1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_model_and_step(value):
    class Breaks(Line):
        def loss(self, x):
            return super().loss(x) * (value if len(self.seen) >= 13 else 1)

    with pytest.raises(TrainingError, match=r"Breaks: the loss is not finite at step 13 of 40"):
        trained(Breaks, budget=replace(BUDGET, images=640))


def test_a_validation_loss_that_is_not_finite_is_told_as_such():
    class Breaks(Line):
        def loss(self, x):
            return super().loss(x) * (1 if self.training else math.nan)

    with pytest.raises(TrainingError, match="Breaks: the validation loss is not finite after step 1"):
        trained(Breaks)


class Termed(Line):
    """Its loss has two terms, one of which becomes infinite after so many steps."""

    def __init__(self, schema, *, breaks=None, gradient=1.0):
        super().__init__(schema)
        self.breaks, self.gradient = breaks, gradient

    def loss(self, x):
        falls = super().loss(x)
        rate = math.inf if self.training and len(self.seen) == self.breaks else 2.0
        return {"distortion": falls, "rate": rate + 0 * self.weight}


def test_named_terms_are_summed_and_trained_as_one_loss():
    plain, told = trained()
    named, again = trained(Termed)
    assert same(plain, named)
    assert [loss for _, loss in again.curve] == pytest.approx([loss + 2 for _, loss in told.curve])


def test_a_term_that_is_a_constraint_is_minimised_but_no_part_of_the_curve():
    class Held(Termed):
        constraints = ("rate",)

    whole, told = trained(Termed)
    held, again = trained(Held)
    assert same(whole, held)
    assert [loss for _, loss in again.curve] == pytest.approx([loss - 2 for _, loss in told.curve])


def test_terms_that_come_and_go_are_kept_apart_however_many_there_are(monkeypatch):
    class Changing(Line):
        def loss(self, x):
            first, step = super().loss(x), len(self.seen)
            return {"first": first, **({"late": first * (math.inf if step == 13 else 1)} if step > 5 else {})}

    monkeypatch.setattr(ways, "ROOM", 4)
    with pytest.raises(TrainingError, match=r"not finite at step 13 of 40: late is inf\.$"):
        trained(Changing, budget=replace(BUDGET, images=640))


def test_the_term_that_blew_up_is_named_with_its_step():
    with pytest.raises(TrainingError, match=r"not finite at step 13 of 40: rate is inf\.$"):
        trained(Termed, breaks=13, budget=replace(BUDGET, images=640))


def test_a_gradient_that_breaks_the_weights_is_told_at_the_step_after():
    class Kinked(Line):
        def loss(self, x):
            super().loss(x)
            root = (self.weight * (len(self.seen) != 13)).abs().sqrt() if self.training else self.weight**2
            return {"root": root, "square": self.weight**2}

    told = (
        r"at step 14 of 40: root is nan, square is nan, every term of it: the step before broke the weights"
    )
    with pytest.raises(TrainingError, match=told):
        trained(Kinked, budget=replace(BUDGET, images=640))


def test_a_term_of_one_of_several_losses_is_named_with_its_group():
    class Breaks(Two):
        def losses(self, batch, progress):
            return {"a": {"fit": self.a * math.inf, "size": self.a}, "b": self.b}

    with pytest.raises(TrainingError, match=r"step 1 of 20: a: fit is inf\.$"):
        trained(Breaks)


def test_a_loss_that_asks_for_progress_hears_of_it_and_is_final_at_the_looks():
    class Hears(Line):
        def loss(self, x, progress=1.0):
            self.modes.append((self.training, progress))
            return self.weight**2 + 0 * x.flatten(1).sum(1)

    model, _ = trained(Hears, budget=replace(BUDGET, images=1600))
    steps = [p for training, p in model.modes if training]
    assert steps == pytest.approx([(i + 0.5) / 100 for i in range(100)])
    assert {p for training, p in model.modes if not training} == {1.0}


def test_a_milestone_is_called_once_at_its_share_of_the_steps_with_the_training_data():
    class Stages(Line):
        def __init__(self, schema):
            super().__init__(schema)
            self.reached = []

        def milestones(self):
            return {0.25: lambda train: self.reached.append((len(self.seen), len(train)))}

    model, told = trained(Stages)
    assert told.steps == 20
    assert model.reached == [(5, 40)]


def test_a_milestone_that_no_step_reaches_is_an_error():
    class Late(Line):
        def milestones(self):
            return {0.98: print}

    with pytest.raises(TrainingError, match="20 steps end before its milestone at 0.98 of them"):
        trained(Late)


def test_convergence_is_judged_after_what_a_schedule_still_changes():
    falls = [(i, 1000.0 - i if i <= 40 else 100 - 0.5 * i) for i in range(1, 101)]
    assert has_converged(falls, 100, 20) is True
    assert has_converged(falls, 100, 20, settled=0.41) is False


def test_a_group_has_the_rate_and_the_betas_that_it_asks_for():
    class Slower(Two):
        def parameter_groups(self):
            return {"a": [self.a], "b": ParameterGroup([self.b], rate=0.5, betas=(0.0, 0.9))}

        def losses(self, batch, progress):
            return {"a": self.a, "b": self.b}

    model, told = trained(Slower)
    rates = [learning_rate((step + 0.5) / told.steps, told.steps) for step in range(told.steps)]
    moved = 1e-3 * sum(rates)  # a constant gradient moves a weight one learning rate a step
    assert 1 - float(model.a.detach()) == pytest.approx(moved, rel=1e-3)
    assert 1 - float(model.b.detach()) == pytest.approx(moved / 2, rel=1e-3)
    groups, losses = objective(model)
    (optimiser,) = {o for n, o in Descent(groups, losses, 1e-3).optimisers.items() if n == "b"}
    assert optimiser.betas == (0.0, 0.9)


def test_what_needs_no_gradient_is_in_no_group():
    class Frozen(Line):
        def __init__(self, schema):
            super().__init__(schema)
            self.fixed = nn.Parameter(torch.ones(()), requires_grad=False)

    groups, _ = objective(build(Frozen, SCHEMA, {}, 0))
    assert [len(list(group.parameters)) for group in groups.values()] == [1]


def test_a_model_that_nothing_can_train_is_told_so():
    with pytest.raises(TrainingError, match="Linear offers none of fit, losses and loss"):
        fit(nn.Linear(1, 1), TRAIN, VAL, BUDGET, SCHEMA, seed=0)


def test_data_without_rows_are_an_error_and_not_an_endless_loop():
    with pytest.raises(TrainingError, match="0 rows to learn from"):
        trained(train=TRAIN.head(0))


class Two(nn.Module):
    """A game of two: each loss would move both weights if it could."""

    def __init__(self, schema):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))
        self.progress, self.events = [], []

    def parameter_groups(self):
        return {"a": [self.a], "b": [self.b]}

    def losses(self, batch, progress):
        self.progress.append(progress)
        return {"a": self.a - 100 * self.b, "b": self.b * self.a.detach() ** 2 + 0 * self.a}

    def start(self, train):
        self.events.append(len(train))

    def after_step(self):
        self.events.append("step")


def test_each_loss_reaches_its_own_group_only():
    model, _ = trained(Two)
    assert model.a < 1  # its own loss pushes it down, b's would not
    assert model.b < 1  # a's loss would push it up, a hundred times as hard


def test_gradients_are_all_taken_before_the_first_step():
    class Product(Two):
        def losses(self, batch, progress):
            return {"a": self.a**2, "b": (self.a * self.b) ** 2}

    trained(Product)  # a step of a in between would be an error of autograd


def test_start_and_after_step_are_called_where_they_exist():
    model, told = trained(Two)
    assert model.events == [40, *["step"] * told.steps]


def test_progress_runs_from_zero_to_one_and_is_one_at_the_looks():
    model, _ = trained(Two, budget=replace(BUDGET, images=1600))
    steps = [p for p in model.progress if p != 1]
    assert steps == sorted(steps)
    assert len(steps) == 100
    assert (steps[0], steps[-1]) == pytest.approx((0.005, 0.995))
    assert model.progress.count(1.0) == 20 * 2


def test_a_group_whose_loss_is_not_given_rests():
    class Resting(Two):
        def losses(self, batch, progress):
            return {"a": self.a}

    model, _ = trained(Resting)
    assert model.b == 1
    assert model.a < 1


def test_a_model_that_fits_itself_is_seeded_and_has_no_curve():
    class Itself:
        def __init__(self, schema):
            pass

        def fit(self, train, budget, seed):
            self.got = (len(train), budget.name, seed, float(torch.rand(())))

    (a, told), (b, _) = trained(Itself, seed=3), trained(Itself, seed=3)
    assert a.got == b.got
    assert a.got[:3] == (40, "custom", 3)
    assert (told.curve, told.converged, told.steps) == ((), None, 0)


def test_a_model_may_bring_its_own_budget():
    class Longer(Line):
        def own_budget(self, budget):
            return replace(budget, images=2 * budget.images)

    model, told = trained(Longer)
    assert told.steps == len(model.seen) == 40


def test_patience_ends_a_run_and_the_best_weights_return():
    class Worsens(Line):
        patience = 4

        def after_step(self):
            self.weight.data.fill_(abs(len(self.seen) - 5))  # best after the fifth step

    model, told = trained(Worsens)
    assert told.steps == 9
    assert told.converged is True
    assert model.weight.item() == 0


def test_without_patience_the_last_weights_stay():
    class Worsens(Line):
        def after_step(self):
            self.weight.data.fill_(len(self.seen))

    model, told = trained(Worsens)
    assert model.weight.item() == told.steps == 20


def curve(loss, looks=20):
    return [(i * 100, loss(i / looks)) for i in range(1, looks + 1)]


def test_a_curve_that_settled_has_converged():
    assert has_converged(curve(lambda t: math.exp(-10 * t)), 2000, 20) is True


def test_a_curve_that_still_falls_has_not_converged():
    assert has_converged(curve(lambda t: -t), 2000, 20) is False
    assert has_converged(curve(lambda t: t**-0.5), 2000, 20) is False


def test_the_decay_of_the_learning_rate_cannot_fake_convergence():
    flat_at_the_end = curve(lambda t: -min(t, 0.8))
    assert has_converged(flat_at_the_end, 2000, 20) is False


def test_what_the_decay_brings_does_not_undo_convergence():
    drops_at_the_end = curve(lambda t: math.exp(-10 * t) - 5 * (t > 0.8))
    assert has_converged(drops_at_the_end, 2000, 20) is True


def test_a_curve_that_rises_again_has_not_converged():
    assert has_converged(curve(lambda t: (t - 0.3) ** 2), 2000, 20) is False


def test_jitter_alone_is_no_sign_of_learning():
    jitter = torch.randn(200, 20, generator=torch.Generator().manual_seed(0)).tolist()
    settled = [
        has_converged([(100 * (i + 1), loss) for i, loss in enumerate(row)], 2000, 20) for row in jitter
    ]
    assert sum(settled) > 0.9 * len(settled)


def test_too_few_looks_are_no_judgement():
    assert has_converged(curve(lambda t: -t, looks=6), 600, 6) is None


def test_denormals_are_nothing_while_a_model_trains_and_are_kept_afterwards():
    half = torch.tensor(torch.finfo().tiny)
    with denormals_flushed():
        with denormals_flushed():
            pass
        assert half.div(2) == 0
    assert half.div(2) > 0
