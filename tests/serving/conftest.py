"""The API without Ray: an application over a backend of the test's, asked in this process."""

import asyncio
import json

import httpx
import pytest

from coldray.serving.access import Gate, Token, hash_of
from coldray.serving.api import make_app
from coldray.serving.settings import Limits


class StandIn:
    """A backend that answers at once and remembers what it was asked. For the faults of the HTTP layer alone."""

    def __init__(self):
        self.asked = []
        self.answer = {
            "items": [{"item_id": "b", "title": "<b>B</b>", "score": 1.5, "paths": []}],
            "anchors": [],
            "unknown": [],
            "hops": [],
            "stopped": "hops",
            "fallback": "",
            "spent": {},
            "graph_version": 4,
        }

    async def recommend(self, history, k, changes):
        self.asked.append((history, k, changes))
        return json.dumps(self.answer).encode()

    async def stream(self, history, k, changes):
        yield "hop", {"hop": 1, "note": "two\nlines"}
        yield "recommendation", self.answer

    async def put(self, items):
        self.asked.append(items)
        return {
            "graph_version": 5,
            "items": [{"item_id": item["item_id"], "status": "added"} for item in items],
        }

    async def delete(self, item_id):
        self.asked.append(item_id)
        return {"graph_version": 6}

    async def find(self, query, limit):
        return [{"item_id": "a", "title": query}][:limit]

    async def item(self, item_id):
        return {"item_id": item_id, "title": "T", "profile": ""}

    async def around(self, item_id):
        return {"nodes": [], "edges": [], "left_out": 0}

    async def status(self):
        counts = dict.fromkeys(("graph_version", "items", "entities", "relations"), 1)
        return counts | {
            "engine": "coldrag",
            "store": "reachable",
            "llm": "none",
            "scorers": [],
            "rankers": [],
            "default": {},
        }


class Client:
    """Asks an application as a browser would, from an address."""

    def __init__(self, app, address="127.0.0.1"):
        self.app, self.address = app, address

    def __call__(self, method, path, token=None, **options):
        headers = options.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})

        async def ask():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(self.address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(ask())


@pytest.fixture
def stand_in():
    return StandIn()


@pytest.fixture
def make_client(stand_in):
    def make(limits=None, gated=True, address="127.0.0.1"):
        tokens = [
            Token(name="reader", role="read", sha256=hash_of("r")),
            Token(name="writer", role="write", sha256=hash_of("w")),
        ]
        made = limits or Limits()
        gate = Gate(tokens, made.requests_per_second, made.burst) if gated else None
        return Client(make_app(stand_in, made, gate), address)

    return make


@pytest.fixture
def client(make_client):
    return make_client()
