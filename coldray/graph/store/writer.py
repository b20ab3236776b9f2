"""Changing a graph: one writer at a time, all of a change or nothing of it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldray import storage
from coldray.errors import UserError, mended
from coldray.graph.names import relation_id
from coldray.graph.store.merge import Row, hash_of, merged, text_of
from coldray.graph.store.similar import bands_of, cosines_of, kind_of, sharing
from coldray.graph.store.tables import (
    INDEXES,
    KEYS,
    SAMPLE,
    Manifest,
    delete_manifest,
    manifests,
    matrix,
    open_table,
    read_manifest,
    schemas,
    table_uri,
    write_manifest,
)

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Embed = Callable[[list[str]], Float32]

_FRAGMENTS, _SMALL = 32, 10_000
"""small fragments of a table, beyond which they are made one; rows below which one is small"""
_BEHIND = 20
"""An index is brought up to date when more than one row in so many is not in it; the others are read as they stand. As the
time that takes grows with the table and so does how rarely it is due, a row costs the same in a table of any size."""
_INDEX_FROM = 10_000
"""rows from which a table is indexed; a smaller one is read as fast"""
_IDS = 10_000
"""named in one filter"""


@contextmanager
def writing(uri: str, waiting: Callable[[str], None] = lambda message: None) -> Iterator["Writer"]:
    """Give the one writer of the graph at `uri`, made if it is not there; others wait, and hear why by `waiting`.

    What was applied becomes a version with `commit`; without it nothing has happened. The lock is one of files, for processes
    that see the same folder; of a graph in a bucket let only one process write.
    """
    with storage.exclusive(uri, "writing", waiting), mended(uri):
        yield Writer(uri)


class Writer:
    """Applies changes to the tables. Take it from `writing`."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        there = manifests(uri)
        self.manifest = read_manifest(uri) if there else None
        self.tables: dict[str, Any] = {}
        if self.manifest is not None:
            for name, version in self.manifest.tables.items():
                self.tables[name] = _restored(uri, name, version)

    def contents(self, item_ids: Sequence[str] | None = None) -> dict[str, str]:
        """Return what each item's part was made of: `content` by item id; of all items, or of some."""
        return _contents(self.tables["items"], item_ids) if self.tables else {}

    def apply(
        self,
        items: pa.Table,
        entity_mentions: pa.Table,
        relation_mentions: pa.Table,
        removed: Sequence[str],
        embed: Embed,
        merge_above: float,
    ) -> None:
        """Put what `items` bring in the place of what they brought before, and take back what `removed` items brought.

        The tables have the columns of `coldray.graph.schema`. `embed` gives vectors of length 1; entities of a type whose
        names have at least the cosine `merge_above` are kept as one. What it costs depends on the items given, not on the
        graph. Raises UserError where the disk is full or vectors have another length than those there, ValueError, a bug,
        where an item relates what it does not mention.
        """
        ids = [*items["item_id"].to_pylist(), *removed]
        entities = [row | {"hash": hash_of(row, "entity")} for row in _unique(entity_mentions, "entity")]
        relations = []
        for row in relation_mentions.to_pylist():
            row["relation"] = relation_id(row["head"], row["tail"])
            relations.append(row | {"hash": hash_of(row, "relation")})
        mentioned = {(row["item_id"], row["entity"]) for row in entities}
        for row in relations:
            if not {(row["item_id"], row["head"]), (row["item_id"], row["tail"])} <= mentioned:
                raise ValueError(f"item {row['item_id']}: relates entities that it does not mention")
        if not self.tables:
            if not entities:
                return
            self._create(embed(["length"]).shape[1])
        relations = list({row["hash"]: row for row in relations}.values())
        changed = self._mentions("entity_mentions", "entity", ids, entities)
        related = self._mentions("relation_mentions", "relation", ids, relations)
        self._replace("items", "item_id", ids, items.to_pylist())
        fresh = self._rows("entities", changed, embed)
        self._rows("relations", related, embed)
        dead = [of for of, row in changed.items() if row is None]
        self._merge_names(fresh, dead, merge_above)
        for name, table in self.tables.items():
            _keep_fast(table, INDEXES[name])

    def _create(self, dim: int) -> None:
        for name, schema in schemas(dim).items():
            uri = table_uri(self.uri, name)
            # Somebody may have been killed before the first version.
            mode = "overwrite" if storage.exists(uri) else "create"
            self.tables[name] = lance.write_dataset(schema.empty_table(), uri, schema=schema, mode=mode)

    def _mentions(self, table: str, key: str, ids: list[str], new: list[Row]) -> dict[int, Row | None]:
        """Put the mentions of items in the place of those they had; return the rows, by id, that this changes."""
        gone = self._where(table, "item_id", ids)
        self._replace(table, "item_id", ids, new)
        of = {"entity": "entities", "relation": "relations"}[key]
        known = self._where(of, "id", {mention[key] for mention in [*gone, *new]})
        rows = {row["id"]: row for row in known}
        made = merged(rows, gone, new, key, lambda wanting: self._refill(table, key, wanting))
        return {i: row for i, row in made.items() if row is None or row != _without(rows.get(i))}

    def _refill(self, table: str, key: str, ids: list[int]) -> dict[int, list[Row]]:
        """Return the mentions with the smallest hashes of each id; of a hub's others only the hashes are read."""
        smallest: list[int] = []
        for condition in _conditions(key, ids):
            found = self.tables[table].to_table(columns=[key, "hash"], filter=condition, with_row_id=True)
            of, hashes = found[key].to_numpy(), found["hash"].to_numpy()
            order = np.lexsort((hashes, of))
            first = np.searchsorted(of[order], of[order])  # where the mentions of the same id begin
            smallest += found["_rowid"].to_numpy()[order[np.arange(len(order)) - first < SAMPLE]].tolist()
        mentions: dict[int, list[Row]] = {of: [] for of in ids}
        for row in self._where(table, "_rowid", smallest):
            mentions[row[key]].append(row)
        return mentions

    def _rows(self, table: str, changed: dict[int, Row | None], embed: Embed) -> list[Row]:
        """Write changed rows, with their vectors; return those that were not there before."""
        before = {row["id"]: row for row in self._where(table, "id", changed)}
        rows = [row for row in changed.values() if row is not None]
        told = [row for row in rows if row["id"] not in before or text_of(before[row["id"]]) != text_of(row)]
        vectors = self._vectors(embed, [text_of(row) for row in told])
        for row, vector in zip(told, vectors, strict=True):
            row["vector"] = vector
        for row in rows:
            row.setdefault("vector", before.get(row["id"], {}).get("vector"))
        fresh = [row for row in rows if row["id"] not in before]
        if table == "entities":
            named = [row for row in rows if before.get(row["id"], {}).get("name") != row["name"]]
            for row, vector in zip(named, self._vectors(embed, [row["name"] for row in named]), strict=True):
                row["name_vector"] = vector
            for row in rows:
                row.setdefault("name_vector", before.get(row["id"], {}).get("name_vector"))
            fresh = named
        self._replace(table, "id", list(changed), rows)
        return fresh

    def _vectors(self, embed: Embed, texts: list[str]) -> list[npt.NDArray[np.float16]]:
        if not texts:
            return []
        vectors = embed(texts)
        dim = self.tables["entities"].schema.field("vector").type.list_size
        if vectors.shape != (len(texts), dim):
            raise UserError(
                f"{self.uri}: has vectors of {dim} numbers, the sentence model gives {vectors.shape[1]}; "
                "take the model that the graph was built with, or build it anew"
            )
        return list(vectors.astype(np.float16))

    def _merge_names(self, named: list[Row], dead: list[int], above: float) -> None:
        """Find what is nearly the same as entities whose name is new, and forget pairs of those that are gone."""
        lost = [*dead, *(row["id"] for row in named)]
        for column in ("a", "b"):
            self._delete("similar", column, lost)
        self._delete("bands", "entity", lost)
        rows = [row for row in named if row["type"] != "item"]
        if not rows:
            return
        ids = np.array([row["id"] for row in rows], np.int64)
        vectors = _unit(np.stack([row["name_vector"] for row in rows]))
        bands = bands_of([kind_of(row) for row in rows], vectors)
        entities = np.repeat(ids, bands.shape[1])
        made = pa.table({"band": bands.ravel(), "entity": entities}, self.tables["bands"].schema)
        self.tables["bands"].insert(made, mode="append")
        pairs: dict[tuple[int, int], float] = {}
        # A part of the bands at a time: of a large graph many entities share one by chance.
        order = np.argsort(bands, axis=None, kind="stable")
        flat, rows_of = bands.ravel()[order], order // bands.shape[1]
        for condition in _conditions("band", np.unique(flat).tolist()):
            near = self.tables["bands"].to_table(filter=condition)
            places, others = sharing(flat, rows_of, near["band"].to_numpy(), near["entity"].to_numpy())
            apart = ids[places] != others
            pairs |= self._alike(ids, vectors, places[apart], others[apart], above)
        self._append(
            "similar", [{"a": a, "b": b, "cosine": cosine} for (a, b), cosine in sorted(pairs.items())]
        )

    def _alike(
        self, ids: Int64, vectors: Float32, places: Int64, others: Int64, above: float
    ) -> dict[tuple[int, int], float]:
        """Return the cosine of those pairs, smaller id first, whose names' cosine is at least `above`.

        A pair is a place in `ids` [n] and `vectors` [n, d], and the id of another entity.
        """
        pairs = {}
        order = np.argsort(others, kind="stable")
        places, others = places[order], others[order]
        distinct = np.unique(others)
        for start in range(0, len(distinct), _IDS):
            wanted = distinct[start : start + _IDS]
            (condition,) = _conditions("id", wanted.tolist())
            table = self.tables["entities"].to_table(columns=["id", "name_vector"], filter=condition)
            table = table.sort_by("id")
            if table.num_rows != len(wanted):
                raise RuntimeError(f"{self.uri}: bands name an entity that is not there")
            known = _unit(matrix(table["name_vector"]))
            here = slice(
                int(np.searchsorted(others, wanted[0])), int(np.searchsorted(others, wanted[-1], "right"))
            )
            cosines = cosines_of(vectors[places[here]], known[np.searchsorted(wanted, others[here])])
            for i in np.flatnonzero(cosines >= above):
                a, b = sorted((int(ids[places[here][i]]), int(others[here][i])))
                pairs[a, b] = float(cosines[i])
        return pairs

    def _where(
        self, table: str, column: str, values: Iterable[Any], columns: list[str] | None = None
    ) -> list[Row]:
        """Return the rows of a table whose `column` is one of `values`."""
        rows: list[Row] = []
        for condition in _conditions(column, values):
            rows += self.tables[table].to_table(columns=columns, filter=condition).to_pylist()
        return rows

    def _delete(self, table: str, column: str, values: Iterable[Any]) -> None:
        if self.tables[table].count_rows():
            for condition in _conditions(column, values):
                self.tables[table].delete(condition)

    def _append(self, table: str, rows: list[Row]) -> None:
        if rows:
            made = pa.Table.from_pylist(rows, self.tables[table].schema)
            self.tables[table].insert(made, mode="append")

    def _replace(self, table: str, column: str, values: Iterable[Any], rows: list[Row]) -> None:
        """Delete the rows with `values` and append `rows`. Lance's merge is not used: it may insert a key twice.

        Raises RuntimeError, a bug, if a key stands twice after all.
        """
        self._delete(table, column, values)
        self._append(table, rows)
        if KEYS.get(table) == column:
            there = sum(self.tables[table].count_rows(filter=each) for each in _conditions(column, values))
            if there != len(rows):
                raise RuntimeError(f"{self.uri}: a key stands twice in {table}")

    def commit(self, note: str = "") -> int:
        """Publish what was applied as the next version of the graph, and return its number."""
        if not self.tables:
            raise UserError(
                f"{self.uri}: the graph has no items yet; build it from a catalogue that has some"
            )
        version = max(manifests(self.uri), default=0) + 1
        tables = {name: int(table.version) for name, table in self.tables.items()}
        counts = {name: int(table.count_rows()) for name, table in self.tables.items()}
        dim = self.tables["entities"].schema.field("vector").type.list_size
        self.manifest = Manifest(version, tables, counts, dim, note)
        write_manifest(self.uri, self.manifest)
        return version


