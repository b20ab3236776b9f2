from coldray.sweep.aggregate import Tables
from coldray.sweep.comparison import Comparison, Point
from coldray.sweep.comparison_figures import colour_of, draw_comparison

NONE = Tables((), None, (), (), {})


def test_nothing_is_drawn_of_nothing():
    assert draw_comparison(NONE, Comparison((), {}, (), (), None, ())) == {}


def test_values_that_are_no_numbers_are_not_joined():
    points = {
        name: (Point(one, 0.1, 0.05, 9.0, "ab"), Point(two, 0.2, 0.1, 9.0, "cd"))
        for name, one, two in (("hops", "1", "2"), ("scorer", "embedding", "llm"))
    }
    (figure,) = draw_comparison(NONE, Comparison((), points, (), (), None, ())).values()
    lines = {
        axes.get_title(loc="left"): axes.lines[0].get_linestyle()
        for axes in figure.axes
        if axes.get_visible()
    }
    assert lines == {"hops": "-", "scorer": "None"}


def test_each_kind_of_method_has_a_colour():
    assert len({colour_of("delta"), colour_of("llm"), colour_of("coldrag")}) == 3
