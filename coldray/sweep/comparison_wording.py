"""A comparison on users with a cold target, in words and in tables of text."""

import math

from coldray.sweep import artifacts as a
from coldray.sweep.aggregate import Difference, Row, Statistic, Tables
from coldray.sweep.comparison import NDCG, RECALL, Comparison, Point
from coldray.sweep.methods import ASKING, CONTENT, TRAINED, WALKING
from coldray.sweep.wording import DASH, TextTable, p_value

MADE_UP = (
    "Of the titles that a model writes, those that are in no catalogue, by the same rule for all methods."
)


def percent(value: Statistic) -> str:
    """Return mean ± standard deviation in per cent, the deviation left out of one run."""
    if math.isnan(value.mean):
        return DASH
    return f"{100 * value.mean:.2f}" + ("" if math.isnan(value.std) else f" ± {100 * value.std:.2f}")


def compared_headline(spec: a.SweepSpec, tables: Tables) -> str:
    """Return the finding: the best method, and how ColdRAG does against the best of the others."""
    where, users = f"{spec.dataset.path} ({spec.dataset.split})", tables.counts["cold_users"]
    if not tables.rows or tables.baseline is None:
        return f"No comparison on {where} can be made yet: the runs it needs are missing."
    best = max(tables.rows, key=lambda row: row.headline[NDCG].mean)
    said = (
        f"Among {len(tables.rows)} methods on {where}, tested on {users} users whose next item is cold, {best.label} has the "
        f"highest NDCG@10, {percent(best.headline[NDCG])}% (Recall@10 {percent(best.headline[RECALL])}%)."
    )
    ours = next((row for row in tables.rows if row.method == "coldrag"), None)
    if ours is None or ours is tables.baseline:
        return said
    return f"{said} {_against(ours, tables.baseline, tables.difference(ours, NDCG))}"


def _against(ours: Row, other: Row, difference: Difference | None) -> str:
    scores = f"{percent(ours.headline[NDCG])}% against {percent(other.headline[NDCG])}%"
    pair = f"{ours.label} and the best of the others, {other.label}: NDCG@10 {scores}"
    if difference is None:
        return f"{pair}."
    low, high = 100 * difference.interval.low, 100 * difference.interval.high
    sure = "a significant difference" if difference.significant else "a difference that chance may explain"
    interval = f"{low:+.2f} to {high:+.2f}".replace("-", "−")
    evidence = f"95% interval of the difference {interval} points, adjusted p {p_value(difference.p_holm)}"
    return f"{pair}; {evidence}: {sure}."


def comparison_table(tables: Tables, comparison: Comparison) -> TextTable:
    """Return what the paper's table has, and what it cost."""
    asked = {row.label: row for row in comparison.asked}
    rows = []
    for row in tables.rows:
        cost = asked.get(row.label)
        difference = tables.difference(row, NDCG)
        p = "compared with" if row is tables.baseline else p_value(difference.p_holm) if difference else DASH
        rows.append(
            (
                row.label,
                kind_of(row.method),
                str(len(row.seeds)),
                percent(row.headline[RECALL]),
                percent(row.headline[NDCG]),
                p,
                DASH if cost is None else percent(cost.made_up),
            )
        )
    columns = (
        "method",
        "kind",
        "runs",
        "Recall@10 %",
        "NDCG@10 %",
        "p (Holm)",
        "made-up titles %",
    )
    return TextTable("comparison", "Users whose next item is cold", columns, tuple(rows))


def kind_of(method: str) -> str:
    """Return what sort of method it is."""
    if method in WALKING:
        return "graph and model"
    if method in ASKING:
        return "model"
    return "trained" if method in (*CONTENT, *TRAINED) else "counted"


