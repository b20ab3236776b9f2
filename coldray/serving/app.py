"""The Serve application: an HTTP ingress, retrievers that hold the graph, one writer.

`import_path: coldray.serving.app:build` in a Serve configuration, whose `args` are `coldray.serving.settings`. Deployments are
named `ingress`, `retriever` and `writer`, so that the configuration can say more of each.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr, ValidationError
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from coldray.encode.sentence_model import TextEncoder
from coldray.errors import UserError
from coldray.graph.build import read_settings
from coldray.graph.store import read_manifest
from coldray.llm.cached import Cached
from coldray.llm.engine import request_id
from coldray.llm.settings import OpenAI, make_engine
from coldray.llm.shared_engine import get_request_id
from coldray.retrieval.result import Recommendation
from coldray.serving.access import Gate, read_tokens, tokens_of
from coldray.serving.api import make_app
from coldray.serving.metrics import Metrics
from coldray.serving.problems import ProblemError
from coldray.serving.retriever import Connect, Retriever
from coldray.serving.sequences import SequenceRecommender, find_cell
from coldray.serving.settings import ColdRAG, ServiceSettings
from coldray.serving.writer import GraphWriter
from coldray.settings import explain


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application that `args` describe. Raises UserError for settings that do not do."""
    try:
        settings = ServiceSettings.model_validate(args)
    except ValidationError as error:
        raise UserError(f"args: {explain(error)}") from error
    gate, serves = _gate(settings), settings.serves
    if isinstance(serves, ColdRAG):  # said at once, not by replicas that do not start
        read_settings(serves.graph)
        read_manifest(serves.graph)
    else:
        find_cell(serves)
    scale: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas is not None:
        bounds = {"min_replicas": settings.replicas, "max_replicas": settings.max_replicas}
        scale = {"autoscaling_config": {**bounds, "target_ongoing_requests": 2}}
    retriever = _deployment(
        RetrieverReplica if isinstance(serves, ColdRAG) else SequenceReplica,
        name="retriever",
        max_ongoing_requests=16,
        max_queued_requests=settings.limits.queued,
        ray_actor_options={"num_cpus": 0.1},
        health_check_period_s=5,
        **scale,
    )
    if isinstance(serves, ColdRAG):
        reading = retriever.bind(serves)
        writer = _deployment(
            WriterReplica, name="writer", max_ongoing_requests=32, ray_actor_options={"num_cpus": 0.1}
        ).bind(serves)
    else:
        reading = writer = retriever.bind(serves)
    ingress = _deployment(
        Ingress,
        name="ingress",
        max_ongoing_requests=2 * settings.limits.queued + 32,
        ray_actor_options={"num_cpus": 0.1},
    )
    bound: serve.Application = ingress.bind(settings, gate, reading, writer)
    return bound


def _deployment(kind: Any, **options: Any) -> Any:
    made: Any = serve.deployment(kind)  # typed as what it decorates
    logged = options["name"] == "ingress"  # one line a request is enough; the others log what goes wrong
    return made.options(logging_config={"encoding": "JSON", "enable_access_log": logged}, **options)


def _gate(settings: ServiceSettings) -> Gate | None:
    """Return who may ask; None: anybody on this machine. Raises UserError if nobody could."""
    access = settings.access
    tokens = [*(read_tokens(access.tokens) if access.tokens else []), *tokens_of(os.environ)]
    if access.open:
        if tokens:
            raise UserError("access.open: and there are tokens; take one of the two")
        return None
    if not tokens:
        raise UserError(
            "access: nobody could ask; make a token with coldray serve token and name its file in access.tokens, or set "
            "COLDRAY_READ_TOKENS or COLDRAY_WRITE_TOKENS"
        )
    return Gate(tokens, settings.limits.requests_per_second, settings.limits.burst)


def _key(serves: ColdRAG) -> SecretStr | None:
    """Return the key of an address from this process' environment; handed over it would lie in the cluster's state."""
    if not isinstance(serves.llm, OpenAI) or serves.llm.key_variable not in os.environ:
        return None
    return SecretStr(os.environ[serves.llm.key_variable])


def _connecting(serves: ColdRAG) -> Connect | None:
    """Return what connects to the model, which may come up after us; None where there is none."""
    llm = serves.llm
    if llm is None:
        return None

    async def connect() -> Cached:
        return Cached(await asyncio.to_thread(make_engine, llm, _key(serves)), serves.cached_answers)

    return connect


