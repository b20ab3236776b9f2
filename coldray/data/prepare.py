"""From published files to a data set folder: read, filter, k-core, number; streaming on Ray, one task a file.

    DATASET/interactions/part-*.parquet   user_id, item_id, timestamp, position, rating; all of a user in one
    part DATASET/items.parquet                 item_id, ascending, and the source's texts or vectors
    DATASET/manifest.json                 recipe, fingerprint, counts, and what was skipped and why

Interactions are read once and divided by user into buckets; everything after that works a bucket at a time.
Memory grows with the number of distinct items, not with interactions or users.
"""

import json
import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from pyarrow import fs
from ray.exceptions import RayTaskError

from coldray import storage
from coldray.data import buckets as work
from coldray.data import columns as c
from coldray.data.buckets import COUNT, ROW, Job
from coldray.data.dataset import MANIFEST
from coldray.data.fingerprint import combined, table_digest
from coldray.data.readers import READERS
from coldray.data.readers.base import Fault, Faults, Files, Unit, list_files
from coldray.data.recipe import Recipe
from coldray.errors import ServiceError, UserError
from coldray.settings import digest

__all__ = ["Recipe", "prepare", "start_ray"]

MIN_BUCKETS = 16
BUCKET_BYTES = 32 << 20
"""Bytes of input for each bucket, beyond the least number of buckets."""


def start_ray(
    address: str | None = None, num_cpus: int | None = None, progress: bool = False, dashboard: bool = False
) -> None:
    """Connect to the Ray cluster at `address`, or start Ray on this machine, unless this process has done so.

    `progress` shows Ray Data's bars on stderr; `dashboard` starts Ray's pages on loopback. A program that is to run on
    another Ray than one of its own calls `ray.init` first: `RAY_ADDRESS` is for the command line.

    Where it does, SIGTERM ends this process as Ctrl-C does. Raises ServiceError if the cluster cannot be reached.
    """
    if not ray.is_initialized():
        options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address is None:
            options |= {"num_cpus": num_cpus, "include_dashboard": dashboard}
        try:
            # Told of none, Ray would look for the cluster that was started last on this machine, even if it has ended.
            ray.init(address=address or "local", **options)
            if threading.current_thread() is threading.main_thread():
                # Ray's own handler prints a stack and leaves at once, past what is to be ended.
                signal.signal(signal.SIGTERM, signal.default_int_handler)
        except ConnectionError as error:
            reason = " ".join(str(error).split())
            raise ServiceError(
                f"{address}: Ray cannot be reached ({reason}); start it or correct --address"
            ) from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = progress
    context.print_on_execution_start = False
    # By itself Ray Data gives up after half an hour without a result, which a slow CPU may take for its first answers.
    context.execution_no_progress_timeout_s = -1
    for name in ("ray.data", "ray.data._internal.progress"):  # the second warns that there are no bars
        logging.getLogger(name).setLevel(logging.ERROR)


