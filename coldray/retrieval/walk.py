"""The walk through the graph, hop by hop, over arrays (ColdRAG, section 3.2, equation of the next frontier).

Per hop the edges of the frontier that were not seen before are scored, those that reach the threshold pass, their ends that
were not visited are the next frontier, and items among the ends join the pool. Where the paper adds up the scores of edges
that lead to an item, each counts as much here as the way to it deserves: scores multiply along a way, so that long ways fade.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from coldray.graph.store import GraphStore, Hop
from coldray.retrieval.anchors import Anchors
from coldray.retrieval.scorers import Budget, Edges, Scorer
from coldray.retrieval.settings import RetrievalSettings

Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Stop = Literal["pool", "hops", "frontier", "budget", "no walk"]

_LOOKED_AT = 20_000
"""edges of a hop whose vectors are looked at; of hubs with more an even sample"""
_THRESHOLD = 6.0
"""the paper's, for scores of a model; cosines have another scale on every graph"""
_WAYS = 8
"""edges into an item that are remembered"""


@dataclass
class Found:
    """An item in the pool."""

    score: float = 0.0
    """sum over the edges that led to it, of the product of all scores on the way there, each as a share of 10, times 10"""
    ways: list[tuple[float, int, int]] = field(default_factory=list)
    """score, source and relation of the best of these"""


@dataclass
class Walked:
    """What a walk has found so far."""

    parent: dict[int, tuple[int, int, float]] = field(default_factory=dict)
    """of each visited entity, but for the anchors: source, relation and score of the edge that first led to it"""
    strength: dict[int, float] = field(default_factory=dict)
    """of these, the product of the scores on the way there, each as a share of 10"""
    pool: dict[int, Found] = field(default_factory=dict)
    stopped: Stop = "no walk"

    def take(self, store: GraphStore, edges: Hop, scores: Float32, visited: Int64) -> None:
        """Count in edges that passed, best first, given what was visited before they were walked."""
        fresh = ~np.isin(edges.target, visited)
        item = store.is_item[edges.target]
        columns = (edges.source, edges.target, edges.relation, scores, fresh, item)
        for source, target, relation, score, new, is_item in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            strength = self.strength.get(source, 1.0) * score / 10
            if new and target not in self.parent:
                self.parent[target], self.strength[target] = (source, relation, score), strength
            if is_item:
                found = self.pool.setdefault(target, Found())
                found.score += 10 * strength
                if len(found.ways) < _WAYS:
                    found.ways.append((score, source, relation))

    def path(self, way: tuple[float, int, int], item: int) -> list[tuple[int, int, int, float]]:
        """Return a way to an item from its anchor on: source, target, relation and score of each edge."""
        score, source, relation = way
        edges = [(source, item, relation, score)]
        while source in self.parent:
            before, relation, score = self.parent[source]
            edges.append((before, source, relation, score))
            source = before
        return edges[::-1]


@dataclass(frozen=True)
class HopDone:
    """What one hop did: its numbers, and the edges that passed, best first."""

    hop: int
    frontier: int
    edges: int
    scored: int
    threshold: float
    passed: Hop
    scores: Float32
    """[passed]"""
    pool: int
    seconds: float


async def walk(
    store: GraphStore,
    anchors: Anchors,
    settings: RetrievalSettings,
    scorer: Scorer,
    budget: Budget,
    walked: Walked,
) -> AsyncIterator[HopDone]:
    """Yield each hop from the anchors on; what they found is in `walked`."""
    frontier, visited = anchors.positions, np.zeros(0, np.int64)
    seen = np.zeros(0, np.int32)
    for number in range(1, settings.hops + 1):
        started = time.monotonic()
        visited = np.union1d(visited, frontier)
        edges, fresh = _fresh_edges(store, frontier, visited, seen, anchors, settings)
        if not fresh:
            walked.stopped = "frontier"
            return
        seen = np.union1d(seen, edges.hop.relation)
        scores = await scorer.score(anchors, edges, budget)
        there = np.isfinite(scores)
        threshold = _threshold(scores[there], settings)
        passing = np.flatnonzero(there & (scores >= threshold))
        passing = passing[np.lexsort((edges.hop.relation[passing], -scores[passing]))]
        passed = edges.only(passing)
        walked.take(store, passed, scores[passing], visited)
        frontier = np.setdiff1d(passed.target.astype(np.int64), visited)
        numbers = (number, len(np.unique(edges.hop.source)), fresh, int(there.sum()))
        seconds = time.monotonic() - started
        yield HopDone(*numbers, threshold, passed, scores[passing], len(walked.pool), seconds)
        if not there.all():
            walked.stopped = "budget"
        elif len(walked.pool) >= settings.pool:
            walked.stopped = "pool"
        elif not len(frontier):
            walked.stopped = "frontier"
        else:
            walked.stopped = "hops"
            continue
        return


def _fresh_edges(
    store: GraphStore,
    frontier: Int64,
    visited: Int64,
    seen: npt.NDArray[np.int32],
    anchors: Anchors,
    settings: RetrievalSettings,
) -> tuple[Edges, int]:
    """Return the edges of a frontier to score, and how many there are that were not seen before.

    Those that lead back to what is no item of the pool cannot change anything and are left out. Of more than there may be,
    those are taken whose descriptions are nearest to the history.
    """
    hop = store.hop(frontier, _LOOKED_AT)
    _, first = np.unique(hop.relation, return_index=True)
    target = hop.target[first]
    forward = ~np.isin(target, visited) | (store.is_item[target] & ~np.isin(target, anchors.positions))
    kept = first[forward & ~np.isin(hop.relation[first], seen, assume_unique=True)]
    fresh = len(kept)
    relations = hop.relation[kept]
    relevance = store.relation_vectors(relations) @ anchors.query
    most = settings.model_edges if settings.scorer == "hybrid" else settings.edges
    if fresh > most:
        nearest = np.sort(np.lexsort((relations, -relevance))[:most])
        kept, relevance = kept[nearest], relevance[nearest]
    return Edges(store, Hop(hop.source[kept], hop.target[kept], hop.relation[kept]), relevance), fresh


def _threshold(scores: Float32, settings: RetrievalSettings) -> float:
    """Return the score that lets an edge of this hop pass."""
    if settings.quantile is not None:
        return float(np.quantile(scores, settings.quantile)) if len(scores) else 0.0
    if settings.threshold is None:
        return 0.0 if settings.scorer == "embedding" else _THRESHOLD
    return settings.threshold
