"""Item embeddings on disk: parts addressed by what made them, and a manifest, written last, that lists them.

DATASET/embeddings/NAME/part-ADDRESS.parquet      item_id, embedding
DATASET/embeddings/NAME/manifest.json
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from coldray import storage
from coldray.data import columns as c
from coldray.data.dataset import MANIFEST, read_manifest
from coldray.errors import UserError
from coldray.settings import digest

Float32 = npt.NDArray[np.float32]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Part:
    """One part file of an embedding."""

    address: str
    """hash of what made it: recipe, model, item ids and texts"""
    count: int
    """number of items"""
    dim: int
    """length of a vector"""
    empty: int
    """number of its items without text, whose vectors are zero"""
    content: str
    """hash of its item ids and vectors"""


def embedding_folder(dataset: str | os.PathLike[str], name: str) -> str:
    """Return where the embedding `name` of a data set folder is kept. Raises UserError for a bad name."""
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name!r}: letters, digits, '.', '_' and '-' only; choose another name")
    return storage.join(dataset, "embeddings", name)


def catalogue_ids(dataset: str | os.PathLike[str]) -> pa.Array:
    """Return the item ids of the catalogue, [n] string in its order.

    Raises UserError if `dataset` is no data set, or an id is missing or occurs twice.
    """
    read_manifest(dataset, "a data set", "make it with: coldray data prepare")
    path = storage.join(dataset, "items.parquet")
    return checked_ids(storage.read_table(path, [c.ITEM])[c.ITEM], path)


def checked_ids(ids: pa.ChunkedArray, where: str) -> pa.Array:
    """Return item ids as one string array. Raises UserError if one is null or occurs twice."""
    array = pa.concat_arrays([chunk.cast(pa.string()) for chunk in ids.chunks]) if ids.num_chunks else _NO_IDS
    if array.null_count:
        row = pc.index(array.is_null(), True).as_py()
        raise UserError(f"{where}: row {row}, {c.ITEM}: is empty; give every row an item id")
    first = pc.index_in(array, value_set=array).to_numpy()
    repeated = np.flatnonzero(first != np.arange(len(array)))
    if len(repeated):
        row = int(repeated[0])
        raise UserError(f"{where}: row {row}, {c.ITEM}: {array[row].as_py()!r} occurs twice; keep one row")
    return array


_NO_IDS = pa.array([], pa.string())


def check_vectors(vectors: npt.NDArray[Any], where: str, first_row: int = 0) -> Float32:
    """Return `vectors` [n, d] as float32. Raises UserError, naming file and row, for NaN or infinity."""
    with np.errstate(over="ignore"):  # what does not fit float32 becomes infinity, and is reported as such
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = first_row + int(np.flatnonzero(~finite)[0])
        raise UserError(f"{where}: row {row}, {c.EMBEDDING}: holds NaN or infinity; give finite numbers")
    return vectors


def part_path(folder: str, address: str) -> str:
    """Return the path of the part with that address."""
    return storage.join(folder, f"part-{address}.parquet")


def write_part(folder: str, address: str, ids: pa.Array, vectors: Float32, empty: int = 0) -> Part:
    """Write item ids [n] and vectors [n, d] as one part, whole or not at all, and return what it holds."""
    table = pa.table({c.ITEM: ids, c.EMBEDDING: _fixed(vectors)})
    storage.write_table(part_path(folder, address), table)
    return Part(address, len(ids), vectors.shape[1], empty, _content(ids, vectors))


def _fixed(vectors: Float32) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])


def _content(ids: pa.Array, vectors: Float32) -> str:
    content = hashlib.sha256(repr(ids.to_pylist()).encode())
    content.update(np.ascontiguousarray(vectors, "<f4").tobytes())
    return content.hexdigest()[:16]


def finished_part(folder: str, address: str, ids: pa.Array, empty: int) -> Part | None:
    """Return the part of that address if it is there and is of these items, else None."""
    path = part_path(folder, address)
    if not storage.exists(path):
        return None
    found, vectors = _read_part(path)
    if not found.equals(ids):
        raise UserError(f"{path}: does not hold the items its name stands for; delete it and encode again")
    return Part(address, len(ids), vectors.shape[1], empty, _content(ids, vectors))


def _read_part(path: str) -> tuple[pa.Array, Float32]:
    """Return item ids [n] and vectors [n, d] of a part. Raises UserError if it is not one."""
    table = storage.read_table(path).combine_chunks()
    embedding = table[c.EMBEDDING].chunk(0) if c.EMBEDDING in table.column_names and table.num_rows else None
    if embedding is None or not pa.types.is_fixed_size_list(embedding.type):
        raise UserError(f"{path}: is not a part of an embedding; delete its folder and encode again")
    vectors = embedding.flatten().to_numpy().reshape(table.num_rows, embedding.type.list_size)
    return table[c.ITEM].chunk(0), check_vectors(vectors, path)


def _checked_part(path: str, content: str) -> Float32:
    """Return the vectors [n, d] of a part. Raises UserError unless it holds what the manifest says."""
    ids, vectors = _read_part(path)
    if _content(ids, vectors) != content:
        raise UserError(
            f"{path}: its content has changed since it was encoded; delete its folder and encode again"
        )
    return vectors


def publish(folder: str, parts: Iterable[Part], recipe: dict[str, Any]) -> dict[str, Any]:
    """Write the manifest that makes `parts`, in order, the embedding; return it.

    Parts of earlier recipes are then removed. The fingerprint is a hash of all item ids and vectors.
    """
    parts = list(parts)
    content = sorted(part.content for part in parts)
    dim = parts[0].dim
    manifest = {
        "format": 1,
        **recipe,
        "fingerprint": digest({"parts": content, "dim": dim}),
        "dim": dim,
        "count": sum(part.count for part in parts),
        "without_text": sum(part.empty for part in parts),
        "parts": [asdict(part) for part in parts],
    }
    storage.write_json(storage.join(folder, MANIFEST), manifest)
    kept = {os.path.basename(part_path(folder, part.address)) for part in parts}
    file_system, path = storage.resolve(folder)
    for info in file_system.get_file_info(fs.FileSelector(path)):
        is_part = info.base_name.startswith("part-") and info.base_name.endswith(".parquet")
        if is_part and info.base_name not in kept:
            file_system.delete_file(info.path)
    return manifest


def up_to_date(folder: str, recipe: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest in `folder` if it is of this recipe, else None."""
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path):
        return None
    manifest: dict[str, Any] = storage.read_json(path)
    same = all(manifest.get(key) == value for key, value in recipe.items())
    return manifest if same else None


