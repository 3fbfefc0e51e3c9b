import pytest
import torch

from lvmbench import Attribute
from lvmbench_metrics import blocks as of_blocks
from lvmbench_metrics.blocks import blocks, gram, mean_of, spread_of, times
from lvmbench_metrics.features import features
from lvmbench_metrics.kmeans import assign, step
from lvmbench_metrics.linear import linear_probes
from lvmbench_metrics.logistic import fit, logits


@pytest.fixture
def codes():
    g = torch.Generator().manual_seed(0)
    return 3 + torch.randn(500, 6, generator=g) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1])


@pytest.fixture(params=[1, 70, 10**9])
def cells(request, monkeypatch):
    monkeypatch.setattr(of_blocks, "CELLS", request.param)
    return request.param


def test_blocks_take_every_row_once_and_no_more_numbers_than_are_wanted(codes, cells):
    places = [torch.arange(500)[rows] for rows in blocks(codes, 4)]
    assert torch.equal(torch.cat(places), torch.arange(500))
    assert max(map(len, places)) == min(500, max(1, cells // 10))


def test_sums_by_block_are_those_of_double_precision(codes, cells):
    z = codes.double()
    torch.testing.assert_close(mean_of(codes), z.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(spread_of(codes, z.mean(0)), z.std(0, correction=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(gram(codes), z.T @ z, rtol=1e-12, atol=0)
    matrix = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(times(codes, matrix), (z @ matrix).float())


def test_clusters_do_not_depend_on_the_block(codes, cells):
    centres = codes[:8].view(2, 4, 6)
    near = (codes[None, :, None] - centres[:, None]).square().sum(3).argmin(2)
    assert torch.equal(assign(codes, centres), near)
    means = torch.stack([torch.stack([codes[of == c].mean(0) for c in range(4)]) for of in near])
    torch.testing.assert_close(step(codes, centres), means, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("missing", [False, True])
def test_a_logistic_regression_depends_neither_on_the_block_nor_on_the_precision_of_its_codes(
    codes, cells, missing, monkeypatch
):
    codes = codes[:80]
    x = torch.nn.functional.pad(codes - codes.mean(0), (0, 1), value=1.0)
    labels = (x[:, :2] > torch.randn(80, 2, generator=torch.Generator().manual_seed(1))).long()
    if missing:
        labels[::3, 0] = -1
    found = fit(x, labels, 2, (0.01, 1.0))
    scores = logits(x, found[1])
    monkeypatch.setattr(of_blocks, "CELLS", 10**9)
    reference = fit(x.double(), labels, 2, (0.01, 1.0), 1e-8)
    torch.testing.assert_close(found, reference, rtol=0, atol=2e-3)
    by_hand = torch.einsum("nd,tdo->nto", x.double(), found[1])
    torch.testing.assert_close(scores, by_hand, rtol=1e-12, atol=1e-12)


def test_z_is_read_once_under_whichever_of_its_names(coded):
    def draw(n, g):
        z = torch.randn(n, 3, generator=g)
        return z, z[:, 0] > 0

    ev = coded([Attribute("A", "binary")], draw)
    assert linear_probes(ev, "z") is linear_probes(ev, "mean")
    assert features(ev, "z") is features(ev, "mean")
    assert features(ev, "z").train.dtype == torch.float32
