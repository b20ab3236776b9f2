import networkx as nx

from coldray import storage
from coldray.graph.export import to_graphml, to_parquet
from coldray.graph.store import GraphStore

ITEMS = {"1": ["ab", "ink"], "2": ["ba", "p & <q>"]}


def test_graphml_and_parquet_say_the_same_graph(catalogue, tmp_path):
    catalogue.write(tmp_path / "graph", ITEMS)
    store = GraphStore.open(str(tmp_path / "graph"))
    to_graphml(store, str(tmp_path / "graph.graphml"))
    to_parquet(store, str(tmp_path / "tables"))
    made = nx.read_graphml(tmp_path / "graph.graphml")
    entities = storage.read_table(tmp_path / "tables" / "entities.parquet").to_pylist()
    relations = storage.read_table(tmp_path / "tables" / "relations.parquet").to_pylist()
    assert made.number_of_nodes() == len(entities) == store.num_entities == 5
    assert made.number_of_edges() == len(relations) == store.num_relations
    for row in entities:
        node = made.nodes[str(row["id"])]
        assert (node["label"], node["type"], node.get("item_id")) == (
            row["name"],
            row["type"],
            row["item_id"],
        )
        assert made.degree(str(row["id"])) == row["degree"]
    assert {row["item_id"] for row in entities} == {"1", "2", None}
    ids = {row["id"] for row in entities}
    assert all({row["head"], row["tail"]} <= ids for row in relations)
