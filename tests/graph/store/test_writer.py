import multiprocessing
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldray.errors import UserError
from coldray.graph.store import GraphStore, manifests, prune, rollback, writing
from tests.plugins.graph import Catalogue

WORDS = ["red pen", "Red Pens", "ink", "paper", "papers", "box", "blue", "green tea", "ab", "ba"]
features = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4)
steps = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from("123456"), features, max_size=3),
        st.sets(st.sampled_from("123456"), max_size=2),
    ),
    min_size=1,
    max_size=5,
)


@pytest.fixture(params=["as it is", "indexed at once"])
def keeping(request, monkeypatch):
    """How tables are kept fast: as of large graphs, too, whose indexes are made, fall behind and catch up."""
    if request.param == "indexed at once":
        for name, value in {"_FRAGMENTS": 2, "_SMALL": 20, "_INDEX_FROM": 4, "_BEHIND": 3, "_IDS": 3}.items():
            monkeypatch.setattr(f"coldray.graph.store.writer.{name}", value)
        monkeypatch.setattr("coldray.graph.store.reader._TAKEN", 3)


@pytest.mark.usefixtures("keeping")
@given(steps)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_graph_is_a_function_of_its_items_whatever_their_history(catalogue, tmp_path_factory, history):
    uri, fresh = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    items: dict[str, list[str]] = {}
    for changed, removed in history:
        gone = [item for item in removed if item not in changed]
        items = {item: has for item, has in items.items() if item not in gone} | changed
        if not items and not manifests(str(uri)):
            continue
        catalogue.write(uri, changed, removed=gone)
    if items:
        catalogue.write(fresh, items)
        assert catalogue.state(uri) == catalogue.state(fresh)
        check(GraphStore.open(str(uri)))
    elif manifests(str(uri)):
        assert all(rows == [] for rows in catalogue.state(uri).values())


@pytest.mark.usefixtures("keeping")
def test_a_large_hub_loses_and_gets_back_what_its_sample_has(catalogue, tmp_path):
    everyone = {str(i): ["hub"] for i in range(40)}
    catalogue.write(tmp_path / "fresh", everyone)
    catalogue.write(tmp_path / "a", everyone)
    for some in (range(0, 40, 2), range(0, 30, 3)):
        catalogue.write(tmp_path / "a", {}, removed=[str(i) for i in some])
        catalogue.write(tmp_path / "a", {str(i): ["hub"] for i in some})
    assert catalogue.state(tmp_path / "a") == catalogue.state(tmp_path / "fresh")


def test_the_same_again_changes_nothing(catalogue, tmp_path):
    items = {"1": ["ink"], "2": ["ink", "box"]}
    catalogue.write(tmp_path, items)
    before = catalogue.state(tmp_path)
    for _ in range(3):
        catalogue.write(tmp_path, items)
    assert catalogue.state(tmp_path) == before


def test_a_key_that_stands_twice_is_not_published(catalogue, tmp_path, monkeypatch):
    catalogue.write(tmp_path, {"1": ["ink"]})
    monkeypatch.setattr("coldray.graph.store.writer.Writer._delete", lambda *args: None)
    with pytest.raises(RuntimeError, match="a key stands twice in"):
        catalogue.write(tmp_path, {"1": ["box"]})
    assert manifests(str(tmp_path)) == [1]


def check(store):
    """Assert what always holds: no relation without both ends, no entity that nothing mentions."""
    tables = {name: table.to_table() for name, table in store.tables.items()}
    ids = set(tables["entities"]["id"].to_pylist())
    assert len(ids) == tables["entities"].num_rows
    for end in ("head", "tail"):
        assert set(tables["relations"][end].to_pylist()) <= ids
    assert set(tables["entity_mentions"]["entity"].to_pylist()) == ids
    relations = tables["relations"]["id"].to_pylist()
    assert sorted(set(tables["relation_mentions"]["relation"].to_pylist())) == sorted(relations)


def test_names_that_are_nearly_the_same_are_one(catalogue, tmp_path):
    catalogue.write(tmp_path, {"1": ["ab"], "2": ["ba", "ink"], "3": ["ba"]}, above=0.99)
    store = GraphStore.open(str(tmp_path))
    assert len(store.ids) - store.num_entities == 1
    hop = store.hop(store.items(["1"]))
    (other,) = store.entities(hop.target).to_pylist()
    assert other["name"] == "ba"  # two mention it, one the other
    assert {store.item_ids([int(p)])[0] for p in store.hop(hop.target).target} >= {"1", "2", "3"}
    catalogue.write(tmp_path, {}, removed=["2", "3"])
    store = GraphStore.open(str(tmp_path))
    assert store.entities(store.hop(store.items(["1"])).target)["name"].to_pylist() == ["ab"]


def test_a_reader_keeps_its_version(catalogue, tmp_path):
    catalogue.write(tmp_path, {"1": ["ink"], "2": ["paper"]})
    store = GraphStore.open(str(tmp_path))
    catalogue.write(tmp_path, {"1": ["box"]}, removed=["2"])
    assert store.entities(store.hop(store.items(["2"])).target)["name"].to_pylist() == ["paper"]
    assert GraphStore.open(str(tmp_path)).items(["2"]).tolist() == [-1]


