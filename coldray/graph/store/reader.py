"""Reading one version of a graph: who is next to whom in memory, texts and vectors from the tables as they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from coldray.errors import UserError
from coldray.graph.names import item_entity_id
from coldray.graph.store.similar import canonical
from coldray.graph.store.tables import Manifest, matrix, open_table, read_manifest

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt64 = npt.NDArray[np.uint64]
Float32 = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
IndexKind = Literal["auto", "flat", "ivf", "hnsw"]

_TEXTS = {
    "entities": ["id", "type", "name", "description", "mentions"],
    "relations": ["id", "type", "description", "mentions"],
}
_FLAT = 200_000
"""entities up to which all are compared; beyond, `auto` reads inverted lists"""
_PROBES = 32
_TRAINED = 64
"""vectors that a list is trained on; more take longer and find hardly better"""
_TAKEN = 10_000
"""rows named in one filter"""


@dataclass(frozen=True)
class Hop:
    """The edges of a frontier, one a row; those of a position stand together, in the order asked for."""

    source: Int32
    """[e] position that the edge starts at"""
    target: Int32
    """[e] position that it leads to"""
    relation: Int32
    """[e] position of the relation"""


@dataclass(frozen=True)
class _Held:
    """A table in memory, in the order in which it was read."""

    places: Int32
    """[n] row of each position"""
    texts: pa.Table
    vectors: npt.NDArray[np.float16]
    """[n, d]"""


class GraphStore:
    """One version of a graph, which stays as it is while others are written.

    Entities and relations are named by their positions, 0 to n - 1. Entities that are nearly the same (`similar`) are one:
    the position of one stands for all, and the edges of all are its edges.
    """

    def __init__(self, uri: str, manifest: Manifest) -> None:
        self.uri, self.manifest = uri, manifest
        self.tables = {name: open_table(uri, name, version) for name, version in manifest.tables.items()}
        columns = self.tables["entities"].to_table(columns=["id", "type", "mentions"], with_row_id=True)
        ids = columns["id"].to_numpy()
        order = np.argsort(ids, kind="stable")
        self.ids: Int64 = ids[order]
        """[n] ascending"""
        self._rows: dict[str, UInt64] = {"entities": columns["_rowid"].to_numpy()[order]}
        """[n] id of the table's row at each position"""
        kinds = columns["type"].combine_chunks().dictionary_encode()
        self.types: list[str] = kinds.dictionary.to_pylist()
        self.type_codes: Int32 = kinds.indices.to_numpy()[order].astype(np.int32)
        """[n] index into `types`"""
        mentions = columns["mentions"].to_numpy()[order]
        self._held: dict[str, _Held] = {}
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
        ends = self.tables["relations"].to_table(columns=["head", "tail"], with_row_id=True)
        self._rows["relations"] = ends["_rowid"].to_numpy()
        both = np.empty((ends.num_rows, 2), np.int32)
        for side, name in enumerate(("head", "tail")):
            both[:, side] = self.leader[self._positions(ends[name].to_numpy())]
        kept = np.flatnonzero(both[:, 0] != both[:, 1]).astype(
            np.int32
        )  # what became one is not related to itself
        both = both[kept]
        # Row: relation, column: end, value: the other end. Turning it over sorts in linear time.
        begins = np.arange(0, both.size + 1, 2, dtype=np.int32 if both.size < 2**31 else np.int64)
        incidence = csr_array(
            (both[:, ::-1].ravel(), both.ravel(), begins), shape=(len(both), len(self.ids))
        ).tocsc()
        self.targets: Int32 = incidence.data
        self.relations: Int32 = kept[incidence.indices]
        self.start: Int64 = incidence.indptr.astype(np.int64)

    def _positions(self, ids: Int64) -> Int64:
        """Return the positions of entities, by id. Raises UserError if one is not there."""
        found = positions_of(ids, self.ids)
        if (found < 0).any():
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

    def hop(self, positions: Sequence[int] | Int32 | Int64, most: int | None = None) -> Hop:
        """Return the edges of `positions` [f].

        Of more than `most` an even sample: positions with few edges keep all of theirs, hubs lose.
        """
        frontier = np.asarray(positions, np.int64)
        there = self.start[frontier + 1] - self.start[frontier]
        counts = there if most is None else np.minimum(there, _level(there, most))
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        within = within * np.repeat(there, counts) // np.repeat(counts, counts)
        places = np.repeat(self.start[frontier], counts) + within
        source = np.repeat(frontier, counts).astype(np.int32)
        return Hop(source, self.targets[places], self.relations[places])

    def entities(
        self, positions: Sequence[int] | Int32 | Int64, columns: Sequence[str] = tuple(_TEXTS["entities"])
    ) -> pa.Table:
        """Return id, type, name, description and mentions of entities [n], or some of it, in the order of `positions`."""
        return self._take("entities", positions, list(columns))

    def relation_texts(self, positions: Sequence[int] | Int32 | Int64) -> pa.Table:
        """Return id, type, description and mentions of relations [n], in the order of `positions`."""
        return self._take("relations", positions, _TEXTS["relations"])

    def relation_vectors(self, positions: Sequence[int] | Int32 | Int64) -> Float32:
        """Return the vectors of relations, [n, d]."""
        return self._vectors("relations", positions)

    def entity_vectors(self, positions: Sequence[int] | Int32 | Int64) -> Float32:
        """Return the vectors of entities, [n, d]."""
        return self._vectors("entities", positions)

    def _vectors(self, name: str, positions: Sequence[int] | Int32 | Int64) -> Float32:
        if name in self._held:
            held = self._held[name]
            return held.vectors[held.places[np.asarray(positions, np.int64)]].astype(np.float32)
        return matrix(self._take(name, positions, ["vector"])["vector"])

    def hold(self) -> None:
        """Read texts and vectors into memory, from where they are given from then on, as a service needs them.

        It takes a relation 2 d bytes and its text, likewise an entity. The tables are needed no more.
        """
        for name in ("entities", "relations"):
            table = self.tables[name].to_table(columns=[*_TEXTS[name], "vector"], with_row_id=True)
            vectors = pc.list_flatten(table["vector"]).to_numpy().reshape(-1, self.manifest.dim)
            texts = pa.table({column: _whole(table[column]) for column in _TEXTS[name]})
            places = places_of(self._rows[name], table["_rowid"].to_numpy()).astype(np.int32)
            self._held[name] = _Held(places, texts, vectors)
        self.item_ids([])

    def _take(self, name: str, positions: Sequence[int] | Int32 | Int64, columns: list[str]) -> pa.Table:
        """Return rows of a table in the order of `positions`.

        By the ids of rows: Lance's `take` counts rows, and of a table that rows were deleted from counts them all each time.
        """
        if name in self._held and set(columns) <= set(_TEXTS[name]):
            held = self._held[name]
            return held.texts.select(columns).take(pa.array(held.places[np.asarray(positions, np.int64)]))
        rows = self._rows[name][np.asarray(positions, np.int64)]
        distinct, places = np.unique(rows, return_inverse=True)
        table = self.tables[name]
        parts = [table.schema.empty_table().select(columns)]
        for start in range(0, len(distinct), _TAKEN):
            wanted = ", ".join(map(str, distinct[start : start + _TAKEN].tolist()))
            found = table.to_table(columns=columns, filter=f"_rowid IN ({wanted})", with_row_id=True)
            parts.append(found.sort_by("_rowid").select(columns))
        return pa.concat_tables(parts).take(pa.array(places))

    def items(self, item_ids: Sequence[str]) -> Int64:
        """Return the position of each item, [n]; -1 of one that the graph does not have."""
        return positions_of(np.array([item_entity_id(item) for item in item_ids], np.int64), self.ids)

    @cached_property
    def _items(self) -> tuple[Int64, pa.Array]:
        """Positions of the items, ascending, and their ids."""
        table = self.tables["items"].to_table(columns=["item_id", "entity"])
        places = self._positions(table["entity"].to_numpy())
        order = np.argsort(places)
        return places[order], table["item_id"].combine_chunks().take(pa.array(order))

    def item_ids(self, positions: Sequence[int] | Int32 | Int64) -> list[str | None]:
        """Return the item id of each position; None of what is no item."""
        places, ids = self._items
        wanted = np.asarray(positions, np.int64)
        if not len(places):
            return [None] * len(wanted)
        rows = np.searchsorted(places, wanted).clip(max=len(places) - 1)
        found: list[str | None] = ids.take(pa.array(rows, mask=places[rows] != wanted)).to_pylist()
        return found

    @cached_property
    def _titles(self) -> pa.Array:
        """Titles of the items, in the order of `_items`, in lower case."""
        names = self.entities(self._items[0])["name"].cast(pa.large_string())
        return pc.utf8_lower(names.combine_chunks())

    @cached_property
    def _titled(self) -> dict[str, int]:
        backwards = zip(self._titles.to_pylist()[::-1], self._items[0].tolist()[::-1], strict=True)
        return dict(backwards)

    def titled(self, titles: Sequence[str]) -> Int64:
        """Return the position of an item with each title, whatever the case, [n]; -1 where there is none."""
        return np.array([self._titled.get(title.strip().lower(), -1) for title in titles], np.int64)

    def items_with(self, part: str, most: int) -> Int64:
        """Return the positions of at most `most` items with `part` in their titles: those that begin with it first, then
        the shorter titles."""
        wanted = part.strip().lower()
        rows = pc.indices_nonzero(pc.match_substring(self._titles, wanted))
        found = self._titles.take(rows)
        order = np.lexsort((pc.utf8_length(found), ~pc.starts_with(found, wanted).to_numpy(False)))
        positions: Int64 = self._items[0][rows.to_numpy()[order[:most]]]
        return positions

    def newest_items(self, most: int) -> Int64:
        """Return the positions of the items that were written last, [at most `most`]."""
        items = np.flatnonzero(self.is_item)
        written = np.argsort(self._rows["entities"][items])[::-1]
        newest: Int64 = items[written[:most]]
        return newest

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
        if "entities" in self._held:
            vectors = self.entity_vectors(places)
        else:
            table = self.tables["entities"].to_table(columns=["vector"], with_row_id=True)
            wanted = places_of(self._rows["entities"][places], table["_rowid"].to_numpy())
            vectors = matrix(table["vector"])[wanted]
        faiss.normalize_L2(vectors)
        if not made.is_trained:
            made.train(vectors[np.random.default_rng(0).permutation(len(vectors))[: _TRAINED * made.nlist]])
        made.add(vectors)
        return made, places


