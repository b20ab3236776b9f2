"""The figures of a report: drawn without a display and without pyplot, as SVG for pages and PNG for documents.

Colours are Okabe and Ito's, told apart by colour-blind readers too; what differs in colour differs in shape.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coldray.sweep import artifacts as a
from coldray.sweep.aggregate import Row, Tables

INK, GRID = "#24292f", "#8b949e"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = {"history-average": (0, (1, 1.5)), "content-init": (0, (6, 2, 1, 2))}
"""methods without K that are drawn beside the baseline, with their dashes"""
PNG_DPI = 200
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def draw(tables: Tables) -> dict[str, Figure]:
    """Return the figures that the results give, by name: `cold-by-k`, `gates`, `gains`. May be none."""
    transfer = [row for row in tables.rows if row.k is not None]
    figures: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        if transfer and tables.counts["cold_users"]:
            figures["cold-by-k"] = _cold_by_k(tables, transfer)
        selected = [row for row in tables.rows if row.selections and row.selections[0].finalists]
        if selected and tables.counts["cold_users"]:
            figures["trade-off"] = _trade_off(tables, selected[0].selections[0])
        if any(row.gates for row in transfer):
            figures["gates"] = _gates([row for row in transfer if row.gates])
        if tables.gains:
            figures["gains"] = _gains(tables)
    return figures


def png(figure: Figure) -> bytes:
    """Return a figure as PNG on white."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=PNG_DPI, facecolor="white", metadata={"Software": None})
    return sink.getvalue()


def svg(figure: Figure, name: str) -> str:
    """Return a figure as an SVG element for a page: text in the page's colour, ids of its own, no address."""
    sink = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = sink.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 role="img"', text, count=1)
    return text.replace(INK, "currentColor")


def _cold_by_k(tables: Tables, transfer: Sequence[Row]) -> Figure:
    """Return cold NDCG and Recall against K, mean and standard deviation over seeds, beside what has no K."""
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    ks = sorted({row.k for row in transfer if row.k is not None})
    methods = list(dict.fromkeys(row.method for row in transfer))
    flat = [row for row in tables.rows if row.k is None and (row is tables.baseline or row.method in LINES)]
    for axes, metric in zip(figure.subplots(1, 2), ("cold_NDCG@10", "cold_Recall@10"), strict=True):
        for row in flat:
            _flat_line(axes, row, metric, row is tables.baseline)
        for i, method in enumerate(methods):
            rows = [row for row in transfer if row.method == method]
            shift = 0.12 * (i - (len(methods) - 1) / 2)
            axes.errorbar(
                [ks.index(row.k or 0) + shift for row in rows],
                [row.headline[metric].mean for row in rows],
                yerr=np.nan_to_num([row.headline[metric].std for row in rows]),
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=6,
                linewidth=1.8,
                capsize=3,
                label=method,
                zorder=3,
            )
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set_xlim(-0.4, len(ks) - 0.6)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("K, neighbours of a cold item")
        axes.set_title(f"{metric.replace('cold_', 'Cold ')}, mean ± s.d. over seeds")
    _legend(figure, figure.axes[0], len(flat) + len(methods))
    return figure


def _flat_line(axes: Axes, row: Row, metric: str, baseline: bool) -> None:
    """Draw what does not depend on K: a line, with a band of one standard deviation for the baseline."""
    value = row.headline[metric]
    label = f"{row.label} (baseline)" if baseline else row.label
    axes.axhline(
        value.mean, color=INK, linewidth=1.4, linestyle="-" if baseline else LINES[row.method], label=label
    )
    if baseline:
        std = float(np.nan_to_num(value.std))
        axes.axhspan(value.mean - std, value.mean + std, color=GRID, alpha=0.25, linewidth=0)


def _trade_off(tables: Tables, selection: a.SelectionSpec) -> Figure:
    """Return cold against warm NDCG@10: of the settings that were tried, and of the methods on the test users."""
    figure = Figure(figsize=(8, 3.9), layout="constrained")
    tried, test = figure.subplots(1, 2)
    for item in selection.finalists:
        tried.plot(item.warm, item.cold, color=GRID, linewidth=0.6, alpha=0.6)
    cold, warm = selection.before or (0.0, 0.0)
    tried.scatter(warm, cold, s=60, color=INK, marker="X", label="no transfer", zorder=3)
    nothing = [item for item in selection.finalists if item.transfer is None]
    tried.plot(
        nothing[0].warm, nothing[0].cold, color=INK, linewidth=1.6, label="no transfer, exposure alone"
    )
    paper = selection.finalists[len(nothing)]
    tried.plot(paper.warm, paper.cold, color=COLOURS[0], linewidth=1.6, label="the paper's, K=10")
    _chosen_curve(tried, selection)
    points = [point for item in selection.finalists for point in zip(item.cold, item.warm, strict=True)]
    near = np.array([point for point in points if point[1] > 0.95 * warm])
    tried.set_xlim(0.95 * warm, 1.005 * near[:, 1].max())
    tried.set_ylim(0, 1.1 * near[:, 0].max())
    tried.set_title("Pseudo-cold items, all exposures")
    rows = [row for row in tables.rows if row is tables.baseline or row.k is not None or row.selections]
    for i, row in enumerate(rows):
        across, up = row.headline["warm_NDCG@10"], row.headline["cold_NDCG@10"]
        colour = INK if row is tables.baseline else COLOURS[i % len(COLOURS)]
        marker = "X" if row is tables.baseline else "*" if row.selections else MARKERS[i % len(MARKERS)]
        spread = {"xerr": np.nan_to_num(across.std), "yerr": np.nan_to_num(up.std)}
        test.errorbar(
            across.mean, up.mean, **spread, fmt=marker, color=colour, markersize=7, capsize=2, label=row.label
        )
    test.set_title("Test users, mean ± s.d. over seeds")
    for axes in (tried, test):
        axes.set_xlabel("warm NDCG@10")
        axes.grid(axis="x")
        axes.legend(fontsize=8)
    tried.set_ylabel("cold NDCG@10")
    return figure