def test_a_version_comes_back_and_old_ones_are_forgotten(catalogue, tmp_path):
    uri = str(tmp_path)
    for item in "123":
        catalogue.write(uri, {item: ["ink", item * 3]})
    first = catalogue.state(uri, 1)
    assert rollback(uri, 1) == 4
    assert catalogue.state(uri) == first
    catalogue.write(uri, {"9": ["box"]})  # writes after what was rolled back to, not after what was newest
    assert GraphStore.open(uri).items(["1", "2", "9"]).tolist().count(-1) == 1
    with pytest.raises(UserError, match="has no version 77"):
        rollback(uri, 77)
    held = GraphStore.open(uri)
    assert prune(uri, keep=1) == [1, 2, 3, 4]
    assert manifests(uri) == [5]
    assert held.entities(range(len(held.ids))).num_rows == len(held.ids)
    catalogue.write(uri, {"8": ["box"]})
    check(GraphStore.open(uri))


def test_what_was_not_committed_has_not_happened(catalogue, tmp_path):
    uri = str(tmp_path)
    catalogue.write(uri, {"1": ["ink"]})
    before = catalogue.state(uri)
    with writing(uri) as writer:
        writer.apply(*catalogue.tables({"1": ["box"], "2": ["paper"]}), [], catalogue.embed, 0.95)
    assert catalogue.state(uri) == before
    catalogue.write(uri, {"3": ["ink"]})
    assert GraphStore.open(uri).items(["1", "2", "3"]).tolist()[1] == -1
    check(GraphStore.open(uri))


def test_a_quote_in_an_id_and_other_vectors(catalogue, tmp_path):
    uri = str(tmp_path)
    name = 'it\'s "1"; DROP'
    catalogue.write(uri, {name: ["ink"], "2": ["ink"]})
    catalogue.write(uri, {name: ["box"]})
    catalogue.write(uri, {}, removed=[name])
    assert GraphStore.open(uri).items([name, "2"])[0] == -1
    with (
        pytest.raises(UserError, match=r"has vectors of 16 numbers, the sentence model gives 3"),
        writing(uri) as writer,
    ):
        writer.apply(*catalogue.tables({"7": ["new"]}), [], lambda texts: catalogue.embed(texts)[:, :3], 0.95)


def test_an_item_relates_only_what_it_mentions(catalogue, tmp_path):
    items, entities, relations = catalogue.tables({"1": ["ink"]})
    with writing(str(tmp_path)) as writer, pytest.raises(ValueError, match="does not mention"):
        writer.apply(items, entities.slice(0, 1), relations, [], catalogue.embed, 0.95)


def test_an_empty_graph_is_not_published(catalogue, tmp_path):
    with pytest.raises(UserError, match="has no items yet"):
        catalogue.write(tmp_path, {})


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {root!r})
    from tests.plugins.graph import Catalogue
    import coldray.graph.store.writer as w

    # Dies before the n-th change of a table or manifest.
    left = [int(sys.argv[2])]
    def counting(what):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return what(*args, **kwargs)
        return call
    w.Writer._append = counting(w.Writer._append)
    w.Writer._delete = counting(w.Writer._delete)
    w.write_manifest = counting(w.write_manifest)
    Catalogue().write(sys.argv[1], {{"1": ["box", "ink"], "4": ["paper", "new"]}}, removed=["2"])
    print("left", left[0])
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_step_leaves_the_last_whole_version(catalogue, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED.format(root=str(Path(__file__).parents[3]))))
    uri = str(tmp_path / "graph")
    catalogue.write(uri, {"1": ["ink"], "2": ["paper", "ink"], "3": ["box"]})
    before, done, step = catalogue.state(uri), False, 0
    while not done:
        run = subprocess.run(
            [sys.executable, script, uri, str(step)], capture_output=True, text=True, check=False
        )
        done = run.returncode == 0
        assert done or run.returncode == -signal.SIGKILL, run.stderr
        if not done:
            assert catalogue.state(uri) == before
            check(GraphStore.open(uri))
        step += 5  # about a third of the steps, each start being a second and more
    assert step > 10
    fresh = tmp_path / "fresh"
    catalogue.write(fresh, {"1": ["box", "ink"], "3": ["box"], "4": ["paper", "new"]})
    assert catalogue.state(uri) == catalogue.state(fresh)


def write_some(uri, items):
    for item in items:
        Catalogue().write(uri, {item: ["ink", item]})


@pytest.mark.slow
def test_two_writers_at_once_lose_nothing(catalogue, tmp_path):
    uri, parts = str(tmp_path / "graph"), ("abc", "def")
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write_some, args=(uri, part)) for part in parts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    catalogue.write(tmp_path / "fresh", {item: ["ink", item] for item in "abcdef"})
    assert catalogue.state(uri) == catalogue.state(tmp_path / "fresh")
    assert manifests(uri) == [1, 2, 3, 4, 5, 6]
