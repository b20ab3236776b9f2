"""The figures of a comparison."""

import itertools

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from coldray.sweep.aggregate import Tables
from coldray.sweep.comparison import Comparison, Point
from coldray.sweep.comparison_figures import _labelled, colour_of, draw_comparison

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


def test_labels_of_methods_that_cost_the_same_are_all_readable():
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], [1, 2])
    figure.draw_without_rendering()
    boxes: list[Bbox] = []
    for name in ("llm", "llmrank-sequential", "llmrank-recency", "taxrec", "kalm4rec", "coldrag"):
        boxes.append(_labelled(axes, name, (1.5, 1.5), boxes))
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert len(axes.texts) == len(boxes)
