"""A service with two retrievers on two nodes, one of which goes while it is asked."""

import threading
import time

import httpx
import pytest
import yaml

from coldray import storage
from coldray.encode.sentence_model import TextEncoder
from coldray.graph.store import writing
from coldray.serving.access import add_token
from tests.chaos.conftest import finish
from tests.plugins.graph import Catalogue
from tests.plugins.nodes import until

pytestmark = pytest.mark.chaos

ITEMS = {"kettle": ["steel", "kitchen"], "pan": ["steel", "cast iron"], "pot": ["kitchen", "cast iron"]}


class Asking(threading.Thread):
    """Asks again and again, as a client that tries once more when it gets no answer; counts both."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self.url, self.headers = url, {"Authorization": f"Bearer {token}"}
        self.good, self.refused, self.lost, self.slowest, self.stop = 0, 0, 0, 0.0, threading.Event()

    def once(self) -> bool:
        try:
            body = {"history": ["kettle"], "k": 2}
            return (
                httpx.post(
                    f"{self.url}/v1/recommend", json=body, headers=self.headers, timeout=60
                ).status_code
                == 200
            )
        except httpx.HTTPError:
            return False

    def run(self) -> None:
        while not self.stop.is_set():
            before = time.monotonic()
            for _ in range(20):
                if self.once():
                    self.good += 1
                    break
                self.refused += 1
                time.sleep(0.5)
            else:
                self.lost += 1
            self.slowest = max(self.slowest, time.monotonic() - before)
            time.sleep(0.02)


def deployed(cluster, tmp_path) -> tuple[str, str]:
    """Return the address and a token of a service with two retrievers."""
    graph, made = str(tmp_path / "graph"), Catalogue()
    embed = TextEncoder(None)
    with writing(graph) as writer:
        writer.apply(*made.tables(ITEMS), [], embed, 0.95)
        writer.commit()
    nobody = {"engine": "openai", "url": "http://127.0.0.1:9/v1", "model": "none"}  # is asked nothing
    storage.write_json(f"{graph}/build.json", {"llm": nobody})
    token = add_token(str(tmp_path / "tokens.yaml"), "reader", "read")
    args = {
        "serves": {"engine": "coldrag", "graph": graph},
        "access": {"tokens": str(tmp_path / "tokens.yaml")},
    }
    app = {
        "name": "coldray",
        "route_prefix": "/",
        "import_path": "coldray.serving.app:build",
        "args": args | {"replicas": 2},
    }
    http = {"host": "0.0.0.0", "port": 8123}  # noqa: S104 - of a namespace that this machine alone reaches
    config = tmp_path / "serve.yaml"
    config.write_text(
        yaml.safe_dump({"http_options": http, "proxy_location": "EveryNode", "applications": [app]})
    )
    finish(cluster.popen("serve", "deploy", str(config), "--address", cluster.page))
    return f"http://{cluster.network.address('head')}:8123", token


def places(cluster, kind: str) -> list[str]:
    """Return the nodes of the replicas of a deployment that run."""
    alive = cluster.alive()
    found = [a for a in cluster.actors(f"ServeReplica:coldray:{kind}") if a["state"] == "ALIVE"]
    return [alive[a["node_id"]] for a in found if a["node_id"] in alive]


def test_a_node_killed_in_serving_costs_time_alone(cluster, tell, tmp_path) -> None:
    service = deployed(cluster, tmp_path)
    retrievers = places(cluster, "retriever")
    assert len(set(retrievers)) == 2
    asking = Asking(*service)
    asking.start()
    until(lambda: asking.good > 50, what="fifty answers")
    before, refused = asking.slowest, asking.refused
    gone = min(set(retrievers) & {"one", "two"})
    cluster.kill(gone)
    until(lambda: gone not in cluster.alive().values(), what="the node's end")
    until(lambda: len(places(cluster, "retriever")) == 2, what="another retriever")
    count = asking.good
    until(lambda: asking.good > count + 50, what="fifty answers")
    asking.stop.set()
    asking.join(90)
    assert asking.lost == 0
    cluster.end_services()
    tell(
        "a worker node with one of two retrievers loses its power while it serves",
        "nothing: a client that tries again gets its answer",
        f"{asking.refused - refused} of {asking.good} requests had to be tried again; the slowest took "
        f"{asking.slowest:.1f} s, before {before:.1f} s",
    )
