"""What is trained in bfloat16 is as good as what is trained in float32, in pairs of seeds."""

from statistics import fmean

import numpy as np
import pytest
from scipy import stats

import lvmbench

SEEDS = {"vae": 5, "vae(net=mlp)": 14}  # enough to tell half a deviation from the rounding of each
MARGIN = 0.5  # standard deviations over seeds, in float32


@pytest.fixture(scope="module", params=SEEDS)
def scores(request, tmp_path_factory):
    """ELBO and mean AUROC of every seed of a model, by precision."""

    def of(precision):
        found = lvmbench.run(
            request.param, metrics="elbo,auroc", seeds=SEEDS[request.param], controls=False, precision=precision,
            results=tmp_path_factory.mktemp(precision),
        )  # fmt: skip
        records = sorted(found.records, key=lambda r: r.cell["seed"])
        assert {r.cell["precision"] for r in records} == {precision}
        return {m: [_mean(r, m) for r in records] for m in ("elbo", "auroc")}

    return of("float32"), of("bfloat16")


def _mean(record, metric):
    return fmean(s.value for s in record.scores if s.metric == metric)


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["elbo", "auroc"])
def test_bfloat16_is_no_worse_than_float32_by_half_the_spread_of_seeds(scores, metric):
    exact, fast = (np.array(found[metric]) for found in scores)
    gain = fast - exact
    least = gain.mean() - stats.t.ppf(0.95, len(gain) - 1) * stats.sem(gain)
    assert least > -MARGIN * exact.std(ddof=1)
