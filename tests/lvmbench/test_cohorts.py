"""Cohorts: what goes wrong with one member, or with the way that all take, costs no other its numbers."""

import math
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lvmbench import VAE, Budget, ParameterGroup, Schema, Split, build, fit
from lvmbench.adam import Adam
from lvmbench.checkpoints import Checkpoints
from lvmbench.cohorts import BESIDE, SHORT, STACKED, cohorts, recorded_way, way_of
from lvmbench.errors import TrainingError
from lvmbench.feed import feed
from lvmbench.graphs import Graphed
from lvmbench.members import Ground, Member
from lvmbench.training import fit_together
from lvmbench.ways import Alone

SCHEMA = Schema((1, 8, 8), "bernoulli", ())
BUDGET = Budget(images=16 * 30, batch=16, train=40, val=20)


def split(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, *SCHEMA.shape), generator=generator).to(torch.uint8)
    return Split(images, torch.zeros(n, 0), torch.arange(n))


DATA = split(40, 0), split(20, 1)
OPTIONS = {"net": "mlp", "latent_dim": 2}


class Weighted(VAE):
    """A VAE with a weight on its rate."""

    def __init__(self, schema, *, weight=1.0, **options):
        super().__init__(schema, **options)
        self.weight = weight

    def loss(self, x):
        loss = super().loss(x)
        return {"distortion": loss["distortion"], "weighted rate": self.weight * loss["rate"]}


@pytest.fixture
def together(monkeypatch):
    """Train models as one cohort, as a GPU would, and return what is told of each."""
    # each alone is multiplied by the library that multiplies them together
    monkeypatch.setattr("lvmbench.products.has_wide_registers", lambda: False)

    def train(models, seeds, budget=BUDGET, keeps=(), way=recorded_way):
        monkeypatch.setattr("lvmbench.training.cohorts", lambda members: [list(members)])
        monkeypatch.setattr(
            "lvmbench.training.way_of",
            lambda group: Alone(group[0]) if group[0].by_hand else way(group),
        )
        return fit_together(models, *DATA, budget, SCHEMA, seeds=seeds, keeps=keeps)

    return train


def alone(model, seed, budget=BUDGET):
    return model, fit(model, *DATA, budget, SCHEMA, seed=seed)


def assert_close(model, told, expected):
    other, history = expected
    assert told.steps == history.steps
    losses, others = (torch.tensor([loss for _, loss in h.curve]) for h in (told, history))
    torch.testing.assert_close(losses, others, rtol=1e-4, atol=1e-3)
    for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_members_of_other_seeds_and_weights_are_one_stack(together):
    asked = [(0, 1.0), (1, 1.0), (0, 4.0)]
    models = [build(Weighted, SCHEMA, {**OPTIONS, "weight": weight}, seed) for seed, weight in asked]
    told = together(models, [seed for seed, _ in asked])
    for (seed, weight), model, history in zip(asked, models, told, strict=True):
        assert history.way == "recorded, 3 members stacked"
        assert_close(
            model, history, alone(build(Weighted, SCHEMA, {**OPTIONS, "weight": weight}, seed), seed)
        )
    assert [model.weight for model in models] == [1.0, 1.0, 4.0]


class Stateful(VAE):
    """Draws from a generator that no engine knows, or counts its own steps, as it is told."""

    def __init__(self, schema, *, habit="", **options):
        super().__init__(schema, **options)
        self.habit, self.count = habit, 0
        self.own = random.Random(5)

    def loss(self, x):
        if self.habit == "draws" and self.training:
            x = x * self.own.random()
        if self.habit == "counts" and self.training:
            self.count += 1
        loss = super().loss(x)
        return {name: term * (1 + self.count) for name, term in loss.items()}


@pytest.mark.parametrize(
    ("habit", "told"),
    [("counts", "it changes .count in a step"), ("draws", "it comes to another gradient")],
)
def test_what_cannot_be_repeated_is_trained_step_by_step_and_says_so(together, habit, told):
    models = [build(Stateful, SCHEMA, {**OPTIONS, "habit": habit}, seed) for seed in (0, 1)]
    found = together(models, (0, 1))
    assert all(history.way.startswith(f"step by step: {told}") for history in found)
    assert [model.count for model in models] == [30 if habit == "counts" else 0] * 2  # none of a trial


