"""A few items in and out of a graph, with answers from a scripted address."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from coldray.errors import ServiceError, UserError
from coldray.graph.insert import insert_items, write
from coldray.graph.settings import BuildSettings
from coldray.graph.store import GraphStore, manifests, writing
from coldray.llm.cached import Cached
from coldray.llm.settings import OpenAI, make_engine

ROW = {"item_id": "n1", "title": "Green kettle", "brand": "Acme", "material": "steel"}


@pytest.fixture
def put(llm_address, catalogue, tmp_path):
    catalogue.write(tmp_path, {"a": ["kettle"]})
    settings = BuildSettings.model_validate({"llm": llm_address.settings(), "entities": {"brand": "brand"}})

    def put(*rows):
        async def run():
            engine = Cached(make_engine(OpenAI.model_validate(llm_address.settings())))
            turn = asyncio.Lock()
            return await insert_items(
                str(tmp_path), rows, settings, engine, "scripted", catalogue.embed, turn
            )

        return asyncio.run(run())

    put.graph = str(tmp_path)
    return put


def test_an_item_joins_with_its_entities_and_those_of_its_fields(put):
    done = put(ROW)
    assert (done.version, done.status, done.errors) == (2, {"n1": "added"}, {})
    store = GraphStore.open(put.graph)
    hop = store.hop(store.items(["n1"]))
    found = {(row["type"], row["name"]) for row in store.entities(hop.target).to_pylist()}
    assert found == {("brand", "Acme"), ("feature", "Green"), ("feature", "kettle")}


def test_the_same_again_costs_nothing_and_a_change_is_one(put, llm_address):
    put(ROW)
    asked = len(llm_address.asked)
    assert put(ROW).status == {"n1": "unchanged"}
    assert (len(llm_address.asked), manifests(put.graph)) == (asked, [1, 2])
    changed = put(ROW | {"title": "Blue kettle"})
    assert (changed.version, changed.status) == (3, {"n1": "changed"})
    store = GraphStore.open(put.graph)
    assert store.entities(store.items(["n1"]))["name"].to_pylist() == ["Blue kettle"]


def test_many_items_are_one_version_and_a_failed_one_is_told_and_not_written(put, llm_address):
    llm_address.fault = lambda number, body: (
        (400, '{"error": {"message": "no"}}') if "Broken" in body["messages"][1]["content"] else None
    )
    done = put(ROW, {"item_id": "n2", "title": "Broken"}, {"item_id": "n3", "title": "Red kettle"})
    assert done.status == {"n1": "added", "n2": "failed", "n3": "added"}
    assert done.errors["n2"].startswith("profile")
    assert done.version == 2
    assert GraphStore.open(put.graph).items(["n1", "n2", "n3"]).tolist()[1] == -1


def test_with_all_failed_there_is_no_new_version(put, llm_address):
    llm_address.fault = lambda number, body: (400, '{"error": {"message": "no"}}')
    assert put(ROW).version == 1
    assert manifests(put.graph) == [1]


def test_a_model_that_cannot_be_reached_writes_nothing(put, llm_address):
    llm_address.fault = lambda number, body: (500, "{}")
    with pytest.raises(ServiceError, match="no answer"):
        put(ROW)
    assert manifests(put.graph) == [1]


def test_while_another_process_writes_it_is_said_at_once(put, catalogue):
    with (
        writing(put.graph),
        ThreadPoolExecutor(1) as other,
        pytest.raises(ServiceError, match="try again later"),
    ):
        other.submit(write, put.graph, [], {}, ["a"], catalogue.embed, 0.95).result(30)
    assert write(put.graph, [], {}, ["a"], catalogue.embed, 0.95) == 2


def test_an_unknown_item_is_not_removed(put, catalogue):
    with pytest.raises(UserError, match="nothing was removed"):
        write(put.graph, [], {}, ["a", "it's"], catalogue.embed, 0.95)
    assert manifests(put.graph) == [1]
