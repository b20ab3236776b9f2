"""A graph built by two language models on two nodes, one of which goes in its middle."""

import json
import time

import pyarrow as pa
import pytest
import yaml

from coldray import storage
from coldray.graph.store import GraphStore
from coldray.llm.answers import parts
from tests.chaos.conftest import finish
from tests.plugins.nodes import until

pytestmark = pytest.mark.chaos

COUNT = 48
THINGS = ("kettle", "tent", "lamp", "drill", "scarf", "piano")
KINDS = ("red", "small", "wooden", "folding", "silent", "old", "light", "wireless")


@pytest.fixture
def build(cluster, smollm, tmp_path):
    """Return a function that starts a build into a folder of its own."""
    config = tmp_path / "build.yaml"
    llm = {"engine": "vllm", "model": smollm, "max_length": 1024, "concurrency": 8, "cache_gib": 1}
    settings = {"llm": llm, "engines": 2, "profile_words": 15, "profile_tokens": 30, "extraction_tokens": 150}
    config.write_text(yaml.safe_dump(settings | {"max_entities": 1, "max_relations": 1}))

    def start(name: str):
        titles = [f"{kind} {thing}" for kind in KINDS for thing in THINGS]
        items = pa.table({"item_id": [str(i) for i in range(COUNT)], "title": titles})
        storage.write_table(tmp_path / name / "items.parquet", items)
        words = (
            "graph",
            "build",
            str(tmp_path / name),
            "--config",
            str(config),
            "--address",
            cluster.address,
        )
        return cluster.popen(*words, "--json"), str(tmp_path / name / "graph")

    return start


def engines(cluster) -> set[str]:
    """Return the names of the nodes with an engine."""
    alive = cluster.alive()
    return {
        alive[a["node_id"]]
        for a in cluster.actors("MapWorker")
        if a["state"] == "ALIVE" and a["node_id"] in alive
    }


def test_a_node_killed_in_extraction_costs_time_alone(cluster, build, tell) -> None:
    before = time.monotonic()
    process, graph = build("whole")
    places: set[str] = set()
    while process.poll() is None:
        places |= engines(cluster)
        time.sleep(1)
    made = json.loads(finish(process)[0])
    seconds = time.monotonic() - before
    assert made["described"] == COUNT
    assert len(places) == 2

    before = time.monotonic()
    process, graph = build("killed")
    until(lambda: len(parts(f"{graph}/answers")) > 0, what="an answer")
    gone = min(engines(cluster) & {"one", "two"})
    cluster.kill(gone)
    made = json.loads(finish(process)[0])
    cost = time.monotonic() - before - seconds
    assert made["described"] == COUNT
    store = GraphStore.open(graph)
    assert int(store.is_item.sum()) == COUNT
    again = made["usage"]["calls"] + made["usage"]["remembered"] - 2 * COUNT
    tell(
        "a worker node loses its power while its model describes items",
        "nothing: every item is in the graph, once",
        f"{cost:+.0f} s of {seconds:.0f} s; {again} questions asked again",
    )