def embedding_manifest(dataset: str | os.PathLike[str], name: str) -> dict[str, Any]:
    """Return the manifest of an embedding: recipe, fingerprint, dim, count. UserError if there is none."""
    fix = f"run: coldray encode {os.fspath(dataset)} --name {name}"
    return read_manifest(embedding_folder(dataset, name), "a finished embedding", fix)


def load_embeddings(dataset: str | os.PathLike[str], name: str, item_ids: pa.Array) -> Float32:
    """Return the vectors of `item_ids` [n], [n, dim] float32, in that order.

    Raises UserError if there is no such embedding, or it lacks items: the first one and how many.
    """
    manifest = embedding_manifest(dataset, name)
    folder = embedding_folder(dataset, name)
    paths = [part_path(folder, part["address"]) for part in manifest["parts"]]
    contents = [part["content"] for part in manifest["parts"]]
    known = [storage.read_table(path, [c.ITEM])[c.ITEM].combine_chunks() for path in paths]
    places = pc.index_in(item_ids.cast(pa.string()), value_set=pa.concat_arrays([_NO_IDS, *known]))
    if places.null_count:
        missing = item_ids.filter(places.is_null())
        fix = f"encode the data set again, or remove {places.null_count} items"
        raise UserError(f"{folder}: item {missing[0].as_py()!r} has no vector; {fix}")
    rows = places.to_numpy()
    vectors = np.empty((len(rows), manifest["dim"]), np.float32)
    start = 0
    for path, ids, content in zip(paths, known, contents, strict=True):
        asked = np.flatnonzero((rows >= start) & (rows < start + len(ids)))
        if len(asked):
            vectors[asked] = _checked_part(path, content)[rows[asked] - start]
        start += len(ids)
    return vectors
