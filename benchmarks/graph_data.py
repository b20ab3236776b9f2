"""Make graphs of any size by the ratios of ColdRAG's, for graph.py: about 8 entities and 15 relations an item.

An item mentions itself, entities that only it has, and hubs that are drawn as 1 / rank. Vectors have 32 numbers and come
from hashes: no model runs.
"""

import hashlib
import resource
import sys
from collections.abc import Iterator
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldray.graph.names import item_entity_id, number, relation_id
from coldray.graph.schema import ENTITY_MENTIONS, ITEMS, RELATION_MENTIONS
from coldray.graph.store import Manifest
from coldray.graph.store.similar import bands_of
from coldray.graph.store.tables import INDEXES, SAMPLE, schemas, table_uri, write_manifest

DIM, OWN, HUBS, ACROSS = 32, 7, 2, 6
"""numbers of a vector; entities only of one item, hubs of an item, relations between an item's entities"""
CHUNK = 200_000
LETTERS = str.maketrans("0123456789", "abcdefghij")
"""for names: names whose numbers differ are never compared"""
TYPES = np.array(["feature", "target user", "setting", "genre", "etc"])


def embed(texts: list[str]) -> np.ndarray:
    """Return vectors [n, DIM] of length 1, each from the hash of its text."""
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    return unit(np.frombuffer(digests, np.uint8).reshape(-1, DIM))


