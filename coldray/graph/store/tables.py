"""The tables of a graph, each a Lance data set, and the manifests that say which versions of them belong together.

    GRAPH/items.lance              item_id, entity, title, content, profile
    GRAPH/entities.lance           id, type, name, description, mentions, sample, vector, name_vector
    GRAPH/relations.lance          id, head, tail, type, description, mentions, sample, vector
    GRAPH/entity_mentions.lance    what each item brought: item_id, hash, entity, type, name, description, origin
    GRAPH/relation_mentions.lance  item_id, hash, relation, head, tail, type, description, origin
    GRAPH/bands.lance              band, entity: where entities of similar names are looked for
    GRAPH/similar.lance            a, b, cosine: entities of a type whose names are nearly the same
    GRAPH/manifests/N.json         version N of the graph: the version of each table; written last

Lance commits one table at a time. A manifest makes one commit of all: readers open only the versions it names, and a writer
that finds newer ones (somebody was killed before writing his manifest) puts the tables back first.
"""

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import fs

from coldray import storage
from coldray.errors import UserError
from coldray.graph.schema import ENTITY_MENTIONS, ITEMS, RELATION_MENTIONS

SAMPLE = 5
"""mentions of which an entity or relation keeps name and description: those with the smallest hashes of all"""

_KEY = {"lance-schema:unenforced-primary-key": "true"}
_SAMPLE_TYPE = pa.list_(
    pa.struct(
        [("hash", pa.int64()), ("type", pa.string()), ("name", pa.string()), ("description", pa.string())]
    )
)


def _vector(dim: int) -> pa.DataType:
    return pa.list_(pa.float16(), dim)


def schemas(dim: int) -> dict[str, pa.Schema]:
    """Return the schema of each table, with vectors of `dim` numbers."""

    def key(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, kind, nullable=False, metadata=_KEY)

    described = [
        ("description", pa.string()),
        ("mentions", pa.int64()),
        ("sample", _SAMPLE_TYPE),
        ("vector", _vector(dim)),
    ]
    entity = [key("id", pa.int64()), ("type", pa.string()), ("name", pa.string()), *described]
    ends = [("head", pa.int64()), ("tail", pa.int64())]
    mention = [("item_id", pa.string()), ("hash", pa.int64())]
    return {
        "items": pa.schema([key("item_id", pa.string()), *list(ITEMS)[1:]]),
        "entities": pa.schema([*entity, ("name_vector", _vector(dim))]),
        "relations": pa.schema([key("id", pa.int64()), *ends, ("type", pa.string()), *described]),
        "entity_mentions": pa.schema([*mention, *list(ENTITY_MENTIONS)[1:]]),
        "relation_mentions": pa.schema([*mention, ("relation", pa.int64()), *list(RELATION_MENTIONS)[1:]]),
        "bands": pa.schema([("band", pa.int64()), ("entity", pa.int64())]),
        "similar": pa.schema([("a", pa.int64()), ("b", pa.int64()), ("cosine", pa.float32())]),
    }


INDEXES = {
    "items": ("item_id",),
    "entities": ("id",),
    "relations": ("id",),
    "entity_mentions": ("item_id", "entity"),
    "relation_mentions": ("item_id", "relation"),
    "bands": ("band", "entity"),
    "similar": ("a", "b"),
}
"""columns that rows are looked up by"""

KEYS = {"items": "item_id", "entities": "id", "relations": "id"}
"""columns of which every value stands once"""


@dataclass(frozen=True)
class Manifest:
    """A version of a graph."""

    version: int
    tables: dict[str, int]
    """version of each table"""
    counts: dict[str, int]
    """rows of each table"""
    dim: int
    """length of the vectors"""
    note: str = ""
    """what made it"""
    created: float = field(default_factory=time.time)
    """seconds since 1970"""


def manifests(uri: str) -> list[int]:
    """Return the versions of the graph at `uri`, ascending; none where there is no graph."""
    file_system, path = storage.resolve(storage.join(uri, "manifests"))
    found = file_system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    return sorted(int(info.base_name[:-5]) for info in found if info.base_name.endswith(".json"))


def read_manifest(uri: str, version: int | None = None) -> Manifest:
    """Return a version of the graph at `uri`; None: the newest. Raises UserError if there is none."""
    there = manifests(uri)
    if not there:
        raise UserError(f"{uri}: holds no graph; make one with: coldray graph build")
    if version is not None and version not in there:
        raise UserError(f"{uri}: has no version {version}; its versions are {', '.join(map(str, there))}")
    value = storage.read_json(_path(uri, there[-1] if version is None else version))
    try:
        return Manifest(**value)
    except TypeError as error:
        raise UserError(f"{uri}: was made by another version of coldray ({error}); build it anew") from error


def write_manifest(uri: str, manifest: Manifest) -> None:
    """Publish a version of the graph."""
    storage.write_json(_path(uri, manifest.version), asdict(manifest))


def delete_manifest(uri: str, version: int) -> None:
    """Forget a version of the graph."""
    storage.delete(_path(uri, version))


def _path(uri: str, version: int) -> str:
    return storage.join(uri, "manifests", f"{version:08d}.json")


def table_uri(uri: str, name: str) -> str:
    """Return where a table of the graph at `uri` is."""
    return storage.join(storage.absolute(uri), f"{name}.lance")


def open_table(uri: str, name: str, version: int) -> Any:
    """Return a table at one of its versions, a `lance.LanceDataset`. Raises UserError if it is not there or damaged."""
    try:
        return lance.dataset(table_uri(uri, name), version=version)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{uri}: table {name} cannot be read at version {version} ({reason:.200}); roll back to another version, "
            "or build the graph anew"
        ) from error


def matrix(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """Return a column of vectors as [n, d]."""
    if not len(column):
        return np.zeros((0, column.type.list_size), np.float32)
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    vectors: npt.NDArray[np.float32] = flat.astype(np.float32).reshape(len(column), -1)
    return vectors
