import torch

from lvmbench import Attribute
from lvmbench_metrics.codes import weights_of


def test_weights_are_those_of_the_rows_that_are_asked_for_in_their_order(coded):
    ev = coded(
        [Attribute("a", "binary")], lambda n, g: (torch.zeros(n, 1), torch.zeros(n, 1)), sizes=(2, 2, 50)
    )
    everyone = torch.arange(50)
    for rows in (everyone, everyone.flip(0), everyone[::3], everyone % 2 == 0, everyone >= 0):
        assert torch.equal(weights_of(ev, rows), ev.weights()[:, rows])