class RetrieverReplica:
    """A retriever in a Serve replica."""

    async def __init__(self, serves: ColdRAG) -> None:  # type: ignore[misc]  # Serve awaits it
        embed = TextEncoder(read_settings(serves.graph).sentence_model)
        self.retriever = Retriever(serves, embed, _connecting(serves))
        self.metrics = Metrics()
        self.retriever.looked = self.metrics.version.set
        self._following = await self.retriever.start()

    def check_health(self) -> None:
        """Raise an error, upon which Serve replaces this replica, if it no longer follows the graph."""
        if self._following.done():
            self._following.result()

    async def recommend(self, history: list[str], k: int, changes: dict[str, Any]) -> bytes:
        """Return a recommendation as JSON."""
        request_id.set(get_request_id())
        found = await self.retriever.recommend(history, k, changes)
        self.metrics.recommended(found)
        return found.model_dump_json().encode()

    async def stream(
        self, history: list[str], k: int, changes: dict[str, Any]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield hops and the recommendation as plain data."""
        request_id.set(get_request_id())
        async for part in self.retriever.stream(history, k, changes):
            if isinstance(part, Recommendation):
                self.metrics.recommended(part)
            name = "recommendation" if isinstance(part, Recommendation) else "hop"
            yield name, part.model_dump(mode="json")

    async def find(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Return items by a part of their titles."""
        return await self.retriever.find(query, limit)

    async def item(self, item_id: str) -> dict[str, Any]:
        """Return an item."""
        return await self.retriever.item(item_id)

    async def around(self, item_id: str) -> dict[str, Any]:
        """Return what is around an item."""
        return await self.retriever.around(item_id)

    async def status(self) -> dict[str, Any]:
        """Return how this replica stands."""
        return await self.retriever.status()


class SequenceReplica(SequenceRecommender):
    """A model of a sweep in a Serve replica."""


class WriterReplica(GraphWriter):
    """The writer in its Serve replica."""

    def __init__(self, serves: ColdRAG) -> None:
        embed = TextEncoder(read_settings(serves.graph).sentence_model)
        super().__init__(serves.graph, embed, _connecting(serves))

    async def put(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Write items."""
        request_id.set(get_request_id())
        return await super().put(items)


class Handles:
    """The backend of the API: the other deployments."""

    def __init__(self, retriever: Any, writer: Any) -> None:
        self.retriever, self.writer = retriever, writer

    async def recommend(self, history: list[str], k: int, changes: dict[str, Any]) -> Any:
        """Ask a retriever."""
        return await _read(self.retriever.recommend, history, k, changes)

    async def stream(
        self, history: list[str], k: int, changes: dict[str, Any]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Ask a retriever for its hops."""
        parts = self.retriever.options(stream=True).stream.remote(history, k, changes)
        try:
            async for part in parts:
                yield part
        except _FAILURES as error:
            raise _problem(error) from error

    async def put(self, items: list[dict[str, Any]]) -> Any:
        """Ask the writer."""
        return await _write(self.writer.put, items)

    async def delete(self, item_id: str) -> Any:
        """Ask the writer."""
        return await _write(self.writer.delete, item_id)

    async def find(self, query: str, limit: int) -> Any:
        """Ask a retriever."""
        return await _read(self.retriever.find, query, limit)

    async def item(self, item_id: str) -> Any:
        """Ask a retriever."""
        return await _read(self.retriever.item, item_id)

    async def around(self, item_id: str) -> Any:
        """Ask a retriever."""
        return await _read(self.retriever.around, item_id)

    async def status(self) -> Any:
        """Ask a retriever."""
        return await _read(self.retriever.status)


_FAILURES = (RayTaskError, RayActorError, BackPressureError, DeploymentUnavailableError)
_TRIES = 3


async def _read(method: Any, *arguments: Any) -> Any:
    """Ask a deployment; another replica where one dies over it. Raises ProblemError for what it could not do."""
    for left in reversed(range(_TRIES)):
        try:
            return await method.remote(*arguments)
        except RayActorError as error:
            if not left:
                raise _problem(error) from error
            await asyncio.sleep(0.1)
        except _FAILURES as error:
            raise _problem(error) from error
    raise AssertionError("the last try returns or raises")


async def _write(method: Any, *arguments: Any) -> Any:
    """Ask the writer, once: what a dying one has written is known to nobody."""
    try:
        return await method.remote(*arguments)
    except _FAILURES as error:
        raise _problem(error) from error


def _problem(error: Exception) -> Exception:
    """Return what another deployment said as what the API says."""
    if isinstance(error, BackPressureError):
        return ProblemError(429, "the retrievers have as much to do as they can; try again soon", retry=1)
    if isinstance(error, DeploymentUnavailableError | RayActorError):
        return ProblemError(503, "this part of the service is down; it is being started anew", retry=10)
    cause = error.cause if isinstance(error, RayTaskError) else None
    return cause if isinstance(cause, ProblemError) else error


@serve.ingress(None)
class Ingress:
    """The HTTP front."""

    def __init__(self, settings: ServiceSettings, gate: Gate | None, retriever: Any, writer: Any) -> None:
        self.settings, self.gate, self.backend = settings, gate, Handles(retriever, writer)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the application of this replica."""
        return make_app(self.backend, self.settings.limits, self.gate)
