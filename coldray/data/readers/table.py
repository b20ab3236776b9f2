"""The user's own tables: CSV, TSV, Parquet or JSON lines, their columns named by the recipe."""

import json
import operator
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from coldray import storage
from coldray.data import columns as c
from coldray.data.readers.base import Batch, Faults, Files, Reader, Unit, basename, require_columns, units
from coldray.data.readers.text import csv_batches, open_text, record_batches
from coldray.data.recipe import Recipe
from coldray.errors import UserError

EXTENSIONS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
PARQUET_ROWS = 65_536


def _find(names: list[str]) -> Files:
    tables = [name for name in names if basename(name).endswith(EXTENSIONS)]
    if not tables:
        raise UserError(f"has no tables ({', '.join(EXTENSIONS)}); name the file or folder that has them")
    return Files(units(tables), [])


def read_table(uri: str, columns: list[str] | None = None) -> Iterator[Batch]:
    """Yield the rows of a table by the kind of file that its name says; Parquet reads only `columns`."""
    name = basename(uri)
    if name.endswith(".parquet"):
        yield from parquet_batches(uri, columns)
    elif name.endswith((".csv", ".tsv")):
        yield from csv_batches(uri, "\t" if name.endswith(".tsv") else ",")
    elif name.endswith(EXTENSIONS):
        yield from _json_batches(uri)
    else:
        raise UserError(f"{uri}: is of no kind that is known by its name; use one of {', '.join(EXTENSIONS)}")


def parquet_batches(uri: str, columns: list[str] | None = None) -> Iterator[Batch]:
    """Yield a Parquet file's rows, of all or, where it has them, of the named columns.

    Raises UserError if it is not there, is no Parquet, or has no rows.
    """
    file_system, path = storage.resolve(uri)
    try:
        with file_system.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            if file.metadata.num_rows == 0:
                raise UserError(f"{uri}: is empty; fetch it again or leave it out")
            present = file.schema_arrow.names
            chosen = present if columns is None else [name for name in columns if name in present]
            row = 1
            for batch in file.iter_batches(PARQUET_ROWS, columns=chosen):
                rows = np.arange(row, row + batch.num_rows, dtype=np.int64)
                row += batch.num_rows
                yield Batch(pa.Table.from_batches([batch]), rows, rows, Faults())
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file; name an existing one") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(
            f"{uri}: cannot be read as Parquet ({' '.join(str(error).split())}); fetch it again"
        ) from error


def _json_batches(uri: str) -> Iterator[Batch]:
    """Yield JSON lines with the columns that the first line has."""
    with open_text(uri) as stream:
        first = next(record_keys(stream), None)
    if first is None:
        raise UserError(f"{uri}: row 1: line: is no JSON object; write one object with the fields a line")
    return record_batches(uri, {name: operator.methodcaller("get", name) for name in first})


def record_keys(lines: Iterator[str]) -> Iterator[list[str]]:
    """Yield the field names of each line that is a JSON object."""
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # reported, with its row, when the lines are read
            continue
        if isinstance(record, dict):
            yield list(record)


def select_interactions(batch: Batch, uri: str, recipe: Recipe) -> Batch:
    """Return a batch with the recipe's columns under their own names, the rest left out.

    Raises UserError if a column that the recipe names is not there.
    """
    present = batch.table.column_names
    wanted = {c.USER: recipe.user_column, c.ITEM: recipe.item_column}
    optional = {
        c.TIME: recipe.timestamp_column,
        c.RATING: recipe.rating_column,
        c.POSITION: recipe.position_column,
    }
    for column, name in optional.items():
        if name is not None or column in present:
            wanted[column] = name or column
    fix = "name the right one with --user-column, --item-column, --timestamp-column and the like"
    require_columns(uri, list(wanted.values()), present, fix)
    table = batch.table.select(list(wanted.values())).rename_columns(list(wanted))
    return Batch(table, batch.rows, batch.order, batch.faults)


def _interactions(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    names = [
        recipe.timestamp_column or c.TIME,
        recipe.rating_column or c.RATING,
        recipe.position_column or c.POSITION,
    ]
    for batch in read_table(unit[0], [recipe.user_column, recipe.item_column, *names]):
        yield select_interactions(batch, unit[0], recipe)


def items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    """Yield the items' table, the column of ids under its own name."""
    for batch in read_table(unit[0]):
        yield with_item_id(batch, unit[0], recipe)


def with_item_id(batch: Batch, uri: str, recipe: Recipe) -> Batch:
    """Return a batch with the recipe's item column renamed to item_id."""
    names = batch.table.column_names
    require_columns(uri, [recipe.item_column], names, "name the right one with --item-column")
    table = batch.table.rename_columns([c.ITEM if name == recipe.item_column else name for name in names])
    return Batch(table, batch.rows, batch.order, batch.faults)


READER = Reader(_find, _interactions, items)
