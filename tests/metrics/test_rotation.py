"""A rotation of z changes nothing that a linear reader finds, and everything that is asked of single dimensions."""

import pytest
import torch

from lvmbench import Attribute
from lvmbench_metrics import axes, dci, dimensions, disentanglement, probes, usable

ATTRIBUTES = [Attribute(name, "binary") for name in "abcd"]
ALIGNED = {
    "mig": disentanglement.mig_quantile20,
    "mig-width": disentanglement.mig_width20,
    "mig-sup": disentanglement.mig_sup_quantile20,
    "dcimig": disentanglement.dcimig_quantile20,
    "gap": dimensions.dimension_gap,
    "sap": axes.sap_auroc,
    "tad": axes.tad,
    "dci-d": dci.dci_disentanglement_logistic,
    "dci-c": dci.dci_completeness_logistic,
}
FREE = {"auroc": probes.auroc, "explicitness": axes.explicitness, "usable": usable.usable_information}


def score(metric, ev):
    found = metric.compute(ev)
    return sum(s.value for s in found.values()) / len(found) if isinstance(found, dict) else found.value


@pytest.fixture
def pair(coded):
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]

    def draw(n, g):
        z = torch.randn(n, 4, generator=g)
        return z, z + 0.3 * torch.randn(n, 4, generator=g) > 0

    def turned(n, g):
        z, labels = draw(n, g)
        return z @ turn, labels

    return coded(ATTRIBUTES, draw, sizes=(2000, 500, 1000)), coded(
        ATTRIBUTES, turned, sizes=(2000, 500, 1000)
    )


@pytest.mark.parametrize("name", FREE)
def test_what_a_linear_reader_finds_stays(pair, name):
    plain, turned = (score(FREE[name], ev) for ev in pair)
    assert turned == pytest.approx(plain, abs=2e-3)


@pytest.mark.parametrize("name", ALIGNED)
def test_what_single_dimensions_hold_does_not(pair, name):
    plain, turned = (score(ALIGNED[name], ev) for ev in pair)
    assert turned < 0.75 * plain
