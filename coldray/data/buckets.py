"""The work on buckets: each holds all interactions of some users, small enough for the memory of one task.

Reading tasks write runs: Arrow files with a record batch for each bucket. All functions are pure but for the
files they write, each of them whole or not at all, so that a task that is run again does no harm.
"""

import hashlib
import zlib
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from coldray import storage
from coldray.data import columns as c
from coldray.data.checks import SCHEMA, check_interactions, check_items
from coldray.data.fingerprint import table_digest
from coldray.data.readers import READERS
from coldray.data.readers.base import Faults, Unit
from coldray.data.recipe import Recipe
from coldray.errors import UserError

COUNT = "count"
COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")
RUN_ROWS = 400_000
"""Rows that a reading task holds before it divides and writes them."""
ROW = "#row"
"""Column of an item's row in its file, while the data set is being made."""
SOURCE_ROWS = 1 << 44
"""Ranks in one file: the rank in the whole source is the file's number * SOURCE_ROWS + the rank in it."""


@dataclass(frozen=True)
class Job:
    """One preparation: what every task has to know."""

    recipe: Recipe
    work: str
    """folder of what is only needed meanwhile; every node of the cluster must see it"""
    out: str
    """folder of the data set while it is being made"""
    buckets: int
    strict: bool


def bucket_of(users: pa.Array, buckets: int) -> npt.NDArray[np.int64]:
    """Return [n] the bucket of each user; the same on every machine."""
    encoded = users.dictionary_encode()
    table = [zlib.crc32(user.encode()) % buckets for user in encoded.dictionary.to_pylist()]
    owner: npt.NDArray[np.int64] = np.array(table, dtype=np.int64)[encoded.indices.to_numpy()]
    return owner


def spill(job: Job, number: int, unit: Unit) -> dict[str, Any]:
    """Read one file of interactions and divide its sound rows among the buckets.

    Returns read (rows), kept (rows) and faults, or the error of a file that cannot be used.
    """
    read, kept, run, faults = 0, 0, 0, Faults()
    waiting = list[pa.Table]()
    try:
        for batch in READERS[job.recipe.format].interactions(unit, job.recipe):
            read += batch.table.num_rows + batch.faults.count
            table, found = check_interactions(batch, unit[0], number * SOURCE_ROWS, job.recipe.threshold)
            faults.extend(found)
            if job.strict and faults.count:
                raise UserError(str(faults.samples[0]))
            kept += table.num_rows
            waiting.append(table)
            if sum(table.num_rows for table in waiting) >= RUN_ROWS:
                _write_run(job, f"{number:06d}-{run:06d}", pa.concat_tables(waiting))
                waiting, run = [], run + 1
        if read == 0:
            raise UserError(f"{unit[0]}: has no rows; fetch it again or leave it out")
        if waiting:
            _write_run(job, f"{number:06d}-{run:06d}", pa.concat_tables(waiting))
    except UserError as error:
        return {"error": str(error)}
    return {"error": None, "read": read, "kept": kept, "faults": asdict(faults)}


