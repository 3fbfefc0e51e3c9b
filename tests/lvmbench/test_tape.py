"""A tape runs again what ran: the same operators, on what the tensors hold by then, with the next random numbers."""

import dis
import subprocess
import sys

import pytest
import torch
from torch import nn

from lvmbench.tape import Unrepeatable, taken_down


def replayed(work):
    """Return what runs a computation again, after it was taken down."""
    with taken_down() as tape:
        told = work()
    return tape.replay(told)


def assert_repeats(work, change):
    """Hold what is run again, after a change of its tensors, to the computation itself."""
    again = replayed(work)
    change()
    expected, found = work(), again()
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_loss_and_its_gradients_follow_their_inputs_and_weights():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)

    def work():
        loss = net(x).square().sum()
        return {"slopes": list(torch.autograd.grad(loss, list(net.parameters()))), "loss": loss.detach()}

    def change():
        x.normal_()
        with torch.no_grad():
            net[0].weight.mul_(2)

    assert_repeats(work, change)


def test_it_needs_no_autograd():
    weight = torch.ones(3, requires_grad=True)
    again = replayed(lambda: torch.autograd.grad((weight * 2).sum(), [weight]))
    with torch.inference_mode():
        (slope,) = again()
    assert slope.tolist() == [2, 2, 2]


def test_casts_of_autocast_are_part_of_it():
    net, x = nn.Linear(3, 2), torch.randn(4, 3)

    def work():
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    assert replayed(work)().dtype == torch.bfloat16
    with torch.no_grad():
        assert_repeats(work, lambda: x.normal_())


def test_random_numbers_are_the_next_ones_even_where_nobody_reads_some():
    def work():
        torch.randn(7)
        return torch.rand(3) + torch.empty(3).random_(5)

    again = replayed(work)
    torch.manual_seed(0)
    expected = [work(), work()]
    torch.manual_seed(0)
    torch.testing.assert_close([again(), again()], expected, rtol=0, atol=0)


def test_what_is_changed_in_place_is_changed_again():
    count, mean = torch.zeros(()), torch.zeros(2)

    def work():
        count.add_(1)
        mean.lerp_(torch.ones(2), 0.5)
        return mean[0] + count

    again = replayed(work)
    assert [float(again()), float(again())] == [2 + 0.75, 3 + 0.875]


def test_what_is_changed_through_a_view_of_it_is_read_as_changed():
    x = torch.zeros(4)

    def work():
        fresh = x * 2
        fresh[1:3].add_(1)
        first, second = fresh.split(2)
        return [first, second.sum()]

    assert_repeats(work, lambda: x.fill_(3))


def test_a_number_of_python_begins_anew_each_time():
    again = replayed(lambda: torch.tensor(1.0).add_(1))
    assert [float(again()), float(again())] == [2, 2]


def test_a_view_of_what_lies_still_is_taken_once():
    weight = torch.arange(6.0).reshape(2, 3)
    again = replayed(lambda: weight.T.sum(1))
    assert list(again.__code__.co_varnames) == ["v0"]  # the sum
    weight.fill_(1)
    assert again().tolist() == [2, 2, 2]


def test_what_nobody_reads_is_left_out_and_what_was_read_is_let_go():
    x = torch.ones(2)

    def work():
        x.exp()
        return (x * 2 + 1).sqrt()

    again = replayed(work)
    assert len(again.__code__.co_varnames) == 3
    let_go = {i.argval for i in dis.get_instructions(again) if i.opname == "DELETE_FAST"}
    assert let_go == {"v0", "v1"}


def test_nothing_and_several_of_one_call_are_returned_as_they_were():
    x, unused = torch.randn(3, 2, requires_grad=True), torch.ones(1, requires_grad=True)

    def work():
        values, places = x.max(1)
        return [torch.autograd.grad(values.sum(), [x, unused], allow_unused=True), {"places": places}]

    (slope, none), told = replayed(work)()
    assert none is None
    assert torch.equal(told["places"], x.argmax(1))
    assert slope.sum() == 3


@pytest.mark.parametrize(
    ("work", "by"),
    [
        (lambda x: x * x.sum().item(), "local_scalar"),
        (lambda x: x if x.sum() > 0 else -x, "local_scalar"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.masked_select(x > 0), "masked_select"),
        (lambda x: x * float(x.numpy()[0]), "numpy"),
        (lambda x: x * x.tolist()[0], "tolist"),
        (lambda x: torch.tensor([x[0], x[1]]), "tensor"),
        (lambda x: torch.tensor(data=[x[0]]), "tensor"),
        (lambda x: x.new_tensor([x[0], x[1]]), "tensor"),
        (lambda x: x[None].clone().squeeze_(0), "squeeze_"),
    ],
)
def test_what_hangs_on_the_value_of_a_number_is_refused(work, by):
    with pytest.raises(Unrepeatable, match=by), taken_down():
        work(torch.ones(3))


def test_an_index_of_numbers_is_not():
    x, places = torch.arange(5.0), torch.tensor([3, 1])
    again = replayed(lambda: x[places])
    places.copy_(torch.tensor([0, 4]))
    assert again().tolist() == [0, 4]


def test_several_tensors_are_changed_in_place_at_once():
    x = [torch.ones(2), torch.ones(3)]
    again = replayed(lambda: torch._foreach_mul_(x, 2))
    again()
    assert x[0].tolist() == [4, 4]


def test_torchs_compiler_stays_unloaded():
    code = """
import sys, torch
from lvmbench.tape import taken_down
with taken_down():
    torch.ones(2) + 1
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