def test_what_counts_its_steps_comes_to_the_numbers_of_one_that_nobody_tried(together):
    model = build(Stateful, SCHEMA, {**OPTIONS, "habit": "counts"}, 0)
    (told,) = together([model], [0])
    assert_close(model, told, alone(build(Stateful, SCHEMA, {**OPTIONS, "habit": "counts"}, 0), 0))


class Particular(Weighted):
    """A VAE that keeps a number from the engine in one way or another, or sets it at a milestone."""

    settled = 0.4

    def __init__(self, schema, *, habit="", **options):
        super().__init__(schema, **options)
        self.habit, self.pair = habit, (0.0, self.weight if habit == "in a tuple" else 1.0)
        self.register_buffer("late", torch.ones(()))
        self.calls, self.placed = [], 1.0

    def milestones(self):
        return {0.4: self.reached} if self.habit.startswith("late") else {}

    def reached(self, train):
        self.calls = [*self.calls, len(train)]
        if self.habit == "late buffer":
            self.late.fill_(self.weight)
        if self.habit == "late number":
            self.placed = self.weight

    def parameter_groups(self):
        rate = self.weight if self.habit == "in a rate" else 1.0
        return {"all": ParameterGroup(self.parameters(), rate=rate)}

    def losses(self, batch, progress):
        loss = self.loss(batch.x)
        weight = {"in a logarithm": lambda: math.log(1 + self.weight), "in a tuple": lambda: self.pair[1]}
        by = weight.get(self.habit, lambda: 1.0)() * self.late * self.placed
        if self.habit == "late count" and self.calls and self.training:
            self.placed += 1
        return {"all": {**loss, "more": by * loss["distortion"]}}


@pytest.mark.parametrize(
    ("habit", "told"),
    [
        ("", "recorded, 3 members stacked"),
        ("in a logarithm", "recorded, 3 members side by side"),
        ("in a tuple", "recorded, 3 members side by side"),
        ("in a rate", "recorded, 3 members side by side"),
        ("late buffer", "recorded, 3 members stacked"),
        ("late number", "recorded, 3 members stacked"),
        ("late count", "step by step: it changes .placed in a step"),
    ],
)
def test_whatever_differs_each_member_comes_to_its_own_numbers(together, habit, told):
    weights = (0.5, 1.0, 3.0)

    def models():
        return [build(Particular, SCHEMA, {**OPTIONS, "weight": w, "habit": habit}, 0) for w in weights]

    found = models()
    histories = together(found, (0, 0, 0))
    assert {history.way for history in histories} == {told}
    for model, history, one in zip(found, histories, models(), strict=True):
        assert_close(model, history, alone(one, 0))
        assert model.calls == one.calls


