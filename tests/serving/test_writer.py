import asyncio

import pytest

from coldray import storage
from coldray.errors import ServiceError
from coldray.graph.store import GraphStore, manifests, writing
from coldray.llm.cached import Cached
from coldray.llm.settings import OpenAI, make_engine
from coldray.serving.problems import ProblemError
from coldray.serving.writer import GraphWriter

ROW = {"item_id": "n1", "title": "Green kettle"}


@pytest.fixture
def graph(catalogue, llm_address, tmp_path):
    catalogue.write(tmp_path, {"a": ["kettle"]})
    storage.write_json(f"{tmp_path}/build.json", {"llm": llm_address.settings()})
    return str(tmp_path)


@pytest.fixture
def run(graph, catalogue, llm_address):
    async def connect():
        return Cached(make_engine(OpenAI.model_validate(llm_address.settings())))

    def run(work, connect=connect):
        async def inner():
            return await work(GraphWriter(graph, catalogue.embed, connect))

        return asyncio.run(inner())

    return run


def test_items_come_and_go(run, graph):
    done = run(lambda writer: writer.put([ROW]))
    assert done == {"graph_version": 2, "items": [{"item_id": "n1", "status": "added", "error": ""}]}
    assert run(lambda writer: writer.delete("n1")) == {"graph_version": 3}
    assert GraphStore.open(graph).items(["n1", "a"])[0] == -1


def test_many_at_once_all_arrive(run, graph):
    async def work(writer):
        rows = [{"item_id": f"n{i}", "title": f"Thing {i}"} for i in range(5)]
        return await asyncio.gather(*(writer.put([row]) for row in rows), writer.delete("a"))

    versions = sorted(done["graph_version"] for done in run(work))
    assert versions == [2, 3, 4, 5, 6, 7]
    store = GraphStore.open(graph)
    assert (store.items([f"n{i}" for i in range(5)]) >= 0).all()
    assert store.items(["a"])[0] == -1


@pytest.mark.parametrize("work", [lambda writer: writer.put([ROW]), lambda writer: writer.delete("a")])
def test_while_a_build_writes_it_is_said_when_to_come_back(run, graph, work):
    with writing(graph), pytest.raises(ProblemError, match="try again later") as raised:
        run(work)
    assert raised.value.problem.status == 503
    assert manifests(graph) == [1]


def test_a_model_that_is_down_is_connected_to_anew(run, graph):
    async def down():
        raise ServiceError("llm app: does not run")

    with pytest.raises(ProblemError, match="does not run"):
        run(lambda writer: writer.put([ROW]), down)
    with pytest.raises(ProblemError, match="no language model") as raised:
        run(lambda writer: writer.put([ROW]), None)
    assert raised.value.problem.status == 409
    assert manifests(graph) == [1]


def test_an_unknown_item_cannot_be_removed(run):
    with pytest.raises(ProblemError, match="none: is no item") as raised:
        run(lambda writer: writer.delete("none"))
    assert raised.value.problem.status == 404