def _write_run(job: Job, name: str, table: pa.Table) -> None:
    """Write rows as one Arrow file with a record batch for each bucket: one is read without the others."""
    owner = bucket_of(table[c.USER].combine_chunks(), job.buckets)
    table = table.take(pa.array(np.argsort(owner, kind="stable"))).combine_chunks()
    sizes = np.bincount(owner, minlength=job.buckets)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA, options=COMPRESSED) as writer:
        for end, size in zip(np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
            rows = table.slice(end - size, size).to_batches()
            writer.write_batch(rows[0] if rows else pa.RecordBatch.from_pylist([], SCHEMA))
    storage.write_bytes(storage.join(job.work, "spill", f"{name}.arrow"), sink.getvalue())


def _read_spilled(job: Job, bucket: int) -> pa.Table:
    file_system, folder = storage.resolve(storage.join(job.work, "spill"))
    batches = []
    for path in sorted(info.path for info in file_system.get_file_info(fs.FileSelector(folder))):
        with file_system.open_input_file(path) as stream, pa.ipc.open_file(stream) as reader:
            batches.append(reader.get_batch(bucket))
    return pa.Table.from_batches(batches, SCHEMA).combine_chunks()


def lowest_users(job: Job, bucket: int) -> list[str]:
    """Return the draws of a bucket's users, at most as many as the recipe samples, smallest first."""
    users = pc.unique(_read_spilled(job, bucket)[c.USER]).to_pylist()
    return sorted(_draw(job.recipe.seed, user) for user in users)[: job.recipe.sample_users]


def _draw(seed: int, user: str) -> str:
    return hashlib.blake2b(f"{seed}:{user}".encode(), digest_size=16).hexdigest()


def arrange(job: Job, bucket: int, highest_draw: str | None) -> pa.Table:
    """Sort a bucket by user, time and source order, make repeats one, and write it.

    Users whose draw is above `highest_draw` are left out. Returns how often each item occurs: item_id, count.
    """
    table = _read_spilled(job, bucket)
    if highest_draw is not None:
        users = pc.unique(table[c.USER]).to_pylist()
        drawn = [user for user in users if _draw(job.recipe.seed, user) <= highest_draw]
        table = table.filter(pc.is_in(table[c.USER], pa.array(drawn, pa.string())))
    table = table.take(pa.array(_order(table)))
    if job.recipe.drop_consecutive_duplicates and table.num_rows:
        table = table.filter(pa.array(~_repeated(table)))
    _write_bucket(job, bucket, table)
    return item_counts(table)


def _order(table: pa.Table) -> npt.NDArray[np.int64]:
    users = _codes(table[c.USER])
    times = pc.fill_null(table[c.TIME], -1).to_numpy()
    order: npt.NDArray[np.int64] = np.lexsort((table[c.POSITION].to_numpy(), times, users))
    return order


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return [n] the rank of each text among the distinct ones."""
    encoded = column.combine_chunks().dictionary_encode() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    rank = np.empty(len(encoded.dictionary), dtype=np.int64)
    rank[pc.sort_indices(encoded.dictionary).to_numpy()] = np.arange(len(rank))
    ranks: npt.NDArray[np.int64] = rank[encoded.indices.to_numpy()]
    return ranks


def _repeated(table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return [n] whether a row repeats the item of the user's row before; the target of a test never does."""
    repeated = np.zeros(table.num_rows, dtype=bool)
    for column in (c.USER, c.ITEM):
        texts = table[column].combine_chunks()
        same = pc.equal(texts.slice(1), texts.slice(0, len(texts) - 1)).to_numpy(zero_copy_only=False)
        repeated[1:] = same if column == c.USER else repeated[1:] & same
    target = pc.fill_null(pc.equal(table[c.PART], "target"), False).to_numpy(zero_copy_only=False)
    again: npt.NDArray[np.bool_] = repeated & ~target
    return again


def item_counts(table: pa.Table) -> pa.Table:
    """Return item_id and how many rows it has."""
    counted = table.group_by(c.ITEM).aggregate([([], "count_all")])
    return counted.rename_columns([c.ITEM, COUNT])


def add_counts(one: pa.Table, other: pa.Table) -> pa.Table:
    """Return the sum of two counts."""
    both = pa.concat_tables([one, other]).group_by(c.ITEM).aggregate([(COUNT, "sum")])
    return both.rename_columns([c.ITEM, COUNT])


def prune(job: Job, bucket: int, keep: pa.Array) -> pa.Table:
    """Keep the rows of the items `keep`, then users with k_core rows left; return the counts of items."""
    table = _read_bucket(job, bucket)
    table = table.filter(pc.is_in(table[c.ITEM], keep))
    sizes = table.group_by(c.USER).aggregate([([], "count_all")])
    users = sizes.filter(pc.greater_equal(sizes["count_all"], job.recipe.k_core))[c.USER]
    table = table.filter(pc.is_in(table[c.USER], users.combine_chunks()))
    _write_bucket(job, bucket, table)
    return item_counts(table)


def finish(job: Job, bucket: int) -> dict[str, Any]:
    """Number each user's interactions and write the bucket as a part of the data set; return its counts."""
    table = _read_bucket(job, bucket)
    users = _codes(table[c.USER])
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    sizes = np.diff(np.append(starts, len(users)))
    place = table.column_names.index(c.POSITION)
    table = table.set_column(place, c.POSITION, pa.array(np.arange(len(users)) - np.repeat(starts, sizes)))
    if table[c.PART].null_count == table.num_rows:
        table = table.drop_columns([c.PART])
    if table.num_rows:
        storage.write_table(storage.join(job.out, "interactions", f"part-{bucket:05d}.parquet"), table)
    return {
        "users": len(starts),
        "interactions": table.num_rows,
        "digest": table_digest(table),
        "timed": table[c.TIME].null_count == 0,
    }


def _bucket_path(job: Job, bucket: int) -> str:
    return storage.join(job.work, "buckets", f"{bucket:05d}.arrow")


def _write_bucket(job: Job, bucket: int, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=COMPRESSED) as writer:
        writer.write_table(table)
    storage.write_bytes(_bucket_path(job, bucket), sink.getvalue())


def _read_bucket(job: Job, bucket: int) -> pa.Table:
    with pa.ipc.open_stream(storage.read_bytes(_bucket_path(job, bucket))) as reader:
        return reader.read_all()


def spill_items(job: Job, number: int, unit: Unit, known: pa.Array) -> dict[str, Any]:
    """Read one file of items and write those that are `known`; return read and faults, or the error."""
    read, faults, tables = 0, Faults(), []
    try:
        for batch in READERS[job.recipe.format].items(unit, job.recipe):
            read += batch.table.num_rows + batch.faults.count
            numbered = batch.table.append_column(ROW, pa.array(batch.rows))
            table, found = check_items(replace(batch, table=numbered), unit[0])
            faults.extend(found)
            if job.strict and faults.count:
                raise UserError(str(faults.samples[0]))
            table = table.filter(pc.is_in(table[c.ITEM], known))
            tables.append(_renamed(table, job.recipe.rename, unit[0]))
        if read == 0:
            raise UserError(f"{unit[0]}: has no rows; fetch it again or leave it out")
    except UserError as error:
        return {"error": str(error)}
    whole = pa.concat_tables(tables, promote_options="permissive")
    storage.write_table(storage.join(job.work, "items", f"{number:06d}.parquet"), whole)
    return {"error": None, "read": read, "faults": asdict(faults)}


def _renamed(table: pa.Table, rename: dict[str, str], file: str) -> pa.Table:
    names = [rename.get(name, name) for name in table.column_names]
    for old in rename:
        if old not in table.column_names:
            have = ", ".join(table.column_names)
            raise UserError(f"{file}: row 1: {old}: no such column (it has {have}); correct --rename")
    if len(set(names)) != len(names):
        raise UserError(f"{file}: row 1: {', '.join(names)}: two columns of one name; correct --rename")
    return table.rename_columns(names)