def prepare(
    source: str,
    out: str,
    recipe: Recipe,
    items: str | None = None,
    strict: bool = False,
    overwrite: bool = False,
    start: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], bool]:
    """Make the data set folder `out` of the files at `source` (and a table of items at `items`).

    Returns its manifest, and whether it was made now; False where the folder already holds what the same
    recipe made of the same files. `strict` refuses rows that cannot be used instead of skipping them. `start`
    starts Ray, and is called only once there is work for it. Raises UserError for input that cannot be used
    and for a folder that holds something else, unless `overwrite`.
    """
    source, out = _absolute(source), _absolute(out)
    files, inputs = _inputs(source, None if items is None else _absolute(items), recipe)
    there = _existing(out, recipe, inputs, overwrite)
    if there is not None:
        return there, False
    start()
    staging = f"{out.rstrip('/')}.{uuid.uuid4().hex[:8]}.tmp"
    sizes = sum(size for _, size, _ in inputs)
    count = recipe.buckets or max(MIN_BUCKETS, -(-sizes // BUCKET_BYTES))
    job = Job(recipe, storage.join(staging, "work"), staging, count, strict)
    file_system, path = storage.resolve(staging)
    try:
        manifest = _make(job, files, inputs)
        file_system.delete_dir(storage.resolve(job.work)[1])
        _publish(staging, out, manifest)
    finally:
        if file_system.get_file_info(path).type != fs.FileType.NotFound:
            file_system.delete_dir(path)
    return manifest, True


def _absolute(uri: str) -> str:
    """Return a local path in full: a task may run in another folder."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))


def _inputs(source: str, items: str | None, recipe: Recipe) -> tuple[Files, list[list[Any]]]:
    """Return the files as URIs, and of each its name, size in bytes and time of change in nanoseconds."""
    folder, names = list_files(source)
    try:
        found = READERS[recipe.format].find(names)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    files = Files(_under(folder, found.interactions), _under(folder, found.items))
    if items is not None:
        item_folder, item_names = list_files(items)
        files = Files(files.interactions, _under(item_folder, [(name,) for name in item_names]))
    described = []
    for uri in dict.fromkeys(uri for unit in [*files.interactions, *files.items] for uri in unit):
        file_system, path = storage.resolve(uri)
        info = file_system.get_file_info(path)
        described.append([uri.rsplit("/", 1)[-1], info.size or 0, info.mtime_ns or 0])
    return files, described


def _under(folder: str, found: list[Unit]) -> list[Unit]:
    return [tuple(storage.join(folder, name) for name in unit) for unit in found]


def _existing(out: str, recipe: Recipe, inputs: list[list[Any]], overwrite: bool) -> dict[str, Any] | None:
    """Return the manifest of `out` if it is what would be made. Raises UserError if it is something else."""
    if not storage.exists(out):
        return None
    file_system, path = storage.resolve(out)
    entries = file_system.get_file_info(fs.FileSelector(path))
    if not any(os.path.basename(entry.path) == MANIFEST for entry in entries):
        if entries:
            raise UserError(f"{out}: is a folder that holds no data set; name a new folder")
        return None
    manifest: dict[str, Any] = storage.read_json(storage.join(out, MANIFEST))
    same_recipe = manifest.get("recipe") == recipe.model_dump(mode="json")
    if same_recipe and manifest.get("inputs") == inputs:
        return manifest
    if not overwrite:
        what = "other files" if same_recipe else "another recipe"
        raise UserError(f"{out}: was made with {what}; name a new folder, or replace it with --overwrite")
    return None


def _make(job: Job, files: Files, inputs: list[list[Any]]) -> dict[str, Any]:
    """Write the data set below `job.out`, all but its manifest, which is returned."""
    faults = Faults()
    stats = _read(work.spill, job, files.interactions, faults)
    totals = _k_core(job, _each(work.arrange, job, _highest_draw(job)))
    if not totals.num_rows:
        raise UserError(
            f"{files.interactions[0][0]}: no interaction is left of it; lower --k-core or --min-rating"
        )
    parts = sorted(_each(work.finish, job), key=lambda pair: pair[0])
    described = _items(job, files.items, totals[c.ITEM].combine_chunks().sort(), faults)
    recipe = job.recipe.model_dump(mode="json")
    item_digest = table_digest(storage.read_table(storage.join(job.out, "items.parquet")))
    users = sum(part["users"] for _, part in parts)
    interactions = sum(part["interactions"] for _, part in parts)
    return {
        "format": 1,
        "source": job.recipe.format,
        "recipe": recipe,
        "recipe_digest": digest(recipe),
        "fingerprint": combined([part["digest"] for _, part in parts], items=item_digest, recipe=recipe),
        "inputs": inputs,
        "counts": {
            "rows_read": sum(stat["read"] for stat in stats),
            "users": users,
            "items": totals.num_rows,
            "interactions": interactions,
            "items_described": described,
            "density": interactions / (users * totals.num_rows),
        },
        "has_timestamps": all(part["timed"] for _, part in parts),
        "skipped": {"count": faults.count, "samples": [vars(fault) for fault in faults.samples]},
    }


def _read(
    function: Callable[..., dict[str, Any]], job: Job, files: list[Unit], faults: Faults, *more: Any
) -> list[dict[str, Any]]:
    """Run `function` on every file, one Ray Data task each, and return what they report, the faults gathered.

    Raises UserError, of the first file that could not be used.
    """

    def run(batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for number, unit in zip(batch["number"], batch["unit"], strict=True):
            report = function(job, int(number), tuple(unit.split("\n")), *more)
            yield {"number": [int(number)], "report": [json.dumps(report)]}

    tasks = [{"number": number, "unit": "\n".join(unit)} for number, unit in enumerate(files)]
    data = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    rows = data.map_batches(run, batch_size=1).take_all()
    reports = [json.loads(row["report"]) for row in sorted(rows, key=lambda row: row["number"])]
    for report in reports:
        if report["error"] is not None:
            raise UserError(report["error"])
        found = report["faults"]
        faults.extend(Faults(found["count"], [Fault(**sample) for sample in found["samples"]]))
    return reports


def _each(function: Callable[..., Any], job: Job, *more: Any) -> Iterator[tuple[int, Any]]:
    """Yield each bucket with what `function` returns for it, in the order in which they are done."""
    task = ray.remote(function)
    shared = [ray.put(value) for value in (job, *more)]
    pending = {task.remote(shared[0], bucket, *shared[1:]): bucket for bucket in range(job.buckets)}
    while pending:
        (done,), _ = ray.wait(list(pending), num_returns=1)
        try:
            result = ray.get(done)
        except RayTaskError as error:  # says where in the task it was raised, over many lines
            raise (error.cause if isinstance(error.cause, UserError) else error) from None
        yield pending.pop(done), result


def _highest_draw(job: Job) -> str | None:
    """Return the draw of the last user that is sampled, None where all are kept."""
    if job.recipe.sample_users is None:
        return None
    draws = list[str]()
    for _, lowest in _each(work.lowest_users, job):
        draws = sorted([*draws, *lowest])[: job.recipe.sample_users]
    return draws[-1] if draws else None


def _k_core(job: Job, arranged: Iterator[tuple[int, pa.Table]]) -> pa.Table:
    """Drop items and users with fewer than k_core interactions until none is; return the counts of items."""
    totals = _sum(arranged)
    while job.recipe.k_core > 1 and totals.num_rows:
        enough = pc.greater_equal(totals[COUNT], job.recipe.k_core)
        totals = _sum(_each(work.prune, job, totals.filter(enough)[c.ITEM].combine_chunks()))
        # After `prune` every user has enough; where every item has as well, that is the core.
        if not totals.num_rows or pc.min(totals[COUNT]).as_py() >= job.recipe.k_core:
            break
    return totals


def _sum(counts: Iterator[tuple[int, pa.Table]]) -> pa.Table:
    total = pa.table({c.ITEM: pa.array([], pa.string()), COUNT: pa.array([], pa.int64())})
    for _, more in counts:
        total = work.add_counts(total, more)
    return total


def _items(job: Job, files: list[Unit], known: pa.Array, faults: Faults) -> int:
    """Write items.parquet, a row for each of the ids `known`; return how many the source describes.

    An item that a source names again is a fault, unless the format does so by design; its first row counts.
    """
    table = pa.table({c.ITEM: known})
    described = 0
    if files:
        _read(work.spill_items, job, files, faults, known)
        paths = [storage.join(job.work, "items", f"{number:06d}.parquet") for number in range(len(files))]
        tables = [storage.read_table(path) for path in paths]
        origin = np.repeat(np.arange(len(files)), [table.num_rows for table in tables])
        found = pa.concat_tables(tables, promote_options="permissive")
        first = _first_rows(found[c.ITEM])
        if not READERS[job.recipe.format].repeated_items:
            for place in np.flatnonzero(~first).tolist():
                reason = (
                    f"is there twice (is {found[c.ITEM][place].as_py()!r:.60}); keep one row of each item"
                )
                faults.add(Fault(files[origin[place]][0], found[ROW][place].as_py(), c.ITEM, reason))
                if job.strict:
                    raise UserError(str(faults.samples[-1]))
        found = found.drop_columns([ROW]).filter(pa.array(first))
        described = found.num_rows
        table = _left_join(known, found)
    storage.write_table(storage.join(job.out, "items.parquet"), table)
    return described


def _first_rows(ids: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """Return [n] whether an id is there for the first time."""
    numbered = pa.table({c.ITEM: ids, "row": np.arange(len(ids))})
    first = np.zeros(len(ids), dtype=bool)
    first[numbered.group_by(c.ITEM).aggregate([("row", "min")])["row_min"].to_numpy()] = True
    return first


def _left_join(known: pa.Array, found: pa.Table) -> pa.Table:
    """Return a row for each of `known`, null where `found` has none."""
    places = pc.index_in(known, value_set=found[c.ITEM].combine_chunks())
    columns = {name: found[name].take(places) for name in found.column_names if name != c.ITEM}
    return pa.table({c.ITEM: known, **columns})


def _publish(staging: str, out: str, manifest: dict[str, Any]) -> None:
    """Move what was made to where it belongs, the manifest last where a folder cannot be renamed."""
    file_system, path = storage.resolve(out)
    if isinstance(file_system, fs.LocalFileSystem):
        storage.write_json(storage.join(staging, MANIFEST), manifest)
        made = storage.resolve(staging)[1]
        old = f"{made}.old"
        if os.path.exists(path):
            os.replace(path, old)
        os.replace(made, path)
        if os.path.exists(old):
            file_system.delete_dir(old)
        return
    if file_system.get_file_info(path).type != fs.FileType.NotFound:
        file_system.delete_dir(path)
    made = storage.resolve(staging)[1]
    for info in file_system.get_file_info(fs.FileSelector(made, recursive=True)):
        if info.type == fs.FileType.File:
            file_system.copy_file(info.path, f"{path}{info.path[len(made) :]}")
    storage.write_json(storage.join(out, MANIFEST), manifest)
