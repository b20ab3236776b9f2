"""The sha256 of a table's content: the same on every machine, however it is stored or divided in chunks."""

import hashlib
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def table_digest(table: pa.Table) -> str:
    """Return 64 hex digits over the names, types, order and values of `table`."""
    sha = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        sha.update(f"{name}:{len(column)};".encode())
        _update(sha, column)
    return sha.hexdigest()


def combined(parts: list[str], **more: Any) -> str:
    """Return 64 hex digits over digests and JSON-like data."""
    text = json.dumps({"parts": parts, **more}, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _update(sha: "hashlib._Hash", array: pa.Array) -> None:
    """Add an array's values to `sha`; what lies in memory under a null does not count."""
    kind = array.type
    nulls = array.is_null().to_numpy(zero_copy_only=False)
    sha.update(np.packbits(nulls).tobytes())
    if pa.types.is_null(kind):
        return
    if pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            sha.update(kind.field(index).name.encode() + b";")
            _update(sha, pc.struct_field(array, index))
    elif pa.types.is_nested(kind):
        _update_numbers(sha, pc.list_value_length(array))
        _update(sha, pc.list_flatten(array))
    elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
        _update_numbers(sha, array)
    else:
        texts = array.drop_null().cast(pa.large_string()).cast(pa.large_binary())
        _update_numbers(sha, pc.binary_length(texts))
        sha.update(b"".join(texts.to_pylist()) if len(texts) else b"")


def _update_numbers(sha: "hashlib._Hash", array: pa.Array) -> None:
    """Add numbers as little-endian int64 or float64, nulls as 0 (their places are added apart)."""
    wide = "<f8" if pa.types.is_floating(array.type) else "<i8"
    sha.update(pc.fill_null(array, 0).to_numpy(zero_copy_only=False).astype(wide).tobytes())