def unit(numbers: np.ndarray) -> np.ndarray:
    """Return vectors of length 1 from numbers of 0 to 255."""
    vectors = numbers.astype(np.float32) - 127.5
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Graph:
    """A made-up graph: entities are numbered, items first, then their own, then hubs."""

    def __init__(self, items: int, seed: int = 0) -> None:
        self.items, random = items, np.random.default_rng(seed)
        ranks = np.exp(random.random((items, HUBS)) * np.log(max(20, items // 10))).astype(np.int64)
        drawn, hubs = np.unique(ranks, return_inverse=True)
        self.size = items * (1 + OWN) + len(drawn)
        own = items + np.arange(items * OWN).reshape(items, OWN)
        hubs = items * (1 + OWN) + hubs.reshape(items, HUBS)
        self.entities = np.hstack([np.arange(items)[:, None], own, hubs])
        """[items, 1 + OWN + HUBS] what each mentions; a hub may stand there twice"""
        self.ids = np.fromiter((self.id_of(i) for i in range(self.size)), np.int64, self.size)

    def id_of(self, entity: int) -> int:
        """Return the id of an entity by its number."""
        return item_entity_id(str(entity)) if entity < self.items else number("made up", str(entity))

    def kinds(self, entities: np.ndarray) -> np.ndarray:
        """Return the types of entities by their numbers."""
        return np.where(entities < self.items, "item", TYPES[entities % len(TYPES)])

    def pairs(self, items: slice) -> np.ndarray:
        """Return [n, 1 + OWN + HUBS - 1 + ACROSS, 2] entities related by items: the item with all, and some with the next."""
        mentioned = self.entities[items]
        star = np.stack(np.broadcast_arrays(mentioned[:, :1], mentioned[:, 1:]), axis=2)
        chain = np.stack([mentioned[:, -ACROSS - 1 : -1], mentioned[:, -ACROSS:]], axis=2)
        return np.concatenate([star, chain], axis=1)

    def tables(self, items: slice, name: str = "") -> list[pa.Table]:
        """Return what items bring, as `apply` takes it; `name` makes them other items with entities of their own."""
        rows, entities, relations = [], [], []
        for place, mentioned, related in zip(
            range(items.start, items.stop),
            self.entities[items].tolist(),
            self.pairs(items).tolist(),
            strict=True,
        ):
            item_id = f"{name}{place}"
            ids = {e: int(self.ids[e]) for e in mentioned}
            if name:
                ids |= {e: number(item_id, str(e)) for e in mentioned[1 : 1 + OWN]}
                ids[mentioned[0]] = item_entity_id(item_id)
            rows.append(
                (item_id, ids[place], f"Title of {item_id}", "content", f"Profile of {item_id}. " * 8)
            )
            kinds = self.kinds(np.array(mentioned)).tolist()
            entities += [
                (
                    item_id,
                    ids[e],
                    kind,
                    f"Name {str(e).translate(LETTERS)}",
                    describe("entity", item_id, e),
                    "llm",
                )
                for e, kind in zip(mentioned, kinds, strict=True)
            ]
            for a, b in related:
                if a != b:
                    ends = sorted((ids[a], ids[b]))
                    relations.append((item_id, *ends, "related", describe("relation", item_id, a, b), "llm"))
        parts = zip((rows, entities, relations), (ITEMS, ENTITY_MENTIONS, RELATION_MENTIONS), strict=True)
        return [pa.Table.from_pylist([dict(zip(s.names, r, strict=True)) for r in p], s) for p, s in parts]


def describe(*parts: object) -> str:
    """Return a description of about 100 letters."""
    return (
        " ".join(map(str, parts))
        + ": one sentence on what it is and how it matters to those who look for it."
    )


class Direct:
    """Writes the tables as `apply` and `commit` would leave them. Hashes of mentions and vectors are drawn, not computed."""

    def __init__(self, folder: str, graph: Graph) -> None:
        self.folder, self.graph, self.random = folder, graph, np.random.default_rng(1)
        self.schemas = schemas(DIM)

    def write(self) -> None:
        """Write all tables, their indexes and the manifest."""
        graph = self.graph
        item = np.repeat(np.arange(graph.items), graph.entities.shape[1])
        entity = graph.entities.ravel()
        keep = np.unique(item * graph.size + entity, return_index=True)[1]
        item, entity = item[keep], entity[keep]
        self.items()
        self.mentioned("entity", item, entity, graph.ids)
        pairs = graph.pairs(slice(None))
        owner = np.repeat(np.arange(graph.items), pairs.shape[1])
        pairs = pairs.reshape(-1, 2)
        keep = np.flatnonzero(pairs[:, 0] != pairs[:, 1])
        owner, pairs = owner[keep], np.sort(pairs[keep], axis=1)
        codes = pairs[:, 0] * graph.size + pairs[:, 1]
        keep = np.unique(owner + graph.items * (np.unique(codes, return_inverse=True)[1]), return_index=True)[
            1
        ]
        owner, codes = owner[keep], codes[keep]
        distinct, relation = np.unique(codes, return_inverse=True)
        ends = np.sort(graph.ids[np.stack(np.divmod(distinct, graph.size), axis=1)], axis=1)
        ids = np.empty(len(ends), np.int64)
        for part in _parts(len(ends)):
            ids[part] = [relation_id(a, b) for a, b in ends[part].tolist()]
        del pairs, codes, distinct
        self.mentioned("relation", owner, relation, ids, ends)
        self.append("similar", iter(()))
        tables, counts = {}, {}
        for name in self.schemas:
            table = lance.dataset(table_uri(self.folder, name))
            for column in INDEXES[name] if table.count_rows() else ():
                table.create_scalar_index(column, "BTREE")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{name}: indexed, peak {peak:.1f} GiB", file=sys.stderr, flush=True)
            tables[name], counts[name] = int(table.version), int(table.count_rows())
        write_manifest(self.folder, Manifest(1, tables, counts, DIM, "made up"))

    def append(self, name: str, chunks: Iterator[dict[str, Any]]) -> None:
        """Write a table, a chunk at a time."""
        schema = self.schemas[name]
        batches = (
            pa.record_batch([_array(made[f.name], f.type) for f in schema], schema=schema) for made in chunks
        )
        reader = pa.RecordBatchReader.from_batches(schema, batches)
        lance.write_dataset(reader, table_uri(self.folder, name), schema=schema, mode="create")

    def items(self) -> None:
        """Write the items."""

        def chunks() -> Iterator[dict[str, Any]]:
            for part in _parts(self.graph.items):
                ids = _text(part)
                yield {
                    "item_id": ids,
                    "entity": self.graph.ids[part],
                    "title": _join("Title of ", ids),
                    "content": pa.array(["content"] * len(part)),
                    "profile": _join("Profile of ", ids, ". " + "It is what it is. " * 6),
                }

        self.append("items", chunks())

    def mentioned(
        self, key: str, item: np.ndarray, of: np.ndarray, ids: np.ndarray, ends: np.ndarray | None = None
    ) -> None:
        """Write the mentions of things by items, and the things: those with `ids`, of relations with `ends`."""
        hashes = self.random.integers(-(2**63), 2**63 - 1, len(item))
        order = np.lexsort((hashes, of))
        item, of, hashes = item[order], of[order], hashes[order]
        starts = np.searchsorted(of, np.arange(len(ids)))
        counts = np.diff(np.append(starts, len(of)))
        self.append(f"{key}_mentions", self._mentions(key, item, of, hashes, ids, ends))
        table = "entities" if key == "entity" else "relations"
        self.append(table, self._rows(key, item, hashes, starts, counts, ids, ends))
        if key == "entity":
            self.append("bands", self._bands(ids))

    def _told(self, key: str, item: np.ndarray, of: np.ndarray) -> dict[str, Any]:
        end = ": one sentence on what it is and how it matters to those who look for it."
        kinds = self.graph.kinds(of) if key == "entity" else np.full(len(of), "related")
        return {
            "type": pa.array(kinds),
            "name": _join("Name ", pa.array([str(e).translate(LETTERS) for e in of.tolist()]))
            if key == "entity"
            else pa.array([""] * len(of)),
            "description": _join(f"{key} ", _text(item), " ", _text(of), end),
        }

    def _mentions(
        self,
        key: str,
        item: np.ndarray,
        of: np.ndarray,
        hashes: np.ndarray,
        ids: np.ndarray,
        ends: np.ndarray | None,
    ) -> Iterator[dict[str, Any]]:
        by_item = np.argsort(item, kind="stable")
        for part in _parts(len(item)):
            rows = by_item[part]
            made = {"item_id": _text(item[rows]), "hash": hashes[rows], key: ids[of[rows]]}
            if ends is not None:
                made |= {"head": ends[of[rows], 0], "tail": ends[of[rows], 1]}
            yield made | self._told(key, item[rows], of[rows]) | {"origin": pa.array(["llm"] * len(rows))}

    def _rows(
        self,
        key: str,
        item: np.ndarray,
        hashes: np.ndarray,
        starts: np.ndarray,
        counts: np.ndarray,
        ids: np.ndarray,
        ends: np.ndarray | None,
    ) -> Iterator[dict[str, Any]]:
        for part in _parts(len(ids)):
            sizes = np.minimum(counts[part], SAMPLE)
            offsets = np.append(0, np.cumsum(sizes))
            of = np.repeat(part, sizes)
            rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], sizes) + np.repeat(starts[part], sizes)
            told = self._told(key, item[rows], of)
            entry = pa.StructArray.from_arrays(
                [pa.array(hashes[rows]), told["type"], told["name"], told["description"]],
                names=["hash", "type", "name", "description"],
            )
            lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), told["description"])
            made = {name: pc.take(told[name], pa.array(offsets[:-1])) for name in ("type", "name")}
            made |= {"id": ids[part], "description": pc.binary_join(lists, "\n"), "mentions": counts[part]}
            made |= {"sample": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entry)}
            made |= {name: self._vectors(part, name == "name_vector") for name in ("vector", "name_vector")}
            yield made | ({} if ends is None else {"head": ends[part, 0], "tail": ends[part, 1]})

    def _vectors(self, part: np.ndarray, of_name: bool) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(
            pa.array(_drawn(part, of_name).astype(np.float16).ravel()), DIM
        )

    def _bands(self, ids: np.ndarray) -> Iterator[dict[str, Any]]:
        for part in _parts(len(ids)):
            named = part[part >= self.graph.items]  # items are never merged
            bands = bands_of(self.graph.kinds(named).tolist(), _drawn(part, True)[part >= self.graph.items])
            yield {"band": bands.ravel(), "entity": np.repeat(ids[named], bands.shape[1])}


def _drawn(part: np.ndarray, of_name: bool) -> np.ndarray:
    random = np.random.default_rng([int(part[0]), int(of_name)])
    return unit(random.integers(0, 256, (len(part), DIM)))


def _parts(rows: int) -> Iterator[np.ndarray]:
    for start in range(0, rows, CHUNK):
        yield np.arange(start, min(rows, start + CHUNK))


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _join(*parts: Any) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")
