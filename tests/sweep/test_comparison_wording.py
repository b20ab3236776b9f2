import math

import pytest

from coldray.sweep.aggregate import statistic
from coldray.sweep.comparison import Comparison, Point
from coldray.sweep.comparison_wording import analysis_table, graph_table, growth_table, kind_of, percent

EMPTY = Comparison((), {}, (), (), None, ())


def test_numbers_are_per_cents():
    assert percent(statistic([0.1, 0.2])) == "15.00 ± 7.07"
    assert percent(statistic([0.1])) == "10.00"
    assert percent(statistic([math.nan])) == "–"


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("popularity", "counted"),
        ("delta", "trained"),
        ("tdro", "trained"),
        ("llmrank-recency", "model"),
        ("coldrag-nearest", "graph and model"),
    ],
)
def test_methods_are_told_apart(method, kind):
    assert kind_of(method) == kind


def test_an_analysis_has_a_row_for_each_value_with_its_run():
    table = analysis_table("hops", (Point("2", 0.125, 0.0625, 1234.4, "ab"),))
    assert table.columns[0] == "hops"
    assert table.rows == (("2", "12.50", "6.25", "1,234", "ab"),)


def test_what_is_not_there_makes_no_rows():
    assert growth_table(EMPTY).rows == ()
    assert graph_table(EMPTY).rows == ()
