import pytest

from lvmbench.api import Metric
from lvmbench.cards import UNKNOWN, Cards
from lvmbench.errors import UsageError
from tests_support import catalog_of

MEASURED = ("elbo", "auroc", "auroc(view=mean)", "knn", "ami(k=64)", "gone")


@pytest.fixture
def cards():
    return Cards(
        catalog_of(
            metrics={
                "elbo": Metric(len, "higher", family="likelihood"),
                "auroc": Metric(len, "higher", headline=True, family="probes"),
                "knn": Metric(len, "higher", family="probes", main=False),
                "ami": Metric(len, "higher", family="clusters"),
            }
        )
    )


def test_main_tables_show_main_metrics_headlines_first_and_no_second_set_of_options(cards):
    assert cards.shown(MEASURED, "main") == ("auroc", "elbo", "ami(k=64)", "gone")


def test_a_family_shows_all_of_its_metrics(cards):
    assert cards.shown(MEASURED, "probes") == ("auroc", "auroc(view=mean)", "knn")
    assert cards.shown(MEASURED, "all") == MEASURED


def test_where_nothing_is_main_all_is_shown(cards):
    assert cards.shown(("knn",), "main") == ("knn",)


def test_an_unknown_family_is_told_with_the_nearest(cards):
    with pytest.raises(UsageError, match="No metrics 'probe'. Did you mean 'probes'"):
        cards.shown(MEASURED, "probe")


def test_a_metric_that_is_gone_has_a_card_that_says_nothing(cards):
    assert cards["gone"] is UNKNOWN
