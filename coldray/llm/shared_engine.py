"""One vLLM for all: a Ray Serve deployment, asked through its handle. It has no HTTP address of its own."""

import logging
import time
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import Field, ValidationError
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.context import _get_serve_request_context
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from coldray.errors import ServiceError, UserError
from coldray.llm.engine import Answer, EngineDiedError, RefusedError, Request, request_id
from coldray.llm.placement import ENVIRONMENT, Needs
from coldray.llm.settings import VLLM, Shared
from coldray.settings import explain

_WAIT = 900.0
"""seconds that a model is given to start, or to start anew"""
_AGAIN = 30.0
"""seconds after which Serve is asked whether the application is still there"""
_COMING = (ApplicationStatus.DEPLOYING, ApplicationStatus.RUNNING, ApplicationStatus.UNHEALTHY)
_LOG = logging.getLogger(__name__)


class SharedEngine:
    """An engine of `coldray.llm.engine`: whoever asks, the same model answers.

    One that is made while the model starts, or starts anew after its death, waits for it.
    """

    def __init__(self, settings: Shared) -> None:
        self._app = settings.app
        try:
            self._handle = serve.get_app_handle(settings.app)
            # Serve waits for an answer only where no event loop runs, and engines are made where one does.
            with ThreadPoolExecutor(1) as elsewhere:
                self.identity: str = elsewhere.submit(self._ask_identity).result()
        except (RayServeException, RayActorError, TimeoutError) as error:
            raise ServiceError(
                f"llm app {settings.app}: does not run; start it with: coldray llm serve"
            ) from error

    def _ask_identity(self) -> str:
        deadline = time.monotonic() + _WAIT
        while True:
            try:
                identity: str = self._handle.model_identity.remote().result(timeout_s=_AGAIN)
            except (RayActorError, RayTaskError, TimeoutError) as error:
                if isinstance(error, RayTaskError) and not isinstance(error.cause, EngineDiedError):
                    raise
                app = serve.status().applications.get(self._app)
                if app is None or app.status not in _COMING or time.monotonic() > deadline:
                    raise TimeoutError from error
            else:
                return identity
            _LOG.warning("llm app %s: waiting for its model", self._app)
            time.sleep(1)  # a replica that is gone says so at once

    async def generate(self, request: Request) -> Answer:
        """Return the answer of the deployment."""
        answer: Answer = await self._answered(self._handle.generate.remote(request))
        return answer

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return each text, or its beginning of `tokens` tokens."""
        cut: list[str] = await self._answered(self._handle.cut.remote(texts, tokens))
        return cut

    async def _answered(self, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except RayTaskError as error:
            if isinstance(error.cause, RefusedError):
                raise RefusedError(str(error.cause)) from error
            if isinstance(error.cause, EngineDiedError):
                raise ServiceError(
                    f"llm app {self._app}: its model died and is started anew; try again soon"
                ) from error
            raise
        except RayActorError as error:
            raise ServiceError(f"llm app {self._app}: stopped; start it with: coldray llm serve") from error

    async def close(self) -> None:
        """Nothing is held: the deployment goes on."""


class Server:
    """The deployment: one engine a replica."""

    def __init__(self, settings: VLLM) -> None:
        from coldray.llm.settings import make_engine  # noqa: PLC0415 - in the replica only

        self._engine = make_engine(settings)
        self._died = False

    def check_health(self) -> None:
        """Raise an error where the model is gone: upon which Serve replaces this replica."""
        if self._died:
            raise RuntimeError("the engine died")

    async def model_identity(self) -> str:
        """Return the identity of the model. Raises EngineDiedError where it is gone."""
        if self._died:
            raise EngineDiedError("it is started anew")
        return self._engine.identity

    async def generate(self, request: Request) -> Answer:
        """Return the engine's answer."""
        request_id.set(get_request_id())
        try:
            return await self._engine.generate(request)
        except EngineDiedError:
            self._died = True
            raise

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return what the engine cuts."""
        return await self._engine.cut(texts, tokens)


def get_request_id() -> str:
    """Return the id of the request that this replica is answering; "" where there is none."""
    return _get_serve_request_context().request_id


class SharedSettings(VLLM):
    """The `args` of the application in a Serve configuration."""

    replicas: int = Field(default=1, ge=1, description="models at work")


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application that `args` (`SharedSettings`) describe, for a Serve configuration without a route.

    Raises UserError for settings that do not do, and where the cluster has no room for it.
    """
    try:
        settings = SharedSettings.model_validate(args)
    except ValidationError as error:
        raise UserError(f"args: {explain(error)}") from error
    return _application(settings, settings.replicas)


def deploy(settings: VLLM, app: str, replicas: int = 1) -> None:
    """Start the model on Ray Serve as the application `app` and wait until it answers.

    Raises UserError where the cluster has no room for it.
    """
    serve.run(_application(settings, replicas), name=app, route_prefix=None)


def _application(settings: VLLM, replicas: int) -> serve.Application:
    needs = Needs.of(settings)
    needs.check(replicas)
    options: dict[str, Any] = {
        "num_cpus": needs.cpus,
        "num_gpus": needs.gpus,
        "runtime_env": {"env_vars": ENVIRONMENT},
    }
    limits = {"num_replicas": replicas, "max_ongoing_requests": 2 * settings.concurrency}
    made: Any = serve.deployment(Server)  # typed as what it decorates
    bound: serve.Application = made.options(name="llm", ray_actor_options=options, **limits).bind(settings)
    return bound
