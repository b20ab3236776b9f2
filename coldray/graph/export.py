"""A graph for other tools: GraphML, as Gephi, yEd and networkx read it, and Parquet."""

import io

import networkx as nx
import numpy as np
import pyarrow as pa

from coldray import storage
from coldray.graph.store import GraphStore


def to_parquet(store: GraphStore, out: str) -> None:
    """Write `out`/entities.parquet and `out`/relations.parquet: ids, types, names, descriptions, and the ends of relations.

    Entities that are nearly the same are one, as everywhere; relations between two that became one are left out.
    """
    places = np.flatnonzero(store.leader == np.arange(len(store.ids)))
    entities = store.entities(places)
    items = pa.array(store.item_ids(places), pa.string())
    degrees = pa.array(store.degrees[places])
    storage.write_table(
        storage.join(out, "entities.parquet"),
        entities.append_column("item_id", items).append_column("degree", degrees),
    )
    source, target, relation = _edges(store)
    told = store.relation_texts(relation)
    ends = {"head": pa.array(store.ids[source]), "tail": pa.array(store.ids[target])}
    table = pa.table(
        {"id": told["id"], **ends, **{name: told[name] for name in ("type", "description", "mentions")}}
    )
    storage.write_table(storage.join(out, "relations.parquet"), table)


def to_graphml(store: GraphStore, out: str) -> None:
    """Write the graph as GraphML. It is made in memory, about a kilobyte an entity or relation; larger ones go as Parquet."""
    made = nx.MultiGraph()
    places = np.flatnonzero(store.leader == np.arange(len(store.ids)))
    rows = store.entities(places).to_pylist()
    for row, item in zip(rows, store.item_ids(places), strict=True):
        told = {"type": row["type"], "label": row["name"], "description": row["description"]}
        made.add_node(str(row["id"]), **told, **({"item_id": item} if item else {}))
    source, target, relation = _edges(store)
    for one, other, row in zip(source, target, store.relation_texts(relation).to_pylist(), strict=True):
        made.add_edge(
            str(store.ids[one]), str(store.ids[other]), type=row["type"], description=row["description"]
        )
    stream = io.BytesIO()
    nx.write_graphml(made, stream)
    storage.write_bytes(out, stream.getvalue())


def _edges(store: GraphStore) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return source, target and relation of each edge, once."""
    source = np.repeat(np.arange(len(store.ids)), store.degrees)
    once = source < store.targets
    return source[once], store.targets[once], store.relations[once]