def test_memory_that_ends_while_steps_are_recorded_costs_no_rows(together, monkeypatch):
    stepper = Graphed.stepper

    def small(way, n, warm=None):
        if n > 1 and len(way.members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stepper(way, n, warm)

    monkeypatch.setattr(Graphed, "stepper", small)
    models = [build(VAE, SCHEMA, OPTIONS, seed) for seed in range(4)]
    told = together(models, range(4))
    assert {history.way for history in told} == {"recorded, 2 members stacked"}
    for seed, model in enumerate(models):
        assert_close(model, told[seed], alone(build(VAE, SCHEMA, OPTIONS, seed), seed))


def test_memory_that_ends_at_a_look_costs_no_step_no_look_and_no_milestone(together, monkeypatch):
    look, left = Graphed.look, [1]

    def once(way):
        if way.members[0].step > 15 and left:
            left.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return look(way)

    monkeypatch.setattr(Graphed, "look", once)
    options = [{**OPTIONS, "weight": w, "habit": "late buffer"} for w in (0.5, 1.0, 3.0)]
    models = [build(Particular, SCHEMA, own, 0) for own in options]
    told = together(models, (0, 0, 0))
    assert left == []
    for model, history, own in zip(models, told, options, strict=True):
        assert_close(model, history, alone(build(Particular, SCHEMA, own, 0), 0))
        assert model.calls == [40]


def test_a_member_that_has_ended_is_no_part_of_the_halves(together, monkeypatch):
    look, left = Graphed.look, [1]

    def once(way):
        if any(member.stopped for member in way.members) and left:
            left.pop()
            raise torch.OutOfMemoryError("CUDA out of memory")
        return look(way)

    monkeypatch.setattr(Graphed, "look", once)
    budget = replace(BUDGET, learning_rate=0.02)
    asked = [(0, 3e4), (0, 1.0), (1, 1.0)]
    models = [build(Patient, SCHEMA, {**OPTIONS, "weight": w}, seed) for seed, w in asked]
    told = together(models, [seed for seed, _ in asked], budget)
    assert left == []
    for (seed, w), model, history in zip(asked, models, told, strict=True):
        one = build(Patient, SCHEMA, {**OPTIONS, "weight": w}, seed)
        assert_close(model, history, alone(one, seed, budget))


def test_a_budget_that_a_member_cannot_have_is_its_own_failure(together):
    class Choosy(VAE):
        def own_budget(self, budget):
            if self.choosy:
                raise ValueError("not for me")
            return budget

    models = [build(Choosy, SCHEMA, OPTIONS, seed) for seed in (0, 1)]
    models[0].choosy, models[1].choosy = True, False
    told = together(models, (0, 1))
    assert isinstance(told[0], ValueError)
    assert told[1].steps == 30


def test_a_long_run_has_its_schedule_in_a_cohort_too(together, monkeypatch):
    monkeypatch.setattr("lvmbench.descent.LONG", 1)
    models = [build(VAE, SCHEMA, OPTIONS, seed) for seed in (0, 1)]
    told = together(models, (0, 1))
    for seed, (model, history) in enumerate(zip(models, told, strict=True)):
        assert history.way == "recorded, 2 members stacked"
        assert_close(model, history, alone(build(VAE, SCHEMA, OPTIONS, seed), seed))


def test_members_count_their_steps_after_memory_ended_while_they_were_stacked(together, monkeypatch):
    serve = Adam.serve

    def ends(self, members):
        serve(self, members)
        raise torch.OutOfMemoryError

    def way(group):
        if len(group) > 1:
            monkeypatch.setattr(Adam, "serve", ends)
            return recorded_way(group)
        return Alone(group[0])

    models = [build(VAE, SCHEMA, OPTIONS, seed) for seed in (0, 1)]
    told = together(models, (0, 1), way=way)
    for seed, (model, history) in enumerate(zip(models, told, strict=True)):
        assert_close(model, history, alone(build(VAE, SCHEMA, OPTIONS, seed), seed))


def test_models_have_tensors_of_their_own_once_they_are_trained(together):
    models = [build(VAE, SCHEMA, OPTIONS, seed) for seed in (0, 1)]
    together(models, (0, 1))
    first, other = (next(m.parameters()).untyped_storage() for m in models)
    assert first.data_ptr() != other.data_ptr()
    assert first.nbytes() == next(models[0].parameters()).nbytes


def test_pictures_that_fit_no_device_are_streamed_to_all_members(together, monkeypatch):
    whole = [build(VAE, SCHEMA, OPTIONS, seed) for seed in (0, 1)]
    told = together(whole, (0, 1))
    monkeypatch.setattr("lvmbench.feed._room", lambda device: 0)
    streamed = [build(VAE, SCHEMA, OPTIONS, seed) for seed in (0, 1)]
    assert together(streamed, (0, 1)) == told
    for a, b in zip(whole, streamed, strict=True):
        assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def test_a_member_that_breaks_leaves_the_others_as_they_are(together):
    models = [build(Weighted, SCHEMA, {**OPTIONS, "weight": 1.0}, seed) for seed in range(3)]
    models[1].weight = 1e38
    told = together(models, range(3))
    assert isinstance(told[1], TrainingError)
    assert "weighted rate is" in str(told[1])
    for seed in (0, 2):
        assert_close(
            models[seed], told[seed], alone(build(Weighted, SCHEMA, {**OPTIONS, "weight": 1.0}, seed), seed)
        )


def test_a_member_that_cannot_take_a_step_takes_no_other_along(together):
    class Raises(Weighted):
        def loss(self, x):
            if self.weight < 0:
                raise ValueError("a weight under 0")
            return super().loss(x)

    weights = (1.0, -1.0, 4.0)
    models = [build(Raises, SCHEMA, {**OPTIONS, "weight": weight}, 0) for weight in weights]
    told = together(models, (0, 0, 0))
    assert isinstance(told[1], ValueError)
    for i in (0, 2):
        one = build(Raises, SCHEMA, {**OPTIONS, "weight": weights[i]}, 0)
        assert_close(models[i], told[i], alone(one, 0))


def test_a_loss_that_breaks_just_before_a_milestone_is_told_with_its_step():
    class Breaks(Weighted):
        settled, taken = 0.54, 0

        def milestones(self):
            return {0.54: lambda train: None}  # before step 17, and after step 16 nobody looks

        def loss(self, x):
            self.taken += self.training
            broken = math.nan if self.training and self.taken == 16 else 1.0
            return {name: broken * term for name, term in super().loss(x).items()}

    model = build(Breaks, SCHEMA, OPTIONS, 0)
    with pytest.raises(TrainingError, match="not finite at step 16 of 30"):
        fit(model, *DATA, BUDGET, SCHEMA, seed=0)


def test_a_cohort_that_does_not_fit_the_memory_is_halved(together):
    sizes = []

    def small(group):
        sizes.append(len(group))
        if len(group) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return recorded_way(group)

    models = [build(VAE, SCHEMA, OPTIONS, seed) for seed in range(5)]
    told = together(models, range(5), way=small)
    assert sizes == [5, 3, 2, 1, 2]
    for seed, model in enumerate(models):
        assert_close(model, told[seed], alone(build(VAE, SCHEMA, OPTIONS, seed), seed))


def test_a_member_that_fits_no_memory_alone_fails_alone(together):
    def none(group):
        if len(group) > 1 or group[0].seed == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return recorded_way(group)

    told = together([build(VAE, SCHEMA, OPTIONS, seed) for seed in range(2)], range(2), way=none)
    assert told[0].steps == 30
    assert isinstance(told[1], torch.OutOfMemoryError)


class Patient(Weighted):
    patience = 2


def test_a_member_that_runs_out_of_patience_keeps_its_best_weights_while_others_go_on(together):
    weights = (1.0, 3e4)
    models = [build(Patient, SCHEMA, {**OPTIONS, "weight": w}, 0) for w in weights]
    told = together(models, (0, 0), replace(BUDGET, learning_rate=0.02))
    expected = [
        alone(build(Patient, SCHEMA, {**OPTIONS, "weight": w}, 0), 0, replace(BUDGET, learning_rate=0.02))
        for w in weights
    ]
    assert [history.steps for history in told] == [history.steps for _, history in expected]
    assert min(history.steps for history in told) < 30
    for model, history, one in zip(models, told, expected, strict=True):
        assert_close(model, history, one)


class Once(Checkpoints):
    """Is due once, after so many looks at the clock; the process dies when the last of some have written."""

    def __init__(self, path, after, last):
        super().__init__(path, {"fit": path.name})
        self.after, self.dies = after, last

    def due(self):
        self.after -= 1
        return self.after == 0

    def write(self, found):
        super().write(found)
        if self.dies:
            raise KeyboardInterrupt


def test_a_cohort_that_was_killed_goes_on_where_all_of_it_stood(together, tmp_path):
    def models():
        return [build(VAE, SCHEMA, OPTIONS, seed) for seed in (0, 1)]

    whole = models()
    told = together(whole, (0, 1))
    with pytest.raises(KeyboardInterrupt):
        together(models(), (0, 1), keeps=[Once(tmp_path / str(i), 7, last=i == 1) for i in (0, 1)])
    assert all((tmp_path / str(i)).exists() for i in (0, 1))
    parted = models()
    again = together(parted, (0, 1), keeps=[Checkpoints(tmp_path / str(i), {"fit": str(i)}) for i in (0, 1)])
    assert again == told
    for a, b in zip(whole, parted, strict=True):
        assert all(
            torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


def test_a_member_that_has_ended_lets_no_other_write(together, tmp_path):
    class Told(Checkpoints):
        count = 0

        def due(self):
            return self.ended_first and super().due()

        def write(self, found):
            self.count += 1

    keeps = [Told(tmp_path / str(i), {"fit": str(i)}) for i in (0, 1)]
    keeps[0].ended_first, keeps[1].ended_first = True, False
    keeps[0].next = 0.0  # always due
    models = [build(Weighted, SCHEMA, {**OPTIONS, "weight": w}, 0) for w in (1e38, 1.0)]
    told = together(models, (0, 0), keeps=keeps)
    assert isinstance(told[0], TrainingError)
    assert [keep.count for keep in keeps] == [0, 0]  # the first broke before its first time to write


def member(kind, device="cuda", step=0, images=64, milestones=()):
    model = nn.Sequential(nn.Linear(2, 2), *([nn.Conv2d(1, 1, 3)] if kind == "conv" else []))
    ground = SimpleNamespace(device=torch.device(device))
    return SimpleNamespace(
        model=model, ground=ground, step=step, budget=Budget(images=images), milestones=milestones
    )


def test_a_cohort_on_a_gpu_is_as_large_as_pays_and_on_a_processor_one():
    assert [len(group) for group in cohorts([member("conv") for _ in range(BESIDE + 1)])] == [BESIDE, 1]
    assert [len(group) for group in cohorts([member("mlp") for _ in range(STACKED + 2)])] == [STACKED, 2]
    assert [len(group) for group in cohorts([member("mlp", "cpu") for _ in range(3)])] == [1, 1, 1]


@pytest.mark.parametrize("other", [{"step": 3}, {"images": 128}, {"milestones": {4: []}}])
def test_what_stands_elsewhere_or_has_other_steps_is_another_cohort(other):
    assert len(cohorts([member("mlp"), member("mlp"), member("mlp", **other)])) == 2


LONGER = replace(BUDGET, images=BUDGET.batch * SHORT)


def test_a_processor_replays_the_steps_of_a_run_that_is_not_short():
    ways = [alone(build(VAE, SCHEMA, OPTIONS, 0), 0, budget)[1].way for budget in (BUDGET, LONGER)]
    assert ways == ["", "replayed"]


class Habitual(VAE):
    """Keeps something from step to step, or reads it, in one of the many ways that Python has."""

    beta = 1.0

    def __init__(self, schema, *, habit="", **options):
        super().__init__(schema, **options)
        self.habit, self.told, self.state, self.late = habit, [], {"n": 0, "mean": torch.zeros(())}, None
        self.mean, self.first = torch.zeros(()), True
        self.register_buffer("seen", torch.zeros(()))
        self.unread = nn.BatchNorm2d(1)
        self.generator = torch.Generator().manual_seed(3)

    def loss(self, x, progress=1.0):
        loss = {**super().loss(x), "habit": getattr(self, "_" + self.habit.replace(" ", "_"))(x, progress)}
        return {name: self.beta * term for name, term in loss.items()}

    def _replaces_a_buffer(self, x, progress):
        self.seen = self.seen + x.mean()
        return self.seen

    def _adds_to_a_list(self, x, progress):
        if self.training:
            self.told.append(x.mean())
        return x.mean()

    def _counts_in_a_mapping(self, x, progress):
        self.state["n"] += self.training
        return x.mean() * (self.state["n"] > 20)

    def _averages_in_a_mapping(self, x, progress):
        self.state["mean"] = 0.9 * self.state["mean"] + x.mean()
        return self.state["mean"]

    def _averages_in_an_attribute(self, x, progress):
        self.mean = 0.9 * self.mean + x.mean()
        return x.mean()

    def _waits_for_the_first_batch(self, x, progress):
        self.late = x.mean() if self.late is None else self.late
        return self.late

    def _makes_an_attribute_once(self, x, progress):
        if not hasattr(self, "shift"):
            self.shift = x.mean()
        return self.shift

    def _draws_from_python(self, x, progress):
        return x.mean() * random.random()

    def _draws_from_numpy(self, x, progress):
        return x.mean() * (np.random.rand() < 0.01)  # noqa: NPY002

    def _asks_for_a_number(self, x, progress):
        return x.mean() if x.mean() > 2 else x.sum()

    def _asks_numpy(self, x, progress):
        return x.mean() * float(np.interp(progress, [0, 0.92, 1], [1, 1, 0]))

    def _asks_a_list(self, x, progress):
        return x.mean() * torch.tensor(self.seen.tolist())

    def _makes_a_tensor_of_a_list(self, x, progress):
        return x.mean() * torch.tensor([self.seen]).sum()

    def _normalises_data(self, x, progress):
        (weight, *_) = (p for p in self.parameters() if p.requires_grad and p.dim() == 2)
        weight.data = nn.functional.normalize(weight.data, dim=0)
        return weight.square().mean()

    def _keeps_statistics_that_nobody_reads(self, x, progress):
        self.unread(x)
        return x.mean()

    def _hears_of_progress(self, x, progress):
        return 10.0 ** (1 - progress) * x.flatten(1).mean(1)

    def _draws_from_its_own(self, x, progress):
        return torch.rand(len(x), generator=self.generator)

    def _averages_by_foreach(self, x, progress):
        if self.training:
            torch._foreach_lerp_([self.seen], [x.detach().mean()], 0.1)
        return x.mean() * self.seen

    def _exchanges_at_a_look(self, x, progress):
        if not self.training:
            self.mean = x.mean()
        return x.mean() * self.mean

    def _exchanges_a_buffer_at_a_look(self, x, progress):
        if not self.training:
            self.seen = x.mean()
        return x.mean() * self.seen

    def _changes_at_a_look(self, x, progress):
        if not self.training:
            self.beta *= 0.9
        return x.mean()


REFUSED = {
    "replaces a buffer": "it changes ._buffers[seen] in a step",
    "adds to a list": "it changes .told in a step",
    "counts in a mapping": "it changes .state[n] in a step",
    "averages in a mapping": "it changes .state[mean] in a step",
    "averages in an attribute": "it replaces .mean, which it reads",
    "waits for the first batch": "it changes .late in a step",
    "makes an attribute once": "it sets .shift once",
    "draws from Python": "it draws by Python's or numpy's random",
    "draws from numpy": "it draws by Python's or numpy's random",
    "asks for a number": "it reads a number from a tensor",
    "asks numpy": "it reads a number from a tensor",
    "asks a list": "it reads a number from a tensor",
    "makes a tensor of a list": "it reads a number from a tensor",
    "normalises data": "it leaves another",
    "keeps statistics that nobody reads": "it leaves another unread.running_mean",
    "exchanges at a look": ".mean changes between steps",
    "exchanges a buffer at a look": ".seen changes between steps",
    "changes at a look": ".beta changes between steps",
}
REPLAYED = ("hears of progress", "draws from its own", "averages by foreach")


@pytest.mark.parametrize("habit", [*REFUSED, *REPLAYED])
def test_whatever_a_model_keeps_or_reads_it_comes_to_the_numbers_of_step_by_step(habit, monkeypatch):
    def found():
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        return alone(build(Habitual, SCHEMA, {**OPTIONS, "habit": habit.lower()}, 0), 0, LONGER)

    one, history = found()
    monkeypatch.setattr("lvmbench.training.way_of", lambda group: Alone(group[0]))
    other, expected = found()
    assert history.way.startswith(f"step by step: {REFUSED[habit]}" if habit in REFUSED else "replayed")
    assert history.curve == expected.curve
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert len(one.told) == len(other.told)


@pytest.mark.parametrize("steps", [SHORT, 200_000])
def test_what_goes_past_the_weights_is_seen_however_slowly_a_run_begins(steps):
    budget = replace(BUDGET, images=BUDGET.batch * steps)
    ground = Ground(feed(DATA[0], "cpu"), DATA[1], SCHEMA, torch.device("cpu"))
    one = Member(build(Habitual, SCHEMA, {**OPTIONS, "habit": "normalises data"}, 0), 0, budget, ground, None)
    way_of([one])
    assert one.way.startswith("step by step: it leaves another")


def test_a_loss_that_breaks_while_steps_are_replayed_is_told_with_its_step():
    class Breaks(VAE):
        def __init__(self, schema, **options):
            super().__init__(schema, **options)
            self.register_buffer("count", torch.zeros(()))

        def loss(self, x):
            if self.training:
                self.count.add_(1)
            return {
                name: torch.where(self.count == 20, math.nan, term) for name, term in super().loss(x).items()
            }

    with pytest.raises(TrainingError, match="not finite at step 20 of 32"):
        alone(build(Breaks, SCHEMA, OPTIONS, 0), 0, LONGER)


def test_where_there_is_no_memory_for_a_trial_a_member_goes_step_by_step(monkeypatch):
    def none(member):
        raise MemoryError

    monkeypatch.setattr("lvmbench.cohorts.Replayed", none)
    history = alone(build(VAE, SCHEMA, OPTIONS, 0), 0, LONGER)[1]
    assert history.way == "step by step: there was no memory to try more"
    assert history.steps == SHORT


def test_a_state_that_is_no_tensor_keeps_no_model_from_learning():
    class Extra(VAE):
        def get_extra_state(self):
            return {"any": "thing"}

        def set_extra_state(self, state):
            pass

    history = alone(build(Extra, SCHEMA, OPTIONS, 0), 0, LONGER)[1]
    assert history.way.startswith("step by step: ")