def _level(counts: Int64, most: int) -> int:
    """Return the greatest level to which `counts` [n] can be cut so that they are `most` together; at least 1."""
    if counts.sum() <= most:
        return int(counts.max(initial=1))
    ascending = np.sort(counts)
    left = most - np.concatenate([[0], np.cumsum(ascending)[:-1]])
    levels = left // np.arange(len(counts), 0, -1)
    return max(1, int(levels[np.argmax(ascending > levels)]))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece; of texts that together have more than 2 GiB, too."""
    if pa.types.is_string(column.type):
        column = column.cast(pa.large_string())
    return column.combine_chunks()


def places_of(wanted: UInt64, rows: UInt64) -> Int64:
    """Return the place of each row id of `wanted` [m] among `rows` [n], which has them all.

    A row id is the number of a fragment, of which there are few, and a place in it: two steps instead of a search.
    """
    fragments, index = np.unique(rows >> np.uint64(32), return_inverse=True)
    offsets = (rows & np.uint64(0xFFFFFFFF)).astype(np.int64)
    sizes = np.zeros(len(fragments), np.int64)
    np.maximum.at(sizes, index, offsets + 1)
    starts = np.cumsum(sizes) - sizes
    places = np.full(int(sizes.sum()), -1, np.int64)
    places[starts[index] + offsets] = np.arange(len(rows))
    of = np.searchsorted(fragments, wanted >> np.uint64(32))
    found: Int64 = places[starts[of] + (wanted & np.uint64(0xFFFFFFFF)).astype(np.int64)]
    return found


def positions_of(wanted: Int64, ids: Int64) -> Int64:
    """Return the position of each number of `wanted` [m] in `ids` [n], ascending and distinct; -1 of one that is not there.

    Ids are hashes, so their first bits say about where one stands. A binary search of as many takes ten times as long.
    """
    if not len(ids):
        return np.full(len(wanted), -1, np.int64)
    last = len(ids) - 1
    if len(wanted) < last // 10:
        found: Int64 = np.searchsorted(ids, wanted).clip(max=last)
    else:
        bits = len(ids).bit_length()
        half = 1 << (bits - 1)
        begins = np.searchsorted(ids, np.arange(-half, half) << (64 - bits)).clip(max=last)
        found = begins[(wanted >> (64 - bits)) + half]
        before = np.flatnonzero((ids[found] < wanted) & (found < last))
        while len(before):
            found[before] += 1
            before = before[(ids[found[before]] < wanted[before]) & (found[before] < last)]
    found[ids[found] != wanted] = -1
    return found
