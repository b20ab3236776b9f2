"""Retrievers over real graphs, in this process."""

import asyncio
import shutil

import numpy as np
import pytest

from coldray.errors import ServiceError, UserError
from coldray.graph.store import GraphStore
from coldray.llm.cached import Cached
from coldray.llm.engine import Answer
from coldray.serving.problems import ProblemError
from coldray.serving.retriever import Retriever, remembering, warm
from coldray.serving.settings import ColdRAG

ITEMS = {"a": ["ink", "red"], "b": ["ink", "paper"], "c": ["paper"]}


@pytest.fixture
def graph(catalogue, tmp_path):
    catalogue.write(tmp_path / "graph", ITEMS)
    return str(tmp_path / "graph")


@pytest.fixture
def make(graph, catalogue):
    def make(connect=None, **changes):
        made = Retriever(ColdRAG.model_validate({"graph": graph} | changes), catalogue.embed, connect)
        warm(made.store, catalogue.embed)
        return made

    return make


def ids(found):
    return [item.item_id for item in found.items]


def test_it_recommends_finds_and_shows(make):
    retriever = make()

    async def run():
        found = await retriever.recommend(["a"], 5, {"fill": False})
        hops = [type(part).__name__ async for part in retriever.stream(["a"], 5, {})]
        return (
            found,
            hops,
            await retriever.find("t", 2),
            await retriever.item("b"),
            await retriever.around("a"),
        )

    found, hops, listed, item, around = asyncio.run(run())
    assert ids(found) == ["b", "c"]
    assert hops[-1] == "Recommendation"
    assert set(hops[:-1]) == {"HopTrace"}
    assert len(listed) == 2
    assert item == {"item_id": "b", "title": "T b", "profile": "profile of b"}
    assert around["nodes"][0]["item_id"] == "a"


def test_what_is_not_there_is_a_problem(make):
    retriever = make()
    for asked in (retriever.item, retriever.around):
        with pytest.raises(ProblemError, match="no item of the graph") as raised:
            asyncio.run(asked("none"))
        assert raised.value.problem.status == 404


def test_a_new_version_is_taken_up_and_old_answers_go_on(make, catalogue, graph):
    retriever = make()
    served = []
    retriever.looked = served.append
    before = retriever.store
    catalogue.write(graph, {"d": ["red"]})
    asyncio.run(retriever.refresh())
    assert (retriever.version, served) == (2, [2])
    assert "d" in ids(asyncio.run(retriever.recommend(["a"], 5, {})))
    assert before.items(["d"])[0] == -1
    asyncio.run(retriever.refresh())
    assert served == [2, 2]


def test_a_broken_version_is_not_taken_up_until_it_is_whole(make, catalogue, graph, tmp_path, monkeypatch):
    retriever = make()
    catalogue.write(graph, {"d": ["red"]})
    newest = tmp_path / "graph" / "manifests" / "00000002.json"
    text = newest.read_text()
    newest.write_text(text.replace('"items": 4', '"items": 5'))
    asyncio.run(retriever.refresh())
    assert retriever.version == 1
    assert "version 2" in asyncio.run(retriever.status())["refused"]
    newest.write_text(text)
    asyncio.run(retriever.refresh())
    assert retriever.version == 1  # not looked at again so soon
    monkeypatch.setattr("coldray.serving.retriever._AGAIN_S", 0)
    newest.write_text("{")
    asyncio.run(retriever.refresh())
    assert retriever.version == 1
    newest.write_text(text)
    asyncio.run(retriever.refresh())
    assert retriever.version == 2
    assert asyncio.run(retriever.status())["refused"] == ""


def test_a_graph_that_is_gone_is_served_from_memory_and_said_to_be_gone(make, graph):
    retriever = make()
    shutil.move(graph, graph + "-away")
    asyncio.run(retriever.refresh())
    assert asyncio.run(retriever.status())["store"] == "unreachable"
    assert ids(asyncio.run(retriever.recommend(["a"], 1, {}))) == ["b"]
    assert asyncio.run(retriever.find("t a", 1)) == [{"item_id": "a", "title": "T a"}]
    assert asyncio.run(retriever.around("a"))["edges"]
    shutil.move(graph + "-away", graph)
    asyncio.run(retriever.refresh())
    assert asyncio.run(retriever.status())["store"] == "reachable"


def test_it_follows_by_itself(make, catalogue, graph):
    retriever = make(refresh_s=0.05)

    async def run():
        following = await retriever.start()
        catalogue.write(graph, {"d": ["red"]})
        for _ in range(200):
            await asyncio.sleep(0.02)
            if retriever.version == 2:
                break
        following.cancel()

    asyncio.run(run())
    assert retriever.version == 2


def test_settings_that_ask_a_model_say_that_there_is_none(make):
    with pytest.raises(ProblemError, match="no language model"):
        asyncio.run(make().recommend(["a"], 5, {"scorer": "hybrid"}))
    assert asyncio.run(make().status())["scorers"] == ["embedding"]


class Ranks:
    identity = "ranks"

    async def generate(self, request):
        return Answer(request.choices[-1], 5, 1)

    async def cut(self, texts, tokens):
        return texts


def test_a_model_that_is_late_is_waited_for_by_the_next_request(make):
    tries = []

    async def connect():
        tries.append(1)
        if len(tries) == 1:
            raise ServiceError("llm app: does not run")
        return Cached(Ranks())

    retriever = make(connect)
    with pytest.raises(ProblemError, match="does not run") as raised:
        asyncio.run(retriever.recommend(["a"], 5, {"ranker": "llm"}))
    assert raised.value.problem.status == 503
    assert raised.value.headers["Retry-After"] == "10"
    found = asyncio.run(retriever.recommend(["a"], 2, {"ranker": "llm"}))
    assert len(found.items) == 2
    assert found.spent.calls >= 1


def test_a_graph_of_another_sentence_model_is_refused(graph, catalogue):
    with pytest.raises(UserError, match="sentence model"):
        warm(GraphStore.open(graph), lambda texts: catalogue.embed(texts)[:, :3])


def test_texts_are_embedded_once_as_long_as_there_is_room(catalogue):
    asked = []
    embed = remembering(lambda texts: asked.extend(texts) or catalogue.embed(texts), most=2)
    for texts in (["a", "b", "a"], ["b"], ["c", "b"], ["a"]):
        assert np.array_equal(embed(texts), catalogue.embed(texts))
    assert asked == ["a", "b", "c", "a"]