def _chosen_curve(axes: Axes, selection: a.SelectionSpec) -> None:
    """Draw the transfer that was chosen, if one was: its curve and, with a star, the exposure that was taken."""
    if selection.transfer is None:
        return
    exposure, bound = selection.transfer["exposure"], selection.max_delta_norm
    for item in selection.finalists:
        if item.transfer is None or item.max_delta_norm != bound or exposure not in item.exposures:
            continue
        if item.transfer | {"exposure": exposure} == selection.transfer:
            axes.plot(item.warm, item.cold, color=COLOURS[1], linewidth=1.8, label="the chosen one's")
            place = item.exposures.index(exposure)
            point = item.warm[place], item.cold[place]
            axes.scatter(*point, s=90, color=COLOURS[1], marker="*", label="chosen", zorder=4)
            break


def _gates(rows: Sequence[Row]) -> Figure:
    """Return how the gates of the cold items are spread, one panel for each K whose gates differ."""
    panels: list[tuple[list[str], a.Float]] = []
    for row in rows:
        pooled = np.concatenate(row.gates)
        same = next((names for names, gates in panels if np.array_equal(gates, pooled)), None)
        if same is None:
            panels.append(([row.label], pooled))
        else:
            same.append(f"K={row.k}")
    # As wide as the other figures, so that its letters are of their size on a page.
    figure = Figure(figsize=(8.0, 2.8), layout="constrained")
    for i, (axes, (names, gates)) in enumerate(
        zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True)
    ):
        weights = np.full(len(gates), 100 / max(1, len(gates)))
        axes.hist(gates, bins=np.linspace(0, 1, 21), weights=weights, color=COLOURS[0], rwidth=0.9)
        mean = gates.mean() if len(gates) else 0.0
        axes.axvline(mean, color=COLOURS[1], linewidth=1.6, linestyle="--")
        side = "right" if mean > 0.5 else "left"
        offset = -0.06 if mean > 0.5 else 0.06
        place = axes.get_xaxis_transform()
        axes.text(
            mean + offset, 0.97, f"mean {mean:.2f}", transform=place, ha=side, va="top", color=COLOURS[1]
        )
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel("gate g")
        axes.set_title(names[0].replace(" K=", "\nK=") + "".join(f", {name[2:]}" for name in names[1:]))
        if i == 0:
            axes.set_ylabel("cold items (%)")
    return figure


def _gains(tables: Tables) -> Figure:
    """Return the gain over the baseline per similarity and popularity of the target, with 95% intervals over users."""
    transfer = {row.label: row for row in tables.rows if row.k is not None or row.selections}
    chosen = [gain for gain in tables.gains if not transfer or gain.label in transfer]
    methods = {row.method for row in transfer.values()}
    labels = list(dict.fromkeys(gain.label for gain in chosen))[: len(COLOURS)]
    buckets = list(dict.fromkeys((gain.bucket, gain.users) for gain in chosen))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0, color=INK, linewidth=1)
    for i, label in enumerate(labels):
        gains = [gain.interval for gain in chosen if gain.label == label]
        shift = 0.14 * (i - (len(labels) - 1) / 2)
        means = np.array([interval.mean for interval in gains])
        ends = np.array([(interval.low, interval.high) for interval in gains]).T
        axes.errorbar(
            np.arange(len(gains)) + shift,
            means,
            yerr=np.abs(ends - means),
            fmt=MARKERS[i],
            color=COLOURS[i],
            markersize=6,
            linewidth=1.6,
            capsize=3,
            label=f"K={transfer[label].k}" if len(methods) == 1 else label,
        )
    parts = [(name.replace("cosine ", "cosine, ").split(", "), users) for name, users in buckets]
    names = ["\n".join([*lines, f"{users:,} users"]) for lines, users in parts]
    axes.set_xticks(range(len(buckets)), names)
    axes.set_xlabel(
        "cold targets by the cosine of their nearest warm item; warm ones by training interactions"
    )
    what = f"NDCG@10 that {methods.pop()} gains" if len(methods) == 1 else "NDCG@10 gained"
    axes.set_title(f"{what} over {tables.baseline.label if tables.baseline else ''}, 95% interval over users")
    _legend(figure, axes, len(labels))
    return figure


def _legend(figure: Figure, axes: Axes, entries: int) -> None:
    """Put one legend for all panels above them."""
    handles, labels = axes.get_legend_handles_labels()
    columns = min(entries, max(1, 88 // (max(map(len, labels)) + 7)))  # as many as the width has room for
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=2.2)
