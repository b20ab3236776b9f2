import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.errors import UserError
from coldray.graph.store import GraphStore
from coldray.graph.store.reader import _level, places_of, positions_of

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


def test_texts_are_right_after_rows_were_deleted_and_files_joined(catalogue, tmp_path, monkeypatch):
    for name, value in {"_FRAGMENTS": 2, "_SMALL": 20}.items():
        monkeypatch.setattr(f"coldray.graph.store.writer.{name}", value)
    for item in "abcdef":
        catalogue.write(tmp_path, {item: [item * 3, "ink"]})
    catalogue.write(tmp_path, {}, removed=["b", "e"])
    store = GraphStore.open(str(tmp_path))
    table = store.entities(range(len(store.ids)))
    assert table["id"].to_pylist() == store.ids.tolist()
    assert store.item_ids(store.items(["f", "b", "a"])) == ["f", None, "a"]
    found, cosines = store.search(catalogue.embed(["ink"]), 1, index="flat")
    assert store.entities(found[0])["name"].to_pylist() == ["ink"]
    assert cosines[0, 0] > 0.5


numbers = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.sampled_from([-(2**63), 2**63 - 1])


@given(st.sets(numbers, max_size=40), st.lists(numbers, max_size=40))
def test_positions_are_those_of_a_search(ids, others):
    there = np.array(sorted(ids), np.int64)
    wanted = np.array([*others, *ids], np.int64)
    expected = [sorted(ids).index(number) if number in ids else -1 for number in wanted.tolist()]
    assert positions_of(wanted, there).tolist() == expected


def test_what_is_held_is_what_the_tables_say(catalogue, tmp_path):
    catalogue.write(tmp_path, ITEMS)
    catalogue.write(tmp_path, {"2": ["ink", "tea"], "4": ["box"]}, removed=["3"])
    read, held = GraphStore.open(str(tmp_path)), GraphStore.open(str(tmp_path))
    held.hold()
    for name in ("entities", "relations"):
        held.tables[name] = None
    places, edges = np.arange(len(read.ids))[::-1], np.arange(read.num_relations)
    assert held.entities(places).to_pylist() == read.entities(places).to_pylist()
    assert held.relation_texts(edges).to_pylist() == read.relation_texts(edges).to_pylist()
    assert np.array_equal(held.entity_vectors(places), read.entity_vectors(places))
    assert np.array_equal(held.relation_vectors(edges), read.relation_vectors(edges))
    assert held.profiles(["4"]) == {"4": "profile of 4"}


@pytest.mark.parametrize("most", [1, 2, 3, 5, 100])
def test_a_bounded_hop_takes_from_hubs_first(store, most):
    frontier = store.items(["2", "3", "1"])
    hop, whole = store.hop(frontier, most), store.hop(frontier)
    edges = set(zip(whole.source.tolist(), whole.relation.tolist(), strict=True))
    taken = list(zip(hop.source.tolist(), hop.relation.tolist(), strict=True))
    assert set(taken) <= edges
    assert len(set(taken)) == len(taken)
    assert set(hop.source.tolist()) == set(frontier.tolist())
    assert len(taken) == {1: 3, 2: 3, 3: 3}.get(most, 5)


@given(st.lists(st.integers(0, 50), min_size=1), st.integers(1, 200))
def test_a_level_fills_what_there_is_room_for(counts, most):
    level = _level(np.array(counts, np.int64), most)
    assert level >= 1
    if level > 1:
        assert np.minimum(counts, level).sum() <= most
    if max(counts) > level:
        assert np.minimum(counts, level + 1).sum() > most


@given(st.dictionaries(st.integers(0, 5), st.sets(st.integers(0, 40), min_size=1), min_size=1), st.randoms())
def test_places_of_rows_are_found_whatever_was_deleted(fragments, random):
    rows = [(fragment << 32) + offset for fragment, offsets in fragments.items() for offset in offsets]
    random.shuffle(rows)
    wanted = random.sample(rows, len(rows) // 2)
    found = places_of(np.array(wanted, np.uint64), np.array(rows, np.uint64))
    assert [rows[place] for place in found] == wanted
