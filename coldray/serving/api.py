"""The HTTP API, version 1, over any backend. Nothing here knows Ray."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from coldray import __version__
from coldray.retrieval.result import HopTrace, Recommendation
from coldray.serving import problems
from coldray.serving.access import Gate, Role
from coldray.serving.messages import ItemDetail, Items, Neighbourhood, Removed, Status, Written, asked_for
from coldray.serving.middleware import Hardened
from coldray.serving.problems import Problem, ProblemError, documented
from coldray.serving.settings import Limits

_KEEP_ALIVE_S = 10.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_PAGE = {
    "app.js": "text/javascript",
    "api.js": "text/javascript",
    "drawing.js": "text/javascript",
    "style.css": "text/css",
}
T = TypeVar("T")


class Backend(Protocol):
    """What the API asks. Raises `ProblemError` for what it cannot do."""

    async def recommend(self, history: list[str], k: int, changes: dict[str, Any]) -> bytes:
        """Return a `Recommendation` as JSON."""
        ...

    def stream(
        self, history: list[str], k: int, changes: dict[str, Any]
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Yield `hop` and at last `recommendation`, each with its data."""
        ...

    async def put(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Write items; return `Written` as plain data."""
        ...

    async def delete(self, item_id: str) -> dict[str, Any]:
        """Remove an item; return `Removed` as plain data."""
        ...

    async def find(self, query: str, limit: int) -> list[dict[str, Any]]:
        """Return `Item`s whose titles have `query` in them."""
        ...

    async def item(self, item_id: str) -> dict[str, Any]:
        """Return an `ItemDetail`."""
        ...

    async def around(self, item_id: str) -> dict[str, Any]:
        """Return a `Neighbourhood`."""
        ...

    async def status(self) -> dict[str, Any]:
        """Return a `Status`."""
        ...


class Api:
    """The routes. `gate` None: the service is open."""

    def __init__(self, backend: Backend, limits: Limits, gate: Gate | None) -> None:
        self.backend, self.limits, self.gate = backend, limits, gate

    def allowed(self, role: Role) -> Callable[[Request], Awaitable[None]]:
        """Return the check of a route that needs a role."""

        async def check(request: Request) -> None:
            if self.gate is None:
                # The name, too: a page of another site may have one that leads here.
                name = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
                if request.client is None or not {request.client.host, name} <= _LOOPBACK:
                    raise ProblemError(
                        403, "this service asks for no token and answers its own machine alone"
                    )
                return
            token = self.gate.who(request.headers.get("authorization"))
            if token is None:
                raise ProblemError(401, "send a token as: Authorization: Bearer TOKEN")
            if role == "write" and token.role != "write":
                raise ProblemError(403, f"the token {token.name} may read; this needs one of the role write")
            seconds = self.gate.wait(token.name)
            if seconds:
                rate = self.limits.requests_per_second
                raise ProblemError(
                    429, f"the token {token.name} may ask {rate:g} times a second", retry=seconds
                )

        return check

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """Return what `work` gives; a problem where it takes too long."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError as error:
            raise ProblemError(504, f"there was no answer within {seconds:g} s") from error

    async def events(self, body: Any) -> AsyncIterator[bytes]:
        """Yield server-sent events: hops, the recommendation, or a problem."""
        parts = self.backend.stream(body.history, body.k, _changes(body))
        following: asyncio.Future[tuple[str, dict[str, Any]]] | None = None
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                while True:
                    following = following or asyncio.ensure_future(anext(parts))
                    done, _ = await asyncio.wait([following], timeout=_KEEP_ALIVE_S)
                    if not done:
                        yield b": one moment\n\n"
                        continue
                    name, data = following.result()
                    following = None
                    yield _event(name, data)
        except StopAsyncIteration:
            return
        except TimeoutError:
            detail = f"there was no answer within {self.limits.timeout_s:g} s"
            yield _event("error", ProblemError(504, detail).problem.model_dump())
        except ProblemError as error:
            yield _event("error", error.problem.model_dump())
        finally:
            if following is not None:
                following.cancel()


def _changes(body: Any) -> dict[str, Any]:
    changes: dict[str, Any] = body.settings.model_dump(exclude_none=True)
    return changes


def _event(name: str, data: dict[str, Any]) -> bytes:
    # JSON has no line breaks of its own here, so nothing in it can begin another event.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def make_app(backend: Backend, limits: Limits, gate: Gate | None) -> FastAPI:
    """Return the application."""
    app = FastAPI(
        title="coldray",
        version=__version__,
        summary="Recommendations for items without clicks",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.add_middleware(Hardened, body=limits.body_kib * 1024)
    api = Api(backend, limits, gate)
    _recommending(app, api)
    _reading(app, api)
    _writing(app, api)
    _plain(app, api)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's way to add to the document
    return app


_ASKED = (400, 401, 403, 413, 422, 429, 500, 503, 504)


_Id = Annotated[str, Path(min_length=1, max_length=200, description="of an item", examples=["1"])]


def _recommending(app: FastAPI, api: Api) -> None:
    read, (asked, _) = [Depends(api.allowed("read"))], asked_for(api.limits)

    @app.post(
        "/v1/recommend",
        dependencies=read,
        response_model=Recommendation,
        responses=_recommended(),
        tags=["read"],
    )
    async def recommend(body: asked, request: Request) -> Any:  # type: ignore[valid-type]  # made within the limits
        """Recommend items for a history. With `Accept: text/event-stream`, hop by hop as they are done."""
        if "text/event-stream" in request.headers.get("accept", ""):
            return StreamingResponse(api.events(body), media_type="text/event-stream")
        given: Any = body
        work = api.backend.recommend(given.history, given.k, _changes(given))
        # As it is: to read and write it once more takes longer than to find it.
        return Response(await api.within(api.limits.timeout_s, work), media_type="application/json")


def _reading(app: FastAPI, api: Api) -> None:
    read = [Depends(api.allowed("read"))]

    @app.get(
        "/v1/items", dependencies=read, response_model=Items, responses=documented(*_ASKED), tags=["read"]
    )
    async def find(
        query: Annotated[
            str, Query(min_length=1, max_length=200, description="a part of a title", examples=["toy"])
        ],
        limit: Annotated[int, Query(ge=1, le=50)] = 10,
    ) -> Any:
        """Find items by a part of their titles."""
        return {"items": await api.within(api.limits.timeout_s, api.backend.find(query, limit))}

    @app.get(
        "/v1/items/{item_id:path}",
        dependencies=read,
        response_model=ItemDetail,
        responses=documented(404, *_ASKED),
        tags=["read"],
    )
    async def item(item_id: _Id) -> Any:
        """Return an item."""
        return await api.within(api.limits.timeout_s, api.backend.item(item_id))

    @app.get(
        "/v1/graph/{item_id:path}",
        dependencies=read,
        response_model=Neighbourhood,
        responses=documented(404, *_ASKED),
        tags=["read"],
    )
    async def around(item_id: _Id) -> Any:
        """Return what is around an item in the graph."""
        return await api.within(api.limits.timeout_s, api.backend.around(item_id))

    @app.get(
        "/v1/status", dependencies=read, response_model=Status, responses=documented(*_ASKED), tags=["read"]
    )
    async def status() -> Any:
        """Say how the service stands."""
        return await api.within(api.limits.timeout_s, api.backend.status())


def _recommended() -> dict[int | str, dict[str, Any]]:
    stream = {"schema": {"type": "string"}, "example": 'event: hop\ndata: {"hop": 1}\n\n'}
    return {200: {"content": {"text/event-stream": stream}}, **documented(*_ASKED)}


def _writing(app: FastAPI, api: Api) -> None:
    write, (_, items) = [Depends(api.allowed("write"))], asked_for(api.limits)

    @app.post(
        "/v1/items",
        dependencies=write,
        response_model=Written,
        responses=documented(409, *_ASKED),
        tags=["write"],
    )
    async def put(body: items) -> Any:  # type: ignore[valid-type]  # made within the limits
        """Add items, or change those with their ids: the model profiles them and extracts what they share with others."""
        given: Any = body
        rows = [row.model_dump() for row in given.items]
        twice = {
            row["item_id"] for row in rows if sum(row["item_id"] == other["item_id"] for other in rows) > 1
        }
        if twice:
            raise ProblemError(409, f"items: {', '.join(sorted(twice))} stand there twice")
        return await api.within(api.limits.write_timeout_s, api.backend.put(rows))

    @app.delete(
        "/v1/items/{item_id:path}",
        dependencies=write,
        response_model=Removed,
        responses=documented(404, 409, *_ASKED),
        tags=["write"],
    )
    async def delete(item_id: _Id) -> Any:
        """Remove an item, with all that only it brought."""
        return await api.within(api.limits.write_timeout_s, api.backend.delete(item_id))


def _plain(app: FastAPI, api: Api) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def health() -> Any:
        """Say that this process answers."""
        return {"status": "ok"}

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> Any:
        """Say that recommendations can be made."""
        await api.within(5.0, api.backend.status())
        return {"status": "ok"}

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return _file("index.html", "text/html")

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in _PAGE:
            raise ProblemError(404, f"{name}: is no part of the page")
        return _file(name, _PAGE[name])


def _file(name: str, kind: str) -> Response:
    content = (resources.files("coldray.serving") / "page" / name).read_bytes()
    return Response(content, media_type=f"{kind}; charset=utf-8")


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with tokens and problem documents."""
    if app.openapi_schema:
        return app.openapi_schema
    made: dict[str, Any] = FastAPI.openapi(app)
    parts = made["components"]
    parts["schemas"]["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    parts["schemas"]["FieldError"] = parts["schemas"]["Problem"].pop("$defs")["FieldError"]
    parts["schemas"]["HopTrace"] = parts["schemas"].get("HopTrace", HopTrace.model_json_schema())
    for unused in ("HTTPValidationError", "ValidationError"):
        parts["schemas"].pop(unused, None)
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for path in made["paths"].values():
        for operation in path.values():
            operation["security"] = [{"token": []}]
    return made
