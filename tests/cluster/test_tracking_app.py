"""MLflow's server asks for a token."""

import asyncio

import httpx
import pytest

from coldray.cluster.tracking_app import COOKIE, TOKEN_FILE, TokenRequired, create_app

TOKEN = "0123abcd"  # noqa: S105 - made up


async def page(scope, receive, send):
    """Answer with the path that was asked for."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def ask(path, **options):
    async def asking():
        transport = httpx.ASGITransport(app=TokenRequired(page, TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, **options)

    return asyncio.run(asking())


def test_who_has_the_token_may_pass():
    assert ask("/api", headers={"Authorization": f"Bearer {TOKEN}"}).text == "/api"
    assert ask("/api", headers={"Cookie": f"a=b; {COOKIE}={TOKEN}"}).text == "/api"
    assert ask("/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer 0123abc"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"{COOKIE}=other"},
        {"Cookie": f"other={TOKEN}"},
        {"Cookie": "\x01;=;"},
        {"Authorization": "Bearer é"},
    ],
)
def test_nobody_else_may(headers):
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = ask("/api", headers=raw)
    assert answer.status_code == 401
    assert "MLFLOW_TRACKING_TOKEN" in answer.text


def test_a_browser_is_shown_in_and_the_token_leaves_its_address():
    shown = ask(f"/x?token={TOKEN}&a=1")
    assert (shown.status_code, shown.headers["location"]) == (303, "/x?a=1")
    assert "HttpOnly; SameSite=Strict" in shown.headers["set-cookie"]
    assert ask(f"http://here//evil.example/?token={TOKEN}").headers["location"] == "/evil.example/"
    assert ask(f"/%5Cevil.example/%0D%0Aa?token={TOKEN}").headers["location"] == "/%5Cevil.example/%0D%0Aa"
    assert ask("/x?token=other").status_code == 401


def test_websockets_need_it_too():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(TokenRequired(page, TOKEN)(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_without_a_token_nothing_is_served(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("\n")
    monkeypatch.setenv(TOKEN_FILE, str(tmp_path / "token"))
    with pytest.raises(ValueError, match="empty"):
        create_app()
