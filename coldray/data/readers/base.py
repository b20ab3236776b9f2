"""What a reader is, and what it hands on: batches of rows as published, and the faults found in them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import fs

from coldray import storage
from coldray.data.recipe import Recipe
from coldray.errors import UserError

BATCH_ROWS = 100_000
"""Rows of a batch: large enough for vectorised work, small enough for memory."""
MAX_SAMPLES = 10

Unit = tuple[str, ...]
"""A file to be read by one task, and after it the files that it needs beside it (URIs)."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row of a file."""

    file: str
    row: int
    """counted from 1; of a text file the line on which the row begins"""
    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}: row {self.row}: {self.field}: {self.reason}"


@dataclass
class Faults:
    """How many rows were skipped, and the first of them."""

    count: int = 0
    samples: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Count one more."""
        self.count += 1
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(fault)

    def extend(self, other: "Faults") -> None:
        """Count those of `other` as well."""
        self.count += other.count
        self.samples.extend(other.samples[: MAX_SAMPLES - len(self.samples)])


@dataclass(frozen=True)
class Batch:
    """Rows of one file, as published: any types, to be checked by `coldray.data.checks`."""

    table: pa.Table
    rows: npt.NDArray[np.int64]
    """[n] the row of the file, counted from 1, for messages"""
    order: npt.NDArray[np.int64]
    """[n] rank of the interaction in the file, increasing"""
    faults: Faults


@dataclass(frozen=True)
class Files:
    """The files of a source, each a unit of work."""

    interactions: list[Unit]
    items: list[Unit]


@dataclass(frozen=True)
class Reader:
    """One published format.

    `interactions` yields columns user_id, item_id and, where the source has them, timestamp, rating, position
    and part; `items` yields item_id and any further columns.
    """

    find: Callable[[list[str]], Files]
    """divides the sorted names of a folder's files, relative to it, into interactions and items"""
    interactions: Callable[[Unit, Recipe], Iterator[Batch]]
    items: Callable[[Unit, Recipe], Iterator[Batch]]
    repeated_items: bool = False
    """whether the source names an item on several rows by design, the first of which counts"""


def to_batch(columns: dict[str, list[Any]], rows: list[int], file: str, faults: Faults) -> Batch:
    """Return parsed values as a batch.

    A column of mixed types becomes text, for the checks to name the value that does not belong; a row with
    text that is not UTF-8 is left out as a fault.
    """
    numbers = np.array(rows, dtype=np.int64)
    try:
        table = pa.table({name: pa.array(values) for name, values in columns.items()})
        return Batch(table, numbers, numbers, faults)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError, OverflowError):
        texts = {name: [_text(value) for value in values] for name, values in columns.items()}
    good = np.ones(len(rows), dtype=bool)
    for name, values in texts.items():
        for i, value in enumerate(values):
            if good[i] and value is not None and not _is_utf8(value):
                good[i] = False
                faults.add(Fault(file, rows[i], name, "is not UTF-8; convert the file to UTF-8"))
    kept = np.flatnonzero(good).tolist()
    arrays = {name: pa.array([values[i] for i in kept], pa.string()) for name, values in texts.items()}
    return Batch(pa.table(arrays), numbers[good], numbers[good], faults)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_columns(file: str, wanted: list[str], present: list[str], fix: str) -> None:
    """Raise UserError if a column is missing from a file's header."""
    for name in wanted:
        if name not in present:
            raise UserError(f"{file}: row 1: {name}: no such column (it has {', '.join(present)}); {fix}")


def basename(uri: str) -> str:
    """Return the last part of a path or URI, without .gz."""
    return uri.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gz")


def units(names: list[str]) -> list[Unit]:
    """Return each name as a unit of its own."""
    return [(name,) for name in names]


def list_files(source: str) -> tuple[str, list[str]]:
    """Return the folder of `source` and the sorted names of the files below it; a file is a folder of one.

    Raises UserError if nothing is there.
    """
    file_system, path = storage.resolve(source)
    info = file_system.get_file_info(path)
    if info.type.name == "NotFound":
        raise UserError(f"{source}: no such file or folder; name where the raw files are")
    if info.type.name == "File":
        folder, _, name = source.rstrip("/").rpartition("/")
        return folder or ("/" if source.startswith("/") else "."), [name]
    entries = file_system.get_file_info(fs.FileSelector(path, recursive=True))
    names = [entry.path[len(path.rstrip("/")) + 1 :] for entry in entries if entry.type.name == "File"]
    return source, sorted(names)
