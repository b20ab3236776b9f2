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
Float64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Path = list[tuple[int, int, int, float]]
"""source, target, relation and score of each edge"""
Stop = Literal["pool", "hops", "frontier", "budget", "no walk"]

_LOOKED_AT = 5_000
"""edges of a hop whose vectors are looked at; of hubs with more an even sample"""
_THRESHOLD = 6.0
"""the paper's, for scores of a model; cosines have another scale on every graph"""
_WAYS = 8
"""edges of a hop into an item that may be told"""


@dataclass
class Walked:
    """What a walk has found so far."""

    items: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    """[p] the pool, ascending"""
    scores: Float64 = field(default_factory=lambda: np.zeros(0))
    """[p] sum over the edges that led to each, of the product of all scores on the way there, each a share of 10, times 10"""
    parent: dict[int, tuple[int, int, float]] = field(default_factory=dict)
    """of each visited entity, but for the anchors: source, relation and score of the edge that first led to it"""
    passed: list[tuple[Hop, Float32]] = field(default_factory=list)
    """edges that passed and their scores, of each hop"""
    stopped: Stop = "no walk"

    def take(
        self, is_item: Bools, edges: Hop, scores: Float32, fresh: Bools, strengths: Float32
    ) -> tuple[Int64, Float32]:
        """Count in edges that passed, best first; return the entities first reached by them, ascending, and their strengths.

        `is_item` and `fresh` [e] say of each target whether it is an item, and not visited before; `strengths` [e] is the
        product of the scores on the way, that of the edge included, each as a share of 10.
        """
        self.passed.append((edges, scores))
        found = np.concatenate([self.items, edges.target[is_item]])
        self.items, place = np.unique(found, return_inverse=True)
        weights = np.concatenate([self.scores, 10.0 * strengths[is_item]])
        self.scores = np.bincount(place, weights, len(self.items)).astype(np.float64)
        new = np.flatnonzero(fresh)
        nodes, first = np.unique(edges.target[new], return_index=True)
        first = new[first]
        columns = (edges.source, edges.relation, scores)
        ways = zip(*(column[first].tolist() for column in columns), strict=True)
        self.parent.update(zip(nodes.tolist(), ways, strict=True))
        return nodes.astype(np.int64), strengths[first]

    def best(self, most: int) -> list[tuple[int, float]]:
        """Return position and score of the best items of the pool."""
        order = np.lexsort((self.items, -self.scores))[:most]
        return list(zip(self.items[order].tolist(), self.scores[order].tolist(), strict=True))

    def paths(self, item: int, most: int) -> list[Path]:
        """Return ways to an item, short ones first, each from its anchor on."""
        found = []
        for edges, scores in self.passed:
            for place in np.flatnonzero(edges.target == item)[:_WAYS].tolist():
                path = self._path(
                    int(edges.source[place]), item, int(edges.relation[place]), float(scores[place])
                )
                if item not in {source for source, _, _, _ in path}:
                    found.append(path)
        return sorted(found, key=lambda path: (len(path), -path[-1][3]))[:most]

    def _path(self, source: int, target: int, relation: int, score: float) -> Path:
        path = [(source, target, relation, score)]
        while source in self.parent:
            before, relation, score = self.parent[source]
            path.append((before, source, relation, score))
            source = before
        return path[::-1]


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
    frontier, visited = np.unique(anchors.positions), np.zeros(0, np.int64)
    strengths = np.ones(len(frontier), np.float32)
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
        strong = strengths[np.searchsorted(frontier, passed.source)] * scores[passing] / 10
        new = ~np.isin(passed.target, visited)
        numbers = (number, len(frontier), fresh, int(there.sum()))
        frontier, strengths = walked.take(store.is_item[passed.target], passed, scores[passing], new, strong)
        seconds = time.monotonic() - started
        yield HopDone(*numbers, threshold, passed, scores[passing], len(walked.items), seconds)
        if not there.all():
            walked.stopped = "budget"
        elif len(walked.items) >= settings.pool:
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
