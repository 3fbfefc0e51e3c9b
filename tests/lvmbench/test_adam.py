import subprocess
import sys

import pytest
import torch

from lvmbench.adam import Adam
from lvmbench.errors import TrainingError

BETAS = (0.8, 0.95)


def both(parameter, gradients, rates):
    """Return a parameter after the steps of torch's plain Adam, and after ours."""
    found = []
    for ours in (False, True):
        p = torch.nn.Parameter(parameter.detach().clone())
        theirs, adam = torch.optim.Adam([p], betas=BETAS, foreach=False), Adam([p], BETAS)
        for gradient, rate in zip(gradients, rates, strict=True):
            if ours:
                adam.step([gradient], rate)
                continue
            theirs.param_groups[0]["lr"] = rate
            p.grad = None if gradient is None else gradient.contiguous().clone()
            theirs.step()
        found.append(p.detach())
    return found


@pytest.mark.parametrize("layout", ["as it comes", "channels last"])
@pytest.mark.parametrize("slope", ["as it comes", "channels last", "turned round"])
def test_it_is_torchs_adam_however_parameters_and_gradients_lie_in_memory(layout, slope):
    torch.manual_seed(0)
    parameter, *gradients = torch.randn(6, 4, 3, 5, 5)
    if layout == "channels last":
        parameter = parameter.contiguous(memory_format=torch.channels_last)
    if slope == "channels last":
        gradients = [g.contiguous(memory_format=torch.channels_last) for g in gradients]
    if slope == "turned round":
        gradients = [g.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for g in gradients]
    theirs, ours = both(parameter, gradients, [1e-2, 3e-2, 1e-2, 2e-2, 1e-3])
    torch.testing.assert_close(ours, theirs)


def test_a_parameter_without_a_gradient_stays_and_its_steps_do_not_count():
    gradients = [torch.ones(2), None, torch.tensor([1.0, -2.0])]
    theirs, ours = both(torch.zeros(2), gradients, [0.1] * 3)
    torch.testing.assert_close(ours, theirs)
    lonely = Adam([torch.zeros(2)], BETAS)
    lonely.step([None], 0.1)
    assert not any(moment.any() for moment in lonely.state().values())


def test_each_parameter_counts_the_steps_in_which_it_had_a_gradient():
    adam = Adam([torch.zeros(2), torch.zeros(3)], BETAS)
    for second in (torch.ones(3), None, torch.ones(3)):
        adam.step([torch.ones(2), second], 0.1)
    assert {n: int(t) for n, t in adam.state().items() if n.endswith("step")} == {"0/step": 3, "1/step": 2}


def test_members_count_on_after_they_were_served():
    members = [Adam([torch.zeros(2), torch.zeros(1)], BETAS) for _ in range(2)]
    whole = Adam([torch.zeros(2, 2), torch.zeros(2, 1)], BETAS)
    whole.serve(members)
    whole.step([torch.ones(2, 2), torch.ones(2, 1)], 0.1)
    for member in members:
        member.part()
    members[1].step([torch.ones(2), torch.ones(1)], 0.1)
    steps = [[int(t) for n, t in m.state().items() if n.endswith("step")] for m in (*members, whole)]
    assert steps == [[1, 1], [2, 2], [1, 1]]


def test_training_loads_no_compiler():
    told = """
import sys, torch
from lvmbench import VAE, Budget, Schema, Split, build, fit
schema = Schema((1, 8, 8), "bernoulli")
data = Split(torch.zeros(8, 1, 8, 8, dtype=torch.uint8), torch.empty(8, 0), torch.arange(8))
fit(build(VAE, schema, {"net": "conv"}, 0), data, data, Budget("b", images=32, batch=8), schema, seed=0)
print("torch._dynamo" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_parameters_of_two_types_and_one_given_twice_move_as_they_should():
    single, double = torch.zeros(2), torch.zeros(2, dtype=torch.float64)
    adam = Adam([single, double, single], BETAS)
    adam.step([torch.ones(2), -torch.ones(2, dtype=torch.float64)], 0.1)
    torch.testing.assert_close((single, double), (torch.full((2,), -0.1), torch.full((2,), 0.1).double()))


def test_a_parameter_with_gaps_between_its_numbers_is_refused():
    with pytest.raises(TrainingError, match=r"shape \[4\] has gaps in memory"):
        Adam([torch.zeros(8)[::2]], BETAS)
