"""Takes new items into the graph that is served, and others out of it: one at a time."""

import asyncio
import logging
from typing import Any

from coldray.errors import ServiceError, UserError
from coldray.graph.build import read_settings
from coldray.graph.insert import insert_items, write
from coldray.llm.engine import EngineDiedError
from coldray.retrieval.anchors import Embed
from coldray.serving.problems import ProblemError
from coldray.serving.retriever import Connect

log = logging.getLogger("ray.serve")


class GraphWriter:
    """The one that writes."""

    def __init__(self, graph: str, embed: Embed, connect: Connect | None) -> None:
        self.graph, self.embed, self._connect = graph, embed, connect
        self._turn = asyncio.Lock()
        self._engine: Any = None

    async def put(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Write items, and return the version that has them and what became of each."""
        if self._connect is None:
            raise ProblemError(409, "no language model is configured here, and new items need one")
        try:
            self._engine = self._engine or await self._connect()
            engine, settings = self._engine, read_settings(self.graph)
            identity = engine.engine.identity
            done = await insert_items(self.graph, items, settings, engine, identity, self.embed, self._turn)
        except (ServiceError, EngineDiedError) as error:
            self._engine = None  # it may have been started anew by the next request
            raise ProblemError(503, str(error), retry=30) from error
        except UserError as error:
            raise ProblemError(409, str(error)) from error
        log.info("version %d: %s", done.version, done.status)
        rows = [
            {"item_id": item, "status": status, "error": done.errors.get(item, "")}
            for item, status in done.status.items()
        ]
        return {"graph_version": done.version, "items": rows}

    async def delete(self, item_id: str) -> dict[str, Any]:
        """Remove an item, and return the version that lacks it."""
        try:
            settings = read_settings(self.graph)
            async with self._turn:
                version = await asyncio.to_thread(
                    write, self.graph, [], {}, [item_id], self.embed, settings.merge_above
                )
        except ServiceError as error:
            raise ProblemError(503, str(error), retry=30) from error
        except UserError as error:
            raise ProblemError(404, str(error)) from error
        log.info("version %d: %s removed", version, item_id)
        return {"graph_version": version}
