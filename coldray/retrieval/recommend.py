"""From a history to recommended items with their evidence: anchors, walk, candidates, ranking."""

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.errors import UserError
from coldray.graph.store import GraphStore
from coldray.llm.answers import Asks
from coldray.retrieval.anchors import Anchors, Embed, find_anchors
from coldray.retrieval.rankers import Candidate, ModelRanker, fused
from coldray.retrieval.result import (
    Anchor,
    Edge,
    HopTrace,
    Node,
    Recommendation,
    RecommendedItem,
    Spent,
)
from coldray.retrieval.scorers import Budget, EmbeddingScorer, LineScorer, ModelScorer, Scorer
from coldray.retrieval.settings import RetrievalSettings
from coldray.retrieval.walk import HopDone, Path, Walked, walk

_WALKED = 40
"""edges of a hop that its trace tells"""


class Recommender:
    """Recommends items of one graph. `embed` is for histories of texts, `engine` for settings that ask a model."""

    def __init__(self, store: GraphStore, embed: Embed | None = None, engine: Asks | None = None) -> None:
        self.store, self.embed, self.engine = store, embed, engine

    async def recommend(
        self, history: Sequence[str], k: int, settings: RetrievalSettings, trace: bool = False
    ) -> Recommendation:
        """Return at most `k` items for a history of item ids and texts, oldest first; none of the history itself.

        Of a history that is empty or of which the graph knows nothing, the newest items, and it says so. With `trace` the
        hops tell their best edges. The same history, settings and model give the same answer. Raises UserError where
        the settings need a model and there is none.
        """
        async for part in self.stream(history, k, settings, trace):
            if isinstance(part, Recommendation):
                return part
        raise RuntimeError("the stream ended without a recommendation")

    async def stream(
        self, history: Sequence[str], k: int, settings: RetrievalSettings, trace: bool = True
    ) -> AsyncIterator[HopTrace | Recommendation]:
        """Yield each hop as it is done and at last the recommendation; see `recommend`."""
        if settings.asks_model() and self.engine is None:
            raise UserError(
                "these settings ask a language model, and there is none: take scorer embedding and ranker scores, or "
                "name a model"
            )
        until = time.monotonic() + settings.budget_ms / 1000 if settings.budget_ms else None
        budget, walked, hops = Budget(settings.budget_tokens, until), Walked(), []
        anchors = find_anchors(self.store, history, settings.history, self.embed)
        if settings.graph and settings.traversal and len(anchors.positions):
            async for done in walk(self.store, anchors, settings, self._scorer(settings), budget, walked):
                hops.append(self._trace(done, trace))
                yield hops[-1]
        pool, fallback = self._pool(anchors, walked, k, settings)
        budget.until = None  # the budget in time is the walk's; what was found is ranked
        items = await self._ranked(anchors, walked, pool, k, settings, budget)
        yield Recommendation(
            items=items,
            anchors=self._anchors(anchors),
            unknown=anchors.unknown,
            hops=hops,
            stopped=walked.stopped,
            fallback=fallback,
            spent=Spent(**vars(budget.usage)),
            graph_version=self.store.manifest.version,
        )

    def _scorer(self, settings: RetrievalSettings) -> Scorer:
        if settings.scorer == "embedding" or self.engine is None:
            return EmbeddingScorer()
        if settings.scorer == "lines":
            return LineScorer(self.engine)
        return ModelScorer(self.engine, settings.batch)

    def _pool(
        self, anchors: Anchors, walked: Walked, k: int, settings: RetrievalSettings
    ) -> tuple[list[tuple[int, float]], str]:
        """Return the candidates, best first, and what they are where the history does not lead to any."""
        store = self.store
        if not settings.graph:
            items = np.setdiff1d(np.flatnonzero(store.is_item), anchors.positions)
            random = np.random.default_rng(settings.seed)
            drawn = random.permutation(items)[: settings.candidates]
            return [(int(position), 0.0) for position in drawn], ""
        if not len(anchors.positions):
            newest = store.newest_items(settings.candidates)
            why = (
                "nothing of the history is known to the graph" if anchors.unknown else "the history is empty"
            )
            return [(int(position), 0.0) for position in newest], f"{why}: these are the newest items"
        if not settings.traversal:
            return self._nearest(anchors, [], settings.candidates), ""
        best = walked.best(settings.candidates)
        if not settings.fill or len(best) >= k:
            return best, "" if best else "no edge of the history led to an item"
        near = self._nearest(anchors, [place for place, _ in best], k - len(best))
        why = f"{len(near)} were not reached by the walk: they are the nearest to the history by description"
        return [*best, *((place, 0.0) for place, _ in near)], why if near else ""

    def _nearest(self, anchors: Anchors, known: list[int], most: int) -> list[tuple[int, float]]:
        """Return the items nearest to the history, without those of it and `known`, with ten times their cosines."""
        left_out = {-1, *known, *anchors.positions.tolist()}
        found, cosines = self.store.search(anchors.query[None], most + len(left_out), items_only=True)
        near = zip(found[0].tolist(), (10 * cosines[0].clip(0)).tolist(), strict=True)
        return [(place, score) for place, score in near if place not in left_out][:most]

    async def _ranked(
        self,
        anchors: Anchors,
        walked: Walked,
        pool: list[tuple[int, float]],
        k: int,
        settings: RetrievalSettings,
        budget: Budget,
    ) -> list[RecommendedItem]:
        if settings.ranker == "scores" or self.engine is None or not pool:
            return self._items(walked, pool[:k], settings)
        positions = [position for position, _ in pool]
        whys = [
            "; ".join(edge.description for way in ways for edge in way)
            for ways in self._paths(walked, positions, 1)
        ]
        titles = self.store.entities(positions)["name"].to_pylist()
        candidates = [Candidate(title, why) for title, why in zip(titles, whys, strict=True)]
        wanted = k if settings.ranker == "llm" else max(k, min(2 * k, len(pool)))
        order = await ModelRanker(self.engine).rank(anchors, candidates, wanted, budget)
        if settings.ranker == "fusion":
            order = fused(order, list(range(len(pool))))
        # What the model had no budget left to choose follows in the order of the scores.
        order = [*order, *(place for place in range(len(pool)) if place not in set(order))][:k]
        return self._items(
            walked, [(positions[place], 1 / (rank + 1)) for rank, place in enumerate(order)], settings
        )

    def _items(
        self, walked: Walked, chosen: list[tuple[int, float]], settings: RetrievalSettings
    ) -> list[RecommendedItem]:
        positions = [position for position, _ in chosen]
        titles = self.store.entities(positions)["name"].to_pylist()
        paths = self._paths(walked, positions, settings.evidence)
        return [
            RecommendedItem(item_id=str(item), title=title, score=score, paths=ways)
            for item, title, (_, score), ways in zip(
                self.store.item_ids(positions), titles, chosen, paths, strict=True
            )
        ]

    def _paths(self, walked: Walked, items: list[int], most: int) -> list[list[list[Edge]]]:
        """Return the ways to each item, short ones first, with their texts; all texts are read at once."""
        found = [walked.paths(item, most) for item in items]
        made = iter(self._edges([edge for ways in found for path in ways for edge in path]))
        return [[[next(made) for _ in path] for path in ways] for ways in found]

    def _edges(self, walked: Path) -> list[Edge]:
        if not walked:
            return []
        nodes = self._nodes(np.array([[source, target] for source, target, _, _ in walked]).ravel())
        told = self.store.relation_texts([relation for _, _, relation, _ in walked])[
            "description"
        ].to_pylist()
        return [
            Edge(source=nodes[2 * i], target=nodes[2 * i + 1], description=text, score=round(score, 4))
            for i, (text, (_, _, _, score)) in enumerate(zip(told, walked, strict=True))
        ]

    def _nodes(self, positions: npt.NDArray[np.int64]) -> list[Node]:
        distinct, places = np.unique(positions, return_inverse=True)
        rows = self.store.entities(distinct, ["id", "type", "name"]).to_pylist()
        made = [
            Node(id=str(row["id"]), type=row["type"], name=row["name"], item_id=item)
            for row, item in zip(rows, self.store.item_ids(distinct), strict=True)
        ]
        return [made[place] for place in places.tolist()]

    def _anchors(self, anchors: Anchors) -> list[Anchor]:
        parts = zip(anchors.given, self._nodes(anchors.positions), anchors.similarities.tolist(), strict=True)
        return [Anchor(given=given, node=node, similarity=similarity) for given, node, similarity in parts]

    def _trace(self, done: HopDone, trace: bool) -> HopTrace:
        numbers: dict[str, Any] = {
            name: getattr(done, name)
            for name in ("hop", "frontier", "edges", "scored", "threshold", "pool", "seconds")
        }
        walked: list[Edge] = []
        if trace:
            columns = (done.passed.source, done.passed.target, done.passed.relation, done.scores)
            walked = self._edges(list(zip(*(column[:_WALKED].tolist() for column in columns), strict=True)))
        return HopTrace(**numbers, passed=len(done.scores), walked=walked)
