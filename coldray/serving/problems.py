"""What went wrong, as a problem document (RFC 9457)."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

TYPE = "application/problem+json"
TITLES = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "This token may not do that",
    404: "There is no such thing",
    405: "There is no such method here",
    409: "This cannot be done",
    413: "The body is too large",
    422: "The request does not make sense",
    429: "Too many requests",
    500: "Something broke",
    503: "This cannot be done now",
    504: "It took too long",
}
log = logging.getLogger("ray.serve")


class FieldError(BaseModel):
    """A field at fault."""

    field: str = Field(examples=["history.3"])
    message: str


class Problem(BaseModel):
    """A problem document."""

    type: str = Field(default="about:blank")
    title: str = Field(examples=[TITLES[422]])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["k: Input should be less than or equal to 100"])
    errors: list[FieldError] = Field(default=[])


class ProblemError(Exception):
    """Answers a request with a problem document."""

    def __init__(
        self, status: int, detail: str, errors: list[FieldError] | None = None, retry: float = 0
    ) -> None:
        super().__init__(detail)
        self._made = (status, detail, errors, retry)
        self.problem = Problem(title=TITLES[status], status=status, detail=detail, errors=errors or [])
        self.headers = {"Retry-After": str(max(1, round(retry)))} if retry else {}
        if status == 401:
            self.headers["WWW-Authenticate"] = 'Bearer realm="coldray"'

    def __reduce__(self) -> tuple[type["ProblemError"], tuple[Any, ...]]:
        return ProblemError, self._made  # it travels between deployments


def respond(problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return a problem as a response."""
    return JSONResponse(problem.model_dump(), problem.status, headers, TYPE)


def install(app: FastAPI) -> None:
    """Make an application answer with problem documents whatever goes wrong."""

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: ProblemError) -> JSONResponse:
        return respond(error.problem, error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        errors = [_field(fault) for fault in error.errors()]
        detail = "; ".join(f"{fault.field}: {fault.message}" for fault in errors)
        return respond(Problem(title=TITLES[422], status=422, detail=detail, errors=errors))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:
            error.headers = {"Allow": ", ".join(_methods(request))}
        title = TITLES.get(error.status_code, "The request failed")
        made = Problem(title=title, status=error.status_code, detail=str(error.detail))
        return respond(made, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        detail = "this is a fault of the service; its log has more under the request's id"
        return respond(Problem(title=TITLES[500], status=500, detail=detail))


def _methods(request: Request) -> list[str]:
    """Return the methods that this path has, over all routes; Starlette tells those of one."""
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] != Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)


def _field(fault: Any) -> FieldError:
    place = [str(part) for part in fault["loc"] if part not in ("body", "query", "path", "header")]
    return FieldError(field=".".join(place) or "(body)", message=str(fault["msg"]))


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with these problems."""
    content = {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": TITLES[status], "content": content} for status in statuses}