def cost_table(comparison: Comparison) -> TextTable:
    """Return what each method asks of the model, a user."""
    rows = tuple(
        (
            row.label,
            f"{row.calls:.1f}",
            f"{row.prompt_tokens:,.0f}",
            f"{row.completion_tokens:,.0f}",
            f"{row.seconds:.2f}",
            DASH if math.isnan(row.cost) else f"{row.cost:.6f}",
        )
        for row in comparison.asked
    )
    columns = ("method", "questions", "tokens read", "tokens written", "seconds", "cost")
    note = (
        "A user, mean over runs. Every answer is counted as if it were asked for the first time; seconds are those of the "
        "slowest run over its users, many of whom were served at once."
    )
    return TextTable("costs", "What the language model is asked", columns, rows, note)


def analysis_table(name: str, points: tuple[Point, ...]) -> TextTable:
    """Return one analysed setting."""
    return TextTable(f"analysis-{name}", f"ColdRAG by {name}", (name, *_POINT), _points(points))


def growth_table(comparison: Comparison) -> TextTable:
    """Return ColdRAG while the cold items come into the graph."""
    note = "Users whose next item is not in the graph yet cannot get it."
    columns = ("cold items in the graph", *_POINT)
    return TextTable("growth", "ColdRAG as the graph grows", columns, _points(comparison.growth), note)


_POINT = ("Recall@10 %", "NDCG@10 %", "tokens a user", "run")


def _points(points: tuple[Point, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (p.value, f"{100 * p.recall:.2f}", f"{100 * p.ndcg:.2f}", f"{p.tokens:,.0f}", p.run_id)
        for p in points
    )


def graph_table(comparison: Comparison) -> TextTable:
    """Return what the graph is made of."""
    graph = comparison.graph or {}
    total = max(1, graph.get("entities", 1))
    rows = [
        (kind, f"{count:,}", f"{100 * count / total:.0f}%") for kind, count in graph.get("types", {}).items()
    ]
    note = (
        f"{total:,} entities and {graph.get('relations', 0):,} relations; {graph.get('largest', 0):,} entities hang together, "
        f"{graph.get('isolated', 0):,} have no relation."
        if graph
        else ""
    )
    return TextTable("graph", "The graph", ("type", "entities", "share"), tuple(rows), note)


def search_table(comparison: Comparison) -> TextTable:
    """Return the settings that were tried for the trained baselines, on items taken out of training."""
    rows = []
    for search in comparison.searches:
        best = max(search.tried, key=lambda entry: entry.pseudo_cold_ndcg_at_10)
        for entry in search.tried:
            changes = ", ".join(f"{name} {value:g}" for name, value in entry.changes.items())
            scores = (entry.pseudo_cold_recall_at_10, entry.pseudo_cold_ndcg_at_10)
            told = tuple(f"{100 * score:.2f}" for score in scores)
            rows.append((search.method, changes, *told, "chosen" if entry is best else ""))
    note = (
        "Warm items were taken out of training and played cold ones; no cold item and no test user took part."
    )
    columns = ("method", "settings", "Recall@10 %", "NDCG@10 %", "")
    return TextTable("searches", "Settings tried for the trained baselines", columns, tuple(rows), note)


def compared_notes(spec: a.SweepSpec, tables: Tables) -> list[str]:
    """Return how the numbers were made and what they do not say."""
    baseline = tables.baseline.label if tables.baseline else "the baseline"
    asking = next((cell.question for cell in spec.cells if cell.question is not None), None)
    made = [
        f"{tables.counts['users']} test users, drawn once from those whose last item is cold: no interaction of it is in any "
        "training sequence. Recall@10 and NDCG@10 in per cent; ± is the standard deviation over runs (n − 1).",
        f"p values are of differences in NDCG@10 to {baseline}, the best method that is not ColdRAG, chosen on these test users, "
        "which makes it hard to beat: sign-flip permutation over users, a user's metric averaged over the runs first, Holm's "
        "adjustment for all differences of the page.",
        "Trained and counting methods rank the whole catalogue. A model that is given drawn candidates can recommend only "
        "those, and the next item is not put among them.",
        MADE_UP,
    ]
    if asking is not None:
        made.append(
            f"{asking['candidates']} candidates a prompt, at most {asking['history']} items of a history, temperature "
            f"{asking['temperature']:g} with the run's seed. Edges are scored at temperature 0."
        )
    return made
