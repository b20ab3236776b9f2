"""Recommends from the newest version of a graph, which it holds in memory and follows while it answers."""

import asyncio
import gc
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import ValidationError

from coldray.errors import ServiceError, UserError
from coldray.graph.picture import around
from coldray.graph.store import GraphStore, manifests
from coldray.llm.cached import Cached
from coldray.llm.engine import EngineDiedError
from coldray.retrieval.anchors import Embed, Float32, is_large
from coldray.retrieval.recommend import Recommender
from coldray.retrieval.result import HopTrace, Recommendation
from coldray.retrieval.settings import RetrievalSettings
from coldray.serving.problems import ProblemError
from coldray.serving.settings import ColdRAG

log = logging.getLogger("ray.serve")
Connect = Callable[[], Awaitable[Cached]]
_AGAIN_S = 30.0
"""after which a version that was refused is looked at once more: the fault may have been the store's"""
_NO_MODEL = "no language model is configured here: take the scorer embedding and the ranker scores"


class Retriever:
    """Answers what the API asks of a graph. Make it with `start`."""

    def __init__(self, settings: ColdRAG, embed: Embed, connect: Connect | None) -> None:
        self.settings, self.embed, self._connect = settings, remembering(embed), connect
        self.store = GraphStore.open(settings.graph)
        self.engine: Cached | None = None
        self.unreachable = False
        self._turn = asyncio.Lock()
        self.refused: dict[int, str] = {}
        self._refused_at = 0.0
        self.looked: Callable[[int], None] = lambda version: None
        """told at each look which version is served; metrics forget a value that is not given again"""

    async def start(self) -> "asyncio.Task[None]":
        """Hold the graph and begin to follow it; return the task that does, to be kept."""
        await asyncio.to_thread(warm, self.store, self.embed)
        return asyncio.create_task(self.follow())

    async def follow(self) -> None:
        """Take up each new version, for ever."""
        while True:
            await asyncio.sleep(self.settings.refresh_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Take up the newest version, if there is a newer one; go on with the one in memory where that cannot be."""
        async with self._turn:
            await self._refresh()
        self.looked(self.version)

    async def _refresh(self) -> None:
        try:
            newest = max(await asyncio.to_thread(manifests, self.settings.graph), default=0)
        except (OSError, UserError) as error:
            newest = 0
            if not self.unreachable:
                log.warning("the graph cannot be reached: %s", error)
        if newest == 0 and not self.unreachable:
            log.warning("the graph %s is not there; version %d goes on", self.settings.graph, self.version)
        self.unreachable = newest == 0
        if newest in (0, self.version):
            return
        if newest in self.refused and time.monotonic() - self._refused_at < _AGAIN_S:
            return
        try:
            self.store = await asyncio.to_thread(self._opened, newest)
        except (UserError, OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
            self.refused = {newest: " ".join(str(error).split())[:300]}
            self._refused_at = time.monotonic()
            log.warning("version %d of the graph is not taken up: %s", newest, self.refused[newest])
            return
        self.refused = {}
        log.info("version %d of the graph is served", newest)

    def _opened(self, version: int) -> GraphStore:
        store = GraphStore.open(self.settings.graph, version)
        warm(store, self.embed)
        return store

    @property
    def version(self) -> int:
        """Version of the graph that is served."""
        return self.store.manifest.version

    async def recommend(self, history: list[str], k: int, changes: dict[str, Any]) -> Recommendation:
        """Return a recommendation."""
        settings, engine = await self._settled(changes)
        with_engine = Recommender(self.store, self.embed, engine)
        try:
            return await with_engine.recommend(history, k, settings)
        except (ServiceError, EngineDiedError) as error:
            raise ProblemError(503, str(error), retry=10) from error

    async def stream(
        self, history: list[str], k: int, changes: dict[str, Any]
    ) -> AsyncIterator[HopTrace | Recommendation]:
        """Yield each hop, and the recommendation."""
        settings, engine = await self._settled(changes)
        try:
            async for part in Recommender(self.store, self.embed, engine).stream(history, k, settings):
                yield part
        except (ServiceError, EngineDiedError) as error:
            raise ProblemError(503, str(error), retry=10) from error

    async def _settled(self, changes: dict[str, Any]) -> tuple[RetrievalSettings, Cached | None]:
        try:
            settings = RetrievalSettings.model_validate(self.settings.retrieval.model_dump() | changes)
        except ValidationError as error:  # the API lets nothing of the kind through
            raise ProblemError(422, str(error)) from error
        return settings, await self.model() if settings.asks_model() else None

    async def model(self) -> Cached:
        """Return the language model, connected to when it is first needed."""
        if self._connect is None:
            raise ProblemError(422, _NO_MODEL)
        if self.engine is None:
            try:
                self.engine = await self._connect()
            except ServiceError as error:
                raise ProblemError(503, f"{error}", retry=10) from error
        return self.engine

    async def find(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Return id and title of items whose titles have `query` in them."""
        store = self.store
        positions = await asyncio.to_thread(store.items_with, query, limit)
        titles = store.entities(positions)["name"].to_pylist()
        found = zip(store.item_ids(positions), titles, strict=True)
        return [{"item_id": item, "title": title} for item, title in found]

    async def item(self, item_id: str) -> dict[str, Any]:
        """Return id, title and profile of an item."""
        store = await self._with(item_id)
        position = store.items([item_id])[0]
        row = store.entities([position]).to_pylist()[0]
        return {"item_id": item_id, "title": row["name"], "profile": row["description"]}

    async def around(self, item_id: str) -> dict[str, Any]:
        """Return what is around an item."""
        store = await self._with(item_id)
        return asdict(await asyncio.to_thread(around, store, item_id))

    async def _with(self, item_id: str) -> GraphStore:
        """Return a graph with an item; where it is not there, one may just have written it."""
        if self.store.items([item_id])[0] < 0:
            await self.refresh()
        store = self.store
        if store.items([item_id])[0] < 0:
            raise ProblemError(404, f"{item_id}: is no item of the graph")
        return store

    async def status(self) -> dict[str, Any]:
        """Return how this retriever stands."""
        store, settings = self.store, self.settings.retrieval
        asks = self._connect is not None
        llm = self.settings.llm
        return {
            "engine": "coldrag",
            "graph_version": self.version,
            "items": int(store.is_item.sum()),
            "entities": store.num_entities,
            "relations": store.num_relations,
            "store": "unreachable" if self.unreachable else "reachable",
            "refused": "; ".join(f"version {version}: {why}" for version, why in self.refused.items()),
            "llm": "none" if llm is None else getattr(llm, "model", getattr(llm, "app", llm.engine)),
            "scorers": ["embedding", "hybrid", "llm"] if asks else ["embedding"],
            "rankers": ["scores", "llm", "fusion"] if asks else ["scores"],
            "default": {"scorer": settings.scorer, "ranker": settings.ranker},
        }


def remembering(embed: Embed, most: int = 10_000) -> Embed:
    """Return `embed` with the vectors of its newest texts kept: the same are asked for again and again."""
    kept: OrderedDict[str, Float32] = OrderedDict()

    def vectors(texts: list[str]) -> Float32:
        missing = [text for text in dict.fromkeys(texts) if text not in kept]
        found = {text: kept[text] for text in texts if text in kept}
        if missing:
            found |= zip(missing, embed(missing), strict=True)
        for text in found:
            kept[text] = found[text]
            kept.move_to_end(text)
        while len(kept) > most:
            kept.popitem(last=False)
        return np.stack([found[text] for text in texts])

    return vectors


def warm(store: GraphStore, embed: Embed) -> None:
    """Make all that the first requests would have to wait for. Raises UserError for a graph that does not hold together."""
    began = time.monotonic()
    store.hold()
    counted = {"entities": len(store.ids), "items": int(store.is_item.sum())}
    for name, count in counted.items():
        if count != store.manifest.counts[name]:
            raise UserError(
                f"{store.uri}: has {count} {name}, and its manifest says {store.manifest.counts[name]}"
            )
    query = embed(["warm"])
    if query.shape[1] != store.manifest.dim:
        raise UserError(f"{store.uri}: its vectors are not of the sentence model that its build.json names")
    store.titled(["warm"])
    store.items_with("warm", 1)
    for items_only in {True, is_large(store)}:
        store.search(query, 1, items_only=items_only)
    gc.collect()
    gc.freeze()  # or a collection would look at the whole graph again and again, while requests wait
    log.info("version %d of the graph was read in %.1f s", store.manifest.version, time.monotonic() - began)
