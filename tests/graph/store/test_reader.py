import numpy as np
import pytest

from coldray.errors import UserError
from coldray.graph.store import GraphStore

ITEMS = {"1": ["red pen", "ink"], "2": ["ink", "paper"], "3": ["box"]}


@pytest.fixture(scope="module")
def store(catalogue, tmp_path_factory):
    uri = tmp_path_factory.mktemp("graph")
    catalogue.write(uri, ITEMS)
    return GraphStore.open(str(uri))


def test_a_hop_has_all_edges_of_its_frontier_in_order(store):
    frontier = store.items(["2", "1"])
    hop = store.hop(frontier)
    assert hop.source.tolist() == [frontier[0]] * 2 + [frontier[1]] * 2
    names = store.entities(hop.target)["name"].to_pylist()
    assert sorted(names[:2]) == ["ink", "paper"]
    assert sorted(names[2:]) == ["ink", "red pen"]
    texts = store.relation_texts(hop.relation)["description"].to_pylist()
    assert set(texts) == {"2 has ink", "2 has paper", "1 has red pen", "1 has ink"}
    assert len(store.hop([]).target) == 0


def test_counts_items_and_profiles(store):
    assert store.num_entities == 7
    assert store.num_relations == 7
    assert store.degrees.sum() == 14
    assert int(store.is_item.sum()) == 3
    assert store.items(["1", "none"])[1] == -1
    assert store.item_ids(store.items(["3", "1"])) == ["3", "1"]
    assert store.profiles(["3", "none"]) == {"3": "profile of 3"}


def test_positions_may_repeat(store):
    place = int(store.items(["1"])[0])
    assert store.entities([place, place])["name"].to_pylist() == ["T 1", "T 1"]
    assert store.relation_vectors([0, 1, 0]).shape == (3, 16)


@pytest.mark.parametrize("index", ["auto", "flat", "ivf", "hnsw"])
def test_search_finds_the_nearest_whatever_the_index(store, catalogue, index):
    query = catalogue.embed(["ink: ink by 1\nink by 2", "box: box by 3"])
    found, cosines = store.search(query, 2, index=index)
    assert store.entities(found[:, 0])["name"].to_pylist() == ["ink", "box"]
    assert np.allclose(cosines[:, 0], 1, atol=2e-3)


def test_search_among_items_alone_and_for_more_than_there_are(store, catalogue):
    found, _ = store.search(catalogue.embed(["T 3"]), 5, items_only=True)
    assert sorted(store.item_ids(found[0][:3])) == ["1", "2", "3"]
    assert found[0][3:].tolist() == [-1, -1]


def test_a_graph_that_is_not_there_or_damaged_is_said(store, tmp_path, catalogue):
    with pytest.raises(UserError, match="holds no graph"):
        GraphStore.open(str(tmp_path))
    uri = tmp_path / "damaged"
    catalogue.write(uri, ITEMS)
    for file in (uri / "relations.lance").rglob("*.manifest"):
        file.unlink()
    with pytest.raises(UserError, match="table relations cannot be read"):
        GraphStore.open(str(uri))
