"""MLflow's server behind a token: an ASGI application for `mlflow server --app-name coldray`.

Programs send the token as MLflow's clients do, `Authorization: Bearer TOKEN` (`MLFLOW_TRACKING_TOKEN`). A browser is shown in by
`/?token=TOKEN`, which leaves a cookie and is not kept in the address.
"""

import hmac
import os
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

TOKEN_FILE = "COLDRAY_TRACKING_TOKEN_FILE"  # noqa: S105 - its name
"""environment variable that names the file with the token"""
COOKIE = "coldray_tracking"
_OPEN = ("/health", "/version")
"""what may be asked without a token: whether the server is up"""


class TokenRequired:
    """Lets pass to `app` who has the token, and nobody else."""

    def __init__(self, app: Any, token: str) -> None:
        if not token:
            raise ValueError("the token is empty")
        self.app, self.token = app, token

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan" or scope.get("path") in _OPEN or self._known(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif (asked := parse_qs(scope["query_string"].decode("latin-1"))) and self._is(
            asked.get("token", [""])[0]
        ):
            await self._show_in(scope, asked, send)
        else:
            told = b"This server asks for a token: MLFLOW_TRACKING_TOKEN, or ?token=... in a browser.\n"
            await _answer(send, 401, [(b"www-authenticate", b"Bearer")], told)

    def _known(self, scope: dict[str, Any]) -> bool:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        kind, _, given = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._is(given.strip())
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self._is(cookie.value)

    def _is(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())

    async def _show_in(self, scope: dict[str, Any], asked: dict[str, list[str]], send: Any) -> None:
        """Leave a cookie and show the same page without the token in its address."""
        rest = urlencode({name: values for name, values in asked.items() if name != "token"}, doseq=True)
        # One slash: an address that begins with two, or with one and a backslash, would be another host's.
        place = "/" + quote(scope["path"].lstrip("/")) + (f"?{rest}" if rest else "")
        cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", place.encode()), (b"set-cookie", cookie.encode())]
        await _answer(send, 303, [*headers, (b"referrer-policy", b"no-referrer")], b"")


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    plain = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *plain]})
    await send({"type": "http.response.body", "body": body})


def create_app() -> TokenRequired:
    """Return MLflow's application behind the token in the file that the environment names."""
    from mlflow.server.fastapi_app import app  # noqa: PLC0415 - makes MLflow's whole application

    return TokenRequired(app, Path(os.environ[TOKEN_FILE]).read_text().strip())
