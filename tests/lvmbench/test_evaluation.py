import pytest
import torch

from lvmbench import Budget, Evaluation, NotApplicable, Schema, Split
from lvmbench.evaluation import ENCODE_BATCH
from lvmbench.statistics import bootstrap_weights


class Counting:
    def __init__(self):
        self.seen = 0

    def encode(self, x):
        self.seen += len(x)
        return x[..., :2]

    def views(self):
        return {"noisy": lambda x: torch.randn(len(x), 3)}


def part(n, groups=None):
    images = torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(n)).to(torch.uint8)
    return Split(images, torch.full((n, 1), float("nan")), torch.arange(n), groups)


def evaluation(model=None, n=ENCODE_BATCH + 10, groups=None, **options):
    splits = {"train": part(20), "test": part(n, groups)}
    return Evaluation(model or Counting(), Schema((1, 4, 4), "gaussian"), splits, Budget(), **options)


def test_each_picture_is_encoded_once_whoever_asks():
    ev = evaluation()
    first, second = ev.codes(), ev.codes()
    assert ev.model.seen == ENCODE_BATCH + 10
    assert torch.equal(first, second)


def test_codes_are_flat_rows_in_the_order_of_the_pictures():
    ev = evaluation()
    x = torch.cat(list(ev.batches()))
    assert torch.equal(ev.codes(), x[..., :2].flatten(1))


def test_every_model_sees_the_same_pixel_noise_whatever_its_seed():
    one, other = evaluation(seed=1), evaluation(seed=2)
    assert torch.equal(torch.cat(list(one.batches())), torch.cat(list(other.batches())))


def test_the_noise_of_the_first_rows_does_not_depend_on_how_many_are_asked_for():
    ev = evaluation()
    assert torch.equal(next(ev.batches("test", ENCODE_BATCH)), next(ev.batches()))


def test_a_view_that_draws_is_the_same_for_one_seed_and_leaves_the_callers_stream_alone():
    state = torch.get_rng_state()
    one, same, other = (evaluation(seed=s).codes("test", "noisy") for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_view_that_the_model_lacks_is_not_applicable_and_names_those_it_has():
    with pytest.raises(NotApplicable, match="mean, noisy"):
        evaluation().codes("test", "one-hot")
    with pytest.raises(NotApplicable, match="encode"):
        evaluation(model=object()).codes()


def test_stored_codes_are_used_instead_of_the_model():
    stored = torch.ones(3, 2)
    assert torch.equal(evaluation(codes={"test/mean": stored}).codes(), stored)


def test_what_metrics_share_is_computed_once_for_each_set_of_options():
    calls = []

    def compute(ev, k):
        calls.append(k)
        return torch.rand(2)

    ev = evaluation()
    assert torch.equal(ev.shared(compute, k=1), ev.shared(compute, k=1))
    ev.shared(compute, k=2)
    assert calls == [1, 2]
    assert torch.equal(evaluation().shared(compute, k=1), ev.shared(compute, k=1))


def test_of_what_is_large_only_the_latest_is_kept_and_it_draws_what_shared_would():
    calls = []

    def compute(ev, k):
        calls.append(k)
        return torch.rand(2)

    ev = evaluation()
    first = ev.recent(compute, k=1)
    assert ev.recent(compute, k=1) is first
    ev.recent(compute, k=2)
    again = ev.recent(compute, k=1)
    assert calls == [1, 2, 1]
    assert torch.equal(again, first)
    assert torch.equal(ev.shared(compute, k=1), first)
    assert torch.equal(ev.fresh(compute, k=1), first)
    assert calls == [1, 2, 1, 1, 1]


def test_weights_are_keyed_by_row():
    assert torch.equal(evaluation().weights(7), bootstrap_weights(range(7)))


def test_weights_are_keyed_by_identity_where_identities_are_known():
    ev = evaluation(n=4, groups=torch.tensor([8, 8, 1, 8]))
    assert torch.equal(ev.weights(), bootstrap_weights([8, 8, 1, 8]))


def test_a_named_generator_starts_anew_each_time():
    ev = evaluation()
    draws = [torch.rand(3, generator=ev.generator(name)) for name in ("a", "a", "b")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_unless_told_otherwise_codes_are_what_the_decoder_takes():
    class Symbols(Counting):
        decoded_view = "one-hot"

        def views(self):
            return {"one-hot": lambda x: torch.eye(3)[torch.zeros(len(x), dtype=torch.long)]}

    ev = evaluation(Symbols(), n=4)
    assert ev.codes().tolist() == [[1, 0, 0]] * 4
    assert torch.equal(ev.codes("test", "z"), ev.codes("test", "one-hot"))
    assert ev.codes("test", "mean").shape == (4, 2 * 4)
    assert torch.equal(evaluation(n=4).codes(), evaluation(n=4).codes("test", "mean"))


def test_a_judge_that_cannot_be_had_is_tried_once():
    asked = []

    def judge():
        asked.append(1)
        raise RuntimeError("no")

    ev = evaluation(judge=judge)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            ev.judge  # noqa: B018
    assert asked == [1]
    with pytest.raises(NotApplicable, match="no ceiling"):
        evaluation().judge  # noqa: B018
