import numpy as np
import pytest

from coldray.graph.store import GraphStore
from coldray.retrieval.anchors import find_anchors

ITEMS = {"1": ["red pen", "ink"], "2": ["ink", "paper"], "3": ["box"]}


@pytest.fixture(scope="module")
def store(catalogue, tmp_path_factory):
    uri = tmp_path_factory.mktemp("graph")
    catalogue.write(uri, ITEMS)
    return GraphStore.open(str(uri))


def test_the_newest_of_a_history_in_their_order_each_once(store, catalogue):
    found = find_anchors(store, ["2", "1", "3", "T 1"], 20, catalogue.embed)
    assert found.texts == ["T 2", "T 3", "T 1"]
    assert found.given == ["2", "3", "T 1"]
    assert find_anchors(store, ["1", "2", "3"], 2, None).given == ["2", "3"]


def test_a_query_is_the_mean_of_the_vectors(store, catalogue):
    found = find_anchors(store, ["1", "2"], 20, catalogue.embed)
    mean = store.entity_vectors(found.positions).sum(axis=0)
    assert np.allclose(found.query, mean / np.linalg.norm(mean))


def test_ten_thousand_items_cost_no_more_than_twenty(store, catalogue):
    found = find_anchors(store, ["1"] * 10_000 + ["x"] * 10_000, 20, None)
    assert (found.given, found.unknown) == (["1"], ["x"])


def test_a_text_stands_for_the_nearest_entity_and_keeps_its_words(store, catalogue):
    found = find_anchors(store, ["ink: ink by 1\nink by 2"], 20, catalogue.embed)
    assert store.entities(found.positions)["name"].to_pylist() == ["ink"]
    assert found.texts == ["ink: ink by 1\nink by 2"]
    assert found.similarities[0] == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("history", [[], [""], ["nobody"]])
def test_nothing_known_gives_no_anchor(store, history):
    found = find_anchors(store, history, 20, None)
    assert len(found.positions) == 0
    assert found.unknown == history
    assert not found.query.any()
