"""Item vectors that come with the data (audio, images, another encoder's) taken over as an embedding."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coldray import storage
from coldray.data import columns as c
from coldray.data.dataset import read_manifest
from coldray.encode import embeddings
from coldray.errors import UserError
from coldray.settings import digest

_ROWS = 16384

Batches = Iterator[npt.NDArray[Any]]


def import_vectors(
    dataset: str, name: str, source: str, column: str = c.EMBEDDING, ids: str | None = None
) -> tuple[dict[str, Any], bool]:
    """Take the vectors in the file `source` over as DATASET/embeddings/NAME.

    `source` is Parquet with item_id and a list column, `column`; or a .npy matrix [n, d] with `ids`, a text
    file of n item ids, one a line. Vectors of items that the data set has not are left out. Returns the
    manifest, and whether anything had to be done. Raises UserError, naming file and row, for NaN, vectors of
    different lengths, an item that is there twice or is missing, and another number of ids than of vectors.
    """
    folder = embeddings.embedding_folder(dataset, name)
    prepared = read_manifest(dataset, "a data set", "make it with: coldray data prepare")
    file = {"name": os.path.basename(source), "column": column, "content": _content(source, ids)}
    recipe = {"source": "vectors", "dataset": prepared["fingerprint"], "file": file}
    finished = embeddings.up_to_date(folder, recipe)
    if finished is not None:
        return finished, False
    catalogue = embeddings.catalogue_ids(dataset)
    given, batches = _open_parquet(source, column) if ids is None else _open_npy(source, ids)
    absent = pc.invert(pc.is_in(catalogue, value_set=given))
    missing = catalogue.filter(absent)
    if len(missing):
        rest = f"{len(missing)} of {len(catalogue)} items of the data set have no vector"
        raise UserError(f"{source}: item {missing[0].as_py()!r} is missing; {rest}, add them")
    parts, start, dim = [], 0, None
    for vectors in batches:
        if dim is not None and vectors.shape[1] != dim:
            sizes = f"{vectors.shape[1]} numbers, those before it {dim}"
            raise UserError(f"{source}: row {start}, {column}: has {sizes}; make them the same")
        dim = vectors.shape[1]
        checked = embeddings.check_vectors(vectors, source, start)
        part_ids = given.slice(start, len(vectors))
        wanted = pc.is_in(part_ids, value_set=catalogue)
        start += len(vectors)
        if pc.any(wanted).as_py():
            address = digest({**recipe, "start": start})
            kept = np.asarray(wanted)
            parts.append(embeddings.write_part(folder, address, part_ids.filter(wanted), checked[kept]))
    return embeddings.publish(folder, parts, recipe), True


def _content(source: str, ids: str | None) -> str:
    """Return a hash of the vectors' file and, where there is one, of the ids' file."""
    content = hashlib.sha256()
    for path in (source, ids):
        if path is None:
            continue
        if not storage.exists(path):
            raise UserError(f"{path}: no such file; name the file of the vectors")
        file_system, inside = storage.resolve(path)
        with file_system.open_input_stream(inside, compression=None) as stream:
            while block := stream.read(1 << 20):
                content.update(block)
    return content.hexdigest()[:16]


def _open_parquet(source: str, column: str) -> tuple[pa.Array, Batches]:
    """Return the item ids of a Parquet file, [n], and its vectors batch by batch."""
    file_system, path = storage.resolve(source)
    try:
        file = pq.ParquetFile(path, filesystem=file_system)
    except pa.ArrowInvalid as error:
        raise UserError(f"{source}: is not Parquet; give Parquet, or .npy together with --ids") from error
    for name in (c.ITEM, column):
        if name not in file.schema_arrow.names:
            known = ", ".join(file.schema_arrow.names)
            raise UserError(f"{source}: has no column {name!r} but {known}; name it with --vector-column")
    ids = embeddings.checked_ids(file.read(columns=[c.ITEM])[c.ITEM], source)
    return ids, _parquet_batches(file, source, column)


def _parquet_batches(file: pq.ParquetFile, source: str, column: str) -> Batches:
    """Yield the vectors of a list column, [n, d] a batch."""
    start = 0
    for batch in file.iter_batches(_ROWS, columns=[column]):
        values = batch.column(0)
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        is_list = isinstance(values.type, pa.ListType | pa.LargeListType | pa.FixedSizeListType)
        if not is_list or not _is_number(values.type.value_type):
            raise UserError(f"{source}: {column}: is {values.type}; a list of numbers is needed")
        lengths = pc.list_value_length(values).fill_null(-1).to_numpy()
        wrong = np.flatnonzero((lengths != lengths[0]) | (lengths <= 0))
        if len(wrong):
            row, found = start + int(wrong[0]), max(0, int(lengths[wrong[0]]))
            raise UserError(f"{source}: row {row}, {column}: has {found} numbers; all need the same number")
        flat = pc.list_flatten(values).cast(pa.float64()).fill_null(float("nan"))
        yield flat.to_numpy().reshape(len(values), int(lengths[0]))
        start += len(values)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _open_npy(source: str, ids: str) -> tuple[pa.Array, Batches]:
    """Return the item ids of a text file, [n], and the vectors of a .npy file batch by batch."""
    try:
        matrix = np.load(source, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(f"{source}: is not a .npy file of numbers; write it with numpy.save") from error
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        found = f"{matrix.dtype} of shape {list(matrix.shape)}"
        raise UserError(f"{source}: holds {found}; a matrix of numbers, one row an item, is needed")
    try:
        lines = storage.read_bytes(ids).decode("utf-8").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{ids}: is not UTF-8 ({error.reason}); save it as UTF-8") from error
    if len(lines) != len(matrix):
        raise UserError(f"{ids}: has {len(lines)} ids for the {len(matrix)} vectors of {source}; match them")
    names = embeddings.checked_ids(pa.chunked_array([pa.array(lines, pa.string())]), ids)
    return names, (matrix[start : start + _ROWS] for start in range(0, len(matrix), _ROWS))
