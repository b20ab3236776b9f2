"""Reading one version of a graph: who is next to whom in memory, texts and vectors from the tables as they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldray.errors import UserError
from coldray.graph.names import item_entity_id
from coldray.graph.store.similar import canonical
from coldray.graph.store.tables import Manifest, open_table, read_manifest

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
IndexKind = Literal["auto", "flat", "ivf", "hnsw"]

_FLAT = 200_000
"""entities up to which all are compared; beyond, `auto` reads inverted lists"""
_PROBES = 32


@dataclass(frozen=True)
class Hop:
    """The edges of a frontier, one a row; those of a position stand together, in the order asked for."""

    source: Int32
    """[e] position that the edge starts at"""
    target: Int32
    """[e] position that it leads to"""
    relation: Int32
    """[e] position of the relation"""


class GraphStore:
    """One version of a graph, which stays as it is while others are written.

    Entities and relations are named by their positions, 0 to n - 1. Entities that are nearly the same (`similar`) are one:
    the position of one stands for all, and the edges of all are its edges.
    """

    def __init__(self, uri: str, manifest: Manifest) -> None:
        self.uri, self.manifest = uri, manifest
        self.tables = {name: open_table(uri, name, version) for name, version in manifest.tables.items()}
        columns = self.tables["entities"].to_table(columns=["id", "type", "mentions"])
        ids = columns["id"].to_numpy()
        order = np.argsort(ids, kind="stable")
        self.ids: Int64 = ids[order]
        """[n] ascending"""
        self._rows: Int64 = order
        """[n] row of the table at each position"""
        kinds = columns["type"].combine_chunks().dictionary_encode()
        self.types: list[str] = kinds.dictionary.to_pylist()
        self.type_codes: Int32 = kinds.indices.to_numpy()[order].astype(np.int32)
        """[n] index into `types`"""
        mentions = columns["mentions"].to_numpy()[order]
        pairs = self.tables["similar"].to_table(columns=["a", "b"])
        ends = [self._positions(pairs[name].to_numpy()) for name in ("a", "b")]
        self.leader: Int64 = canonical(self.ids, mentions, np.stack(ends, axis=1))
        """[n] position that stands for each"""
        self._link()

    @staticmethod
    def open(uri: str, version: int | None = None) -> "GraphStore":
        """Return a version of the graph at `uri`; None: the newest. Raises UserError if it is not there or damaged."""
        return GraphStore(uri, read_manifest(uri, version))

    def _link(self) -> None:
        """Make the adjacency: the edges of position i are [start[i], start[i + 1]) of `targets` and `relations`."""
        ends = self.tables["relations"].to_table(columns=["head", "tail"])
        head, tail = (
            self.leader[self._positions(ends[name].to_numpy())].astype(np.int32) for name in ("head", "tail")
        )
        keep = np.flatnonzero(head != tail)  # two that became one are not related to each other
        source = np.concatenate([head[keep], tail[keep]])
        order = np.argsort(source, kind="stable")
        self.targets: Int32 = np.concatenate([tail[keep], head[keep]])[order]
        self.relations: Int32 = np.concatenate([keep, keep])[order].astype(np.int32)
        self.start: Int64 = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=len(self.ids)))])

    def _positions(self, ids: Int64) -> Int64:
        """Return the positions of entities, by id. Raises UserError if one is not there."""
        found: Int64 = np.searchsorted(self.ids, ids).clip(max=max(len(self.ids) - 1, 0))
        if len(ids) and (not len(self.ids) or not np.array_equal(self.ids[found], ids)):
            raise UserError(
                f"{self.uri}: is damaged (an end is missing); roll back to another version, or build it anew"
            )
        return found

    @property
    def num_entities(self) -> int:
        """Entities, those that are nearly the same counted once."""
        return int((self.leader == np.arange(len(self.ids))).sum())

    @property
    def num_relations(self) -> int:
        """Relations between different entities."""
        return len(self.targets) // 2

    @property
    def degrees(self) -> Int64:
        """[n] edges of each position."""
        return np.diff(self.start)

    @cached_property
    def is_item(self) -> Bools:
        """[n] whether the entity is an item."""
        item = self.types.index("item") if "item" in self.types else -1
        found: Bools = self.type_codes == item
        return found

    def hop(self, positions: Sequence[int] | Int32 | Int64) -> Hop:
        """Return the edges of `positions` [f]."""
        frontier = np.asarray(positions, np.int64)
        counts = self.start[frontier + 1] - self.start[frontier]
        places = np.arange(counts.sum()) + np.repeat(
            self.start[frontier] - (np.cumsum(counts) - counts), counts
        )
        source = np.repeat(frontier, counts).astype(np.int32)
        return Hop(source, self.targets[places], self.relations[places])

    def entities(self, positions: Sequence[int] | Int32 | Int64) -> pa.Table:
        """Return id, type, name, description and mentions of entities [n], in the order of `positions`."""
        columns = ["id", "type", "name", "description", "mentions"]
        return self._take("entities", self._rows[np.asarray(positions, np.int64)], columns)

    def relation_texts(self, positions: Sequence[int] | Int32 | Int64) -> pa.Table:
        """Return id, type, description and mentions of relations [n], in the order of `positions`."""
        return self._take(
            "relations", np.asarray(positions, np.int64), ["id", "type", "description", "mentions"]
        )

    def relation_vectors(self, positions: Sequence[int] | Int32 | Int64) -> Float32:
        """Return the vectors of relations, [n, d]."""
        return _matrix(self._take("relations", np.asarray(positions, np.int64), ["vector"])["vector"])

    def _take(self, table: str, rows: Int64, columns: list[str]) -> pa.Table:
        if not len(rows):
            return self.tables[table].schema.empty_table().select(columns)
        distinct, places = np.unique(rows, return_inverse=True)
        return self.tables[table].take(distinct.tolist(), columns=columns).take(pa.array(places))

    def items(self, item_ids: Sequence[str]) -> Int64:
        """Return the position of each item, [n]; -1 of one that the graph does not have."""
        if not len(self.ids):
            return np.full(len(item_ids), -1, np.int64)
        wanted = np.array([item_entity_id(item) for item in item_ids], np.int64)
        found = np.searchsorted(self.ids, wanted).clip(max=len(self.ids) - 1)
        return np.where(self.ids[found] == wanted, found, -1)

    @cached_property
    def _item_ids(self) -> dict[int, str]:
        table = self.tables["items"].to_table(columns=["item_id", "entity"])
        places = self._positions(table["entity"].to_numpy())
        return dict(zip(places.tolist(), table["item_id"].to_pylist(), strict=True))

    def item_ids(self, positions: Sequence[int] | Int32 | Int64) -> list[str | None]:
        """Return the item id of each position; None of what is no item."""
        return [self._item_ids.get(int(position)) for position in positions]

    def profiles(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Return the profile of each item that the graph has, by item id."""
        places = self.items(item_ids)
        rows = self.entities(places[places >= 0])
        known = [item for item, place in zip(item_ids, places, strict=True) if place >= 0]
        return dict(zip(known, rows["description"].to_pylist(), strict=True))

    def search(
        self, vectors: Float32, k: int, items_only: bool = False, index: IndexKind = "auto"
    ) -> tuple[Int64, Float32]:
        """Return positions [q, k] and cosines [q, k] of the entities nearest to `vectors` [q, d], nearest first.

        Where there are fewer than k the rest has position -1. The index is made by the first search and kept; on a GPU
        where FAISS has one. Entities that another stands for are found as that one.
        """
        name = (items_only, index)
        if name not in self._indexes:
            self._indexes[name] = self._index(items_only, index)
        made, places = self._indexes[name]
        queries = np.ascontiguousarray(vectors, np.float32).copy()
        faiss.normalize_L2(queries)
        cosines, rows = made.search(queries, k)
        found = np.where(rows >= 0, self.leader[places[rows.clip(min=0)]], -1)
        return found, cosines

    @cached_property
    def _indexes(self) -> dict[tuple[bool, str], tuple[Any, Int64]]:
        return {}

    def _index(self, items_only: bool, kind: IndexKind) -> tuple[Any, Int64]:
        places = np.flatnonzero(self.is_item) if items_only else np.arange(len(self.ids))
        dim = self.manifest.dim
        made: Any
        if kind == "flat" or (kind == "auto" and len(places) <= _FLAT):
            made = faiss.IndexFlatIP(dim)
        elif kind == "hnsw":
            made = faiss.IndexHNSWFlat(dim, 32, faiss.METRIC_INNER_PRODUCT)
        else:
            lists = max(1, int(2 * np.sqrt(len(places))))
            made = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
            made.nprobe = min(lists, _PROBES)
        if kind != "hnsw" and faiss.get_num_gpus() > 0:
            made = faiss.index_cpu_to_all_gpus(made)
        column = self.tables["entities"].to_table(columns=["vector"])["vector"]
        vectors = _matrix(column)[self._rows[places]]
        faiss.normalize_L2(vectors)
        if not made.is_trained:
            made.train(vectors[np.random.default_rng(0).permutation(len(vectors))[: 256 * made.nlist]])
        made.add(vectors)
        return made, places


def _matrix(column: pa.ChunkedArray) -> Float32:
    """Return a column of vectors as [n, d]."""
    if not len(column):
        return np.zeros((0, column.type.list_size), np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    vectors: Float32 = flat.astype(np.float32).reshape(len(column), -1)
    return vectors
