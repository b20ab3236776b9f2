import asyncio

import pyarrow as pa
import pytest

from coldray.graph.store import GraphStore
from coldray.zeroshot.catalogue import Catalogue
from coldray.zeroshot.coldrag import ColdRAG
from coldray.zeroshot.method import Person

SHOP = {
    "a": ["red", "pen"],
    "b": ["red", "ruler"],
    "c": ["blue", "pen"],
    "d": ["green", "lamp"],
    "elsewhere": ["red", "pen"],
}
IDS = ["a", "b", "c", "d"]


@pytest.fixture
def store(catalogue_graph, tmp_path):
    catalogue_graph.write(tmp_path / "graph", SHOP)
    return GraphStore.open(str(tmp_path / "graph"))


@pytest.fixture
def catalogue_graph():
    from tests.plugins.graph import Catalogue as Graph

    return Graph()


@pytest.fixture
def shop():
    ids = pa.array(IDS)
    return Catalogue.of(pa.table({"item_id": ids, "title": [f"T {i}" for i in IDS]}), ids, ())


@pytest.fixture
def buyer():
    return Person(0, [1], [], frozenset({1}))


WALK = {"scorer": "embedding", "fill": False}


def test_the_walk_offers_what_the_history_leads_to_with_evidence(engine, make_model, store, shop, buyer):
    engine.answer = lambda request: "T b\nT c\nT nothing at all"
    made = asyncio.run(ColdRAG(make_model(retrieval=WALK), shop, store, "coldrag").recommend(buyer, 4))
    user = engine.asked[-1].user
    offered = user.split("<candidates>")[1].split("</candidates>")[0]
    assert "T b" in offered
    assert "T c" in offered
    assert "T d" not in offered
    assert "T elsewhere" not in offered
    assert "has red" in offered
    assert made.items == [2, 3]
    assert made.unknown == 1
    assert all(made.evidence)
    assert engine.asked[-1].seed == 4


def test_the_constrained_one_can_make_nothing_up(engine, make_model, store, shop, buyer):
    engine.answer = lambda request: request.choices[-1]
    method = ColdRAG(make_model(retrieval=WALK), shop, store, "coldrag-constrained")
    made = asyncio.run(method.recommend(buyer, 4))
    assert set(made.items) == {2, 3}
    assert made.written == []
    assert all(request.choices for request in engine.asked)


def test_without_the_walk_the_nearest_are_offered(engine, make_model, store, shop, buyer):
    method = ColdRAG(make_model(retrieval=WALK), shop, store, "coldrag-nearest")
    asyncio.run(method.recommend(buyer, 4))
    assert "T d" in engine.asked[-1].user.split("</candidates>")[0]


def test_the_model_scores_edges_at_temperature_0_whatever_the_run(engine, make_model, store, shop, buyer):
    from coldray.llm.engine import Answer

    engine.answer = lambda request: Answer("", 3, 1, True, 9.0) if request.scale else "T b"
    method = ColdRAG(make_model(retrieval={"scorer": "llm", "fill": False}), shop, store, "coldrag")
    made = asyncio.run(method.recommend(buyer, 4))
    edges = [request for request in engine.asked if request.scale]
    assert edges
    assert {(request.temperature, request.seed) for request in edges} == {(0.0, 0)}
    assert made.usage.calls == len(engine.asked)
    assert made.usage.completion_tokens == len(edges) + 7


def test_a_history_the_graph_does_not_know_gets_the_newest(engine, make_model, store, buyer):
    ids = pa.array(["new", *IDS])
    wider = Catalogue.of(pa.table({"item_id": ids, "title": ["N", *(f"T {i}" for i in IDS)]}), ids, ())
    asyncio.run(ColdRAG(make_model(retrieval=WALK), wider, store, "coldrag").recommend(buyer, 0))
    assert "T a" in engine.asked[-1].user.split("</candidates>")[0].split("\n")
