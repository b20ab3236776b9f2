"""What a comparison on users with a cold target adds to a sweep's tables: made-up titles, costs, analyses, examples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coldray.sweep import artifacts as a
from coldray.sweep.aggregate import Statistic, Tables, statistic
from coldray.sweep.asked import SearchSpec
from coldray.sweep.questions import GROWN
from coldray.sweep.validate import CellResult

RECALL, NDCG = "cold_Recall@10", "cold_NDCG@10"
EXAMPLES = 3
"""of the best and of the worst"""
EXPLAINED = ("coldrag", "coldrag-constrained")
"""methods whose recommendations come with evidence"""


@dataclass(frozen=True)
class AskedRow:
    """What a method asked a language model, over its runs."""

    label: str
    made_up: Statistic
    """share of the written titles that no catalogue has; NaN of a method that can write none"""
    calls: float
    """of the model, a user"""
    prompt_tokens: float
    completion_tokens: float
    seconds: float
    """of the run, a user; of the slowest run, as later ones find answers of the first"""
    cost: float
    """a user; NaN where the model has no price"""


@dataclass(frozen=True)
class Point:
    """One value of an analysed setting."""

    value: str
    recall: float
    ndcg: float
    tokens: float
    """read and written, a user"""
    run_id: str


@dataclass(frozen=True)
class Example:
    """What one user got from one run."""

    method: str
    user: str
    history: tuple[str, ...]
    target: str
    rank: int
    """of the target; 0: not recommended"""
    titles: tuple[str, ...]
    evidence: tuple[str, ...]
    run_id: str


@dataclass(frozen=True)
class Comparison:
    """All of it; empty where a sweep asks no language model."""

    asked: tuple[AskedRow, ...]
    analyses: dict[str, tuple[Point, ...]]
    """by the setting, in the order of its values"""
    growth: tuple[Point, ...]
    examples: tuple[Example, ...]
    graph: dict[str, Any] | None
    searches: tuple[SearchSpec, ...]


def compare(results: Sequence[CellResult], tables: Tables) -> Comparison:
    """Return what the results of a sweep say beside its tables."""
    asked = [result for result in results if result.asked is not None]
    graphs = [r.asked.graph for r in asked if r.asked is not None and r.asked.graph and not r.cell.varied]
    searches = {result.cell.method: result.search for result in results if result.search is not None}
    groups: dict[str, list[CellResult]] = {}
    for result in asked:
        if not result.cell.varied:
            groups.setdefault(result.cell.method, []).append(result)
    return Comparison(
        asked=tuple(_asked(groups[row.method]) for row in tables.rows if row.method in groups),
        analyses=_analyses(asked),
        growth=tuple(_point(r) for r in asked if r.cell.varied.startswith(f"{GROWN}=")),
        examples=_examples(asked),
        graph=graphs[0] if graphs else None,
        searches=tuple(searches.values()),
    )


def _asked(runs: Sequence[CellResult]) -> AskedRow:
    asked = [run.asked for run in runs if run.asked is not None]
    rates = [one.unknown / one.written if one.written else math.nan for one in asked]
    users = len(runs[0].test)
    costs = [one.metrics.get("cost_per_user", math.nan) for one in asked]
    return AskedRow(
        label=runs[0].cell.variant,
        made_up=statistic(rates),
        calls=float(np.mean([one.per_user("calls") for one in asked])),
        prompt_tokens=float(np.mean([one.per_user("prompt_tokens") for one in asked])),
        completion_tokens=float(np.mean([one.per_user("completion_tokens") for one in asked])),
        seconds=max(run.seconds for run in runs) / max(1, users),
        cost=float(np.mean(costs)),
    )


def _analyses(asked: Sequence[CellResult]) -> dict[str, tuple[Point, ...]]:
    """Return the points of each analysed setting, in the order of its values."""
    made: dict[str, list[Point]] = {}
    for result in asked:
        name, _, _ = result.cell.varied.partition("=")
        if name and name != GROWN:
            made.setdefault(name, []).append(_point(result))
    return {name: tuple(points) for name, points in made.items()}


def _point(result: CellResult) -> Point:
    asked = result.asked
    tokens = 0.0 if asked is None else asked.per_user("prompt_tokens") + asked.per_user("completion_tokens")
    values = result.values[a.HEADLINE]
    value = result.cell.varied.partition("=")[2]
    return Point(value, values[RECALL], values[NDCG], tokens, result.run_id)


def _examples(asked: Sequence[CellResult]) -> tuple[Example, ...]:
    """Return the users whom the first run of ColdRAG served best, and some whom it failed; none twice."""
    runs = [result for result in asked if result.cell.method in EXPLAINED and not result.cell.varied]
    if not runs or runs[0].asked is None:
        return ()
    run, rows = runs[0], runs[0].asked.table.to_pylist()
    ranks = run.ranks.tolist()
    found = sorted((rank, place) for place, rank in enumerate(ranks) if rank)[:EXAMPLES]
    # Of the failures those with the longest histories: there was most to go by.
    missed = sorted((-len(rows[place]["history"]), place) for place, rank in enumerate(ranks) if not rank)
    places = [place for _, place in [*found, *missed[:EXAMPLES]]]
    return tuple(
        Example(
            method=run.cell.method,
            user=rows[place]["user_id"],
            history=tuple(rows[place]["history"]),
            target=rows[place]["target"],
            rank=ranks[place],
            titles=tuple(rows[place]["titles"]),
            evidence=tuple(rows[place]["evidence"]),
            run_id=run.run_id,
        )
        for place in places
    )