def contents_of(uri: str, item_ids: Sequence[str]) -> dict[str, str]:
    """Return what the newest version has of items: `content` by item id. Raises UserError if there is no graph."""
    return _contents(open_table(uri, "items", read_manifest(uri).tables["items"]), item_ids)


def _contents(table: Any, item_ids: Sequence[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for condition in [None] if item_ids is None else _conditions("item_id", item_ids):
        rows = table.to_table(columns=["item_id", "content"], filter=condition)
        found |= zip(rows["item_id"].to_pylist(), rows["content"].to_pylist(), strict=True)
    return found


def rollback(uri: str, version: int) -> int:
    """Make a version of the graph its newest again, and return the number that it has as that."""
    with writing(uri) as writer:
        old = read_manifest(uri, version)
        new = Manifest(max(manifests(uri)) + 1, old.tables, old.counts, old.dim, f"version {version} again")
        write_manifest(uri, new)
        writer.manifest = new
    return new.version


def prune(uri: str, keep: int) -> list[int]:
    """Forget all but the newest `keep` versions of the graph, and free what only they held. Returns those forgotten."""
    with writing(uri) as writer:
        there = manifests(uri)
        forgotten = there[: max(0, len(there) - max(1, keep))]
        for version in forgotten:
            delete_manifest(uri, version)
        live = [read_manifest(uri, version) for version in manifests(uri)]
        for name, table in writer.tables.items():
            needed = {manifest.tables[name] for manifest in live} | {int(table.version)}
            spare = [int(v["version"]) for v in table.versions() if int(v["version"]) not in needed]
            if spare:
                table.cleanup_old_versions(versions=spare, delete_unverified=True)
    return forgotten


def _restored(uri: str, name: str, version: int) -> Any:
    """Return a table, ready to write, at the version that the manifest names, whatever was written after it."""
    table = open_table(uri, name, version)
    if int(table.latest_version) != version:
        table.restore()
    return lance.dataset(table_uri(uri, name))


def _keep_fast(table: Any, columns: tuple[str, ...]) -> None:
    """Make few files of many, and bring indexes up to date where that is due."""
    if sum(fragment.physical_rows < _SMALL for fragment in table.get_fragments()) > _FRAGMENTS:
        table.optimize.compact_files(target_rows_per_fragment=_SMALL)
    rows = int(table.count_rows())
    if rows < _INDEX_FROM:
        return
    there = {index.field_names[0]: index.name for index in table.describe_indices()}
    for column in columns:
        if column not in there:
            table.create_scalar_index(column, "BTREE")
    if not there:
        return
    behind = int(table.stats.index_stats(there[columns[0]])["num_unindexed_rows"])
    if behind > max(_INDEX_FROM, rows // _BEHIND):
        table.optimize.compact_files()
        table.optimize.optimize_indices()


def _conditions(column: str, values: Iterable[Any]) -> Iterator[str]:
    """Yield filters that together say that `column` is one of `values`."""
    literals = [_literal(value) for value in values]
    for start in range(0, len(literals), _IDS):
        yield f"{column} IN ({', '.join(literals[start : start + _IDS])})"


def _literal(value: Any) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def _unique(mentions: pa.Table, key: str) -> list[Row]:
    """Return mentions as rows, one of each entity an item."""
    return list({(row["item_id"], row[key]): row for row in mentions.to_pylist()}.values())


def _without(row: Row | None) -> Row | None:
    """Return a row without its vectors."""
    return (
        None if row is None else {name: value for name, value in row.items() if not name.endswith("vector")}
    )


def _unit(rows: npt.NDArray[Any]) -> Float32:
    vectors = rows.astype(np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float32 = vectors / np.maximum(norms, 1e-12)
    return unit
