"""What every request and every answer goes through, whatever the route."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldray.serving.problems import ProblemError, respond

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Hardened:
    """Bounds the body and sets the headers that keep a browser from doing more than it should."""

    def __init__(self, app: ASGIApp, body: int) -> None:
        self.app, self.body = app, body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        # Read here, so that what is too large is never held; what comes in is small.
        content, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            content += message.get("body", b"")
            more = message.get("more_body", False)
            if len(content) > self.body:
                detail = f"a body may have {self.body // 1024} KiB; send less at a time"
                await respond(ProblemError(413, detail).problem)(scope, receive, sending)
                return
        whole: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def receiving() -> Message:
            return whole.pop() if whole else await receive()

        await self.app(scope, receiving, sending)
