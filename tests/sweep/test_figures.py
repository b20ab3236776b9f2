"""The figures: drawn from any tables, fit for a page, and the same each time."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from coldray.evaluation.significance import Interval
from coldray.sweep import artifacts as a
from coldray.sweep import figures
from coldray.sweep.aggregate import Gain, Row, Statistic, Tables


def row(method, k, level):
    values = {metric: Statistic(level, 0.01, (level,)) for metric in a.METRICS}
    gates = (np.linspace(0.1, 0.9, 20),) if k else ()
    return Row(method, k, (1,), ("ab" * 16,), dict.fromkeys(a.PROTOCOLS, values), gates)


@pytest.fixture
def tables():
    rows = (
        row("delta", None, 0.1),
        *(row("delta+knn+gate", k, 1 / k) for k in (10, 25)),
        row("delta+knn", 10, 0.2),
    )
    gains = tuple(
        Gain(r.label, name, 5, Interval(0.1, 0.0, 0.2)) for r in rows[1:] for name in ("cold", "1–9")
    )
    return Tables(rows, rows[0], (), gains, {"users": 10, "cold_users": 5, "warm_users": 5})


@pytest.fixture
def selection():
    made = [None, {"k": 10, "exposure": None}, {"k": 2, "exposure": None}]
    common = {"max_delta_norm": 0.5, "exposures": [0.5, 1, 2], "errors": [[0.01] * 3, [0.01] * 3]}
    tried = [
        {"transfer": m, "cold": [0.05, 0.1 + i / 50, 0.2], "warm": [0.31, 0.3, 0.28]} | common
        for i, m in enumerate(made)
    ]
    said = {"transfer": {"k": 2, "exposure": 2.0}, "max_delta_norm": 0.5, "reason": "made up"}
    said |= {"before": [0.1, 0.3], "tried": tried[1:], "finalists": tried, "verdicts": []}
    said |= {"users": [[5, 5], [5, 5]], "alignment": 0.3}
    return a.SelectionSpec.model_validate(said | {"seconds": 1.0, "training_seconds": 2.0})


def test_a_chosen_transfer_is_drawn_as_a_trade_off(tables, selection):
    chosen = replace(row("delta+selected", None, 0.3), selections=(selection,))
    drawn = figures.draw(replace(tables, rows=(*tables.rows, chosen)))
    assert list(drawn) == ["cold-by-k", "trade-off", "gates", "gains"]
    tried, test = drawn["trade-off"].axes
    assert [text.get_text() for text in tried.get_legend().get_texts()] == [
        "no transfer",
        "no transfer, exposure alone",
        "the paper's, K=10",
        "the chosen one's",
        "chosen",
    ]
    assert "delta+selected" in [text.get_text() for text in test.get_legend().get_texts()]
    assert imread(io.BytesIO(figures.png(drawn["trade-off"]))).shape[1] > 600


def test_all_are_drawn(tables):
    drawn = figures.draw(tables)
    assert list(drawn) == ["cold-by-k", "gates", "gains"]
    for figure in drawn.values():
        image = imread(io.BytesIO(figures.png(figure)))
        assert image.shape[1] > 600
        assert image[..., :3].std() > 0.01


def test_equal_gates_share_a_panel(tables):
    assert len(figures.draw(tables)["gates"].axes) == 1


def test_lines_are_at_the_means(tables):
    axes = figures.draw(tables)["cold-by-k"].axes[0]
    drawn = {line.get_label(): line for line in axes.get_lines()}
    assert drawn["delta (baseline)"].get_ydata()[0] == pytest.approx(0.1)
    points = [container.lines[0].get_ydata() for container in axes.containers]
    assert [list(values) for values in points] == [pytest.approx([0.1, 0.04]), pytest.approx([0.2])]


def test_svg_is_fit_for_a_page(tables):
    drawn = figures.draw(tables)
    texts = [figures.svg(figure, name) for name, figure in drawn.items()]
    assert texts == [figures.svg(figure, name) for name, figure in figures.draw(tables).items()]
    ids = [found for text in texts for found in re.findall(r' id="([^"]+)"', text)]
    assert len(ids) == len(set(ids))
    for text in texts:
        used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
        assert used <= set(ids)
        assert "http" not in text
        assert "currentColor" in text
        assert "NaN" not in text


def test_without_transfer_there_is_nothing_to_draw(tables):
    alone = Tables(tables.rows[:1], tables.rows[0], (), (), tables.counts)
    assert figures.draw(alone) == {}
