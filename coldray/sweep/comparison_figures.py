"""The figures of a comparison on users with a cold target."""

import itertools
import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from coldray.sweep.aggregate import Tables
from coldray.sweep.comparison import NDCG, RECALL, Comparison, Point
from coldray.sweep.figures import COLOURS, GRID, INK, STYLE
from coldray.sweep.methods import ASKING, WALKING

CAPTIONS = {
    "comparison": "Recall@10 and NDCG@10 of every method on users whose next item is cold: the mean over runs, a dot for each "
    "run. How far the dots of a method lie apart is its stability.",
    "made-up": "Titles that a model wrote and no catalogue has, share of all it wrote, mean and standard deviation over runs.",
    "analyses": "ColdRAG with one setting changed at a time, one run each.",
    "growth": "ColdRAG while the cold items come into the graph, part by part, one run each.",
    "costs": "Tokens that the model reads and writes for a user, against Recall@10.",
    "graph": "Entities of the graph by type, and relations by the types of their ends.",
}


def draw_comparison(tables: Tables, comparison: Comparison) -> dict[str, Figure]:
    """Return the figures that there is something to draw for, by name."""
    figures: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        if tables.rows:
            figures["comparison"] = _results(tables)
        if any(not math.isnan(row.made_up.mean) for row in comparison.asked):
            figures["made-up"] = _made_up(comparison)
        if comparison.analyses:
            figures["analyses"] = _analyses(comparison)
        if comparison.growth:
            figures["growth"] = _growth(comparison.growth)
        if comparison.asked:
            figures["costs"] = _costs(tables, comparison)
        if comparison.graph:
            figures["graph"] = _graph(comparison.graph)
    return figures


def colour_of(method: str) -> str:
    """Return the colour of a method's kind."""
    if method in WALKING:
        return COLOURS[1]
    return COLOURS[2] if method in ASKING else COLOURS[0]


def _results(tables: Tables) -> Figure:
    rows = sorted(tables.rows, key=lambda row: row.headline[NDCG].mean)
    figure = Figure(figsize=(8, 1.0 + 0.3 * len(rows)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), (RECALL, NDCG), strict=True):
        for place, row in enumerate(rows):
            value, colour = row.headline[metric], colour_of(row.method)
            axes.barh(place, 100 * value.mean, height=0.6, color=colour, alpha=0.35)
            runs = 100 * np.array(value.values)
            axes.plot(runs, np.full(len(runs), place), "o", color=colour, markersize=3.5, alpha=0.8)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.set_title(f"{metric.removeprefix('cold_')}, %")
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
    named = {"trained or counted": COLOURS[0], "model": COLOURS[2], "graph and model": COLOURS[1]}
    bars = [mpl.patches.Patch(color=colour, alpha=0.5, label=name) for name, colour in named.items()]
    figure.legend(handles=bars, loc="outside lower center", ncols=3)
    return figure


def _made_up(comparison: Comparison) -> Figure:
    rows = [row for row in comparison.asked if not math.isnan(row.made_up.mean)]
    figure = Figure(figsize=(8, 0.9 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        axes.barh(place, 100 * row.made_up.mean, height=0.6, color=colour_of(row.label), alpha=0.6)
        axes.errorbar(
            100 * row.made_up.mean, place, xerr=100 * np.nan_to_num(row.made_up.std), color=INK, capsize=3
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_title("Made-up titles, %")
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    return figure


def _analyses(comparison: Comparison) -> Figure:
    count = len(comparison.analyses)
    columns = min(3, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(8, 0.4 + 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, points) in zip(grid, comparison.analyses.items(), strict=False):
        _lines(axes, points, numeric=all(_is_number(point.value) for point in points))
        axes.set_title(name)
    for axes in grid[count:]:
        axes.set_visible(False)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def _growth(points: tuple[Point, ...]) -> Figure:
    figure = Figure(figsize=(8, 3), layout="constrained")
    axes = figure.subplots()
    _lines(axes, points, numeric=True)
    axes.set_xlabel("cold items in the graph")
    axes.legend()
    return figure


def _lines(axes: Any, points: tuple[Point, ...], *, numeric: bool) -> None:
    """Draw recall and NDCG over the values of a setting; what are no numbers are not joined."""
    places = range(len(points))
    for name, i in (("Recall@10, %", 0), ("NDCG@10, %", 1)):
        heights = [100 * (point.recall, point.ndcg)[i] for point in points]
        line = "-" if numeric else "none"
        axes.plot(places, heights, linestyle=line, marker=("o", "s")[i], color=COLOURS[i], label=name)
    axes.set_xticks(list(places), [point.value for point in points])
    axes.set_xlim(-0.4, len(points) - 0.6)
    axes.set_ylim(bottom=0)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _costs(tables: Tables, comparison: Comparison) -> Figure:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    recall = {row.label: row.headline[RECALL].mean for row in tables.rows}
    places = {}
    for row in comparison.asked:
        place = (row.prompt_tokens + row.completion_tokens, 100 * recall.get(row.label, math.nan))
        axes.plot(*place, "o", color=colour_of(row.label), markersize=7)
        places[row.label] = place
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.3)
    axes.set_xlabel("tokens a user")
    axes.set_title("Recall@10, %")
    figure.draw_without_rendering()  # only then is it known where points are
    points = axes.transData.transform([place for place in places.values() if not math.isnan(place[1])])
    taken: list[Any] = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in points]
    for label, place in sorted(places.items(), key=lambda item: item[1]):
        if not math.isnan(place[1]):
            taken.append(_labelled(axes, label, place, taken))
    return figure


def _labelled(axes: Any, label: str, place: tuple[float, float], taken: list[Any]) -> Any:
    """Write a point's label as near to it as neither another label nor a point is in the way; return the box it takes."""
    for step in itertools.count():  # farther off there is always room
        up = 7 + 10 * (step // 2) if step % 2 == 0 else -13 - 10 * (step // 2)
        text = axes.annotate(
            label, place, xytext=(0, up), textcoords="offset points", ha="center", fontsize=8, color=INK
        )
        box = text.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            return box
        text.remove()


def _graph(graph: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    bars, heat = figure.subplots(1, 2)
    names = list(graph["types"])
    counts = [graph["types"][name] for name in names]
    bars.barh(range(len(names)), counts, color=COLOURS[0], alpha=0.6)
    bars.set_yticks(range(len(names)), names)
    bars.invert_yaxis()
    bars.set_title("Entities")
    bars.grid(visible=False, axis="y")
    bars.grid(axis="x")
    table = np.zeros((len(names), len(names)))
    for ends, count in graph["edges"].items():
        one, _, other = ends.partition(" - ")
        if one in names and other in names:
            i, j = names.index(one), names.index(other)
            table[i, j] = table[j, i] = count
    heat.imshow(np.log1p(table), cmap="Blues", aspect="auto")
    for i, j in np.argwhere(table > 0):
        dark = np.log1p(table[i, j]) > 0.6 * np.log1p(table.max())
        heat.text(
            j,
            i,
            f"{table[i, j]:,.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "black",
        )
    heat.set_xticks(range(len(names)), names, rotation=45, ha="right")
    heat.set_yticks(range(len(names)), names)
    heat.set_title("Relations")
    heat.grid(visible=False)
    heat.tick_params(color=GRID)
    return figure
