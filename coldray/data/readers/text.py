"""Lines, JSON lines and separated values from any file system, decompressed on the fly, a batch at a time."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from coldray import storage
from coldray.data.readers.base import BATCH_ROWS, Batch, Fault, Faults, to_batch
from coldray.errors import UserError

Rows = Iterator[tuple[int, list[str]]]


@contextmanager
def open_text(uri: str, encoding: str = "utf-8-sig") -> Iterator[io.TextIOWrapper]:
    """Open a text file; bytes that are not `encoding` come back as lone surrogates, for the checks to find.

    Raises UserError if the file is not there, is empty, or its compression is broken.
    """
    file_system, path = storage.resolve(uri)
    try:
        with file_system.open_input_stream(path, compression="detect") as stream:
            buffered = io.BufferedReader(stream, 1 << 20)
            if not buffered.peek(1):
                raise UserError(f"{uri}: is empty; fetch it again or leave it out")
            yield io.TextIOWrapper(buffered, encoding=encoding, errors="surrogateescape", newline="")
    except FileNotFoundError as error:
        raise UserError(f"{uri}: no such file; name an existing one") from error
    except OSError as error:
        raise UserError(f"{uri}: cannot be read to its end ({error}); fetch it again") from error


def record_batches(
    uri: str, fields: dict[str, Callable[[dict[str, Any]], Any]], parse: Callable[[str], Any] = json.loads
) -> Iterator[Batch]:
    """Yield the records of a file with one JSON object (or what `parse` reads) a line.

    `fields` says, by column, how its value is taken from a record; a line that does not parse is a fault.
    """
    with open_text(uri) as stream:
        faults, rows = Faults(), list[int]()
        columns: dict[str, list[Any]] = {name: [] for name in fields}
        for row, line in enumerate(stream, 1):
            record = _parse(line, parse)
            if isinstance(record, str):
                faults.add(Fault(uri, row, "line", f"{record}; correct or remove it"))
                continue
            rows.append(row)
            for name, take in fields.items():
                columns[name].append(take(record))
            if len(rows) == BATCH_ROWS:
                yield to_batch(columns, rows, uri, faults)
                faults, rows, columns = Faults(), [], {name: [] for name in fields}
        yield to_batch(columns, rows, uri, faults)


def _parse(line: str, parse: Callable[[str], Any]) -> dict[str, Any] | str:
    """Return the record on `line`, or what is wrong with it."""
    try:
        record = parse(line)
    except (
        ValueError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as error:  # what json and literal_eval raise
        return f"cannot be parsed ({' '.join(str(error).split()) or type(error).__name__})"
    return record if isinstance(record, dict) else f"is a {type(record).__name__}, not an object with fields"


def csv_rows(stream: io.TextIOWrapper, uri: str, separator: str, quoted: bool, faults: Faults) -> Rows:
    """Yield the rows of separated values with the line on which each begins."""
    reader = csv.reader(stream, delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    while True:
        begins = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.add(Fault(uri, begins, "line", f"cannot be parsed ({error}); correct or remove it"))
            continue
        if values:
            yield begins, values


def split_rows(stream: io.TextIOWrapper, separator: str) -> Rows:
    """Yield the lines of a file divided at `separator`, of one character or more; nothing is quoted."""
    for number, line in enumerate(stream, 1):
        if text := line.rstrip("\r\n"):
            yield number, text.split(separator)


def row_batches(rows: Rows, header: list[str], uri: str, faults: Faults) -> Iterator[Batch]:
    """Yield rows as batches with the columns of `header`, all text; a row of another width is a fault."""
    numbers, kept = list[int](), list[list[str]]()
    for number, values in rows:
        if len(values) != len(header):
            reason = f"has {len(values)} fields where {len(header)} belong; correct or remove it"
            faults.add(Fault(uri, number, "line", reason))
            continue
        numbers.append(number)
        kept.append(values)
        if len(kept) == BATCH_ROWS:
            yield to_batch(_columns(kept, header), numbers, uri, _take(faults))
            numbers, kept = [], []
    yield to_batch(_columns(kept, header), numbers, uri, _take(faults))


def _columns(rows: list[list[str]], header: list[str]) -> dict[str, list[Any]]:
    values = zip(*rows, strict=True) if rows else ([] for _ in header)
    return {name: list(column) for name, column in zip(header, values, strict=True)}


def _take(faults: Faults) -> Faults:
    """Return what `faults` holds and empty it, so that each batch carries its own."""
    taken = Faults(faults.count, list(faults.samples))
    faults.count, faults.samples = 0, []
    return taken


def csv_batches(uri: str, separator: str = ",", quoted: bool = True) -> Iterator[Batch]:
    """Yield a file of separated values with a header line, all columns as text."""
    with open_text(uri) as stream:
        faults = Faults()
        rows = csv_rows(stream, uri, separator, quoted, faults)
        first = next(rows, None)
        if first is None:
            raise UserError(f"{uri}: is empty; fetch it again or leave it out")
        header = first[1]
        if len(set(header)) != len(header):
            raise UserError(f"{uri}: row 1: {', '.join(header)}: a column is named twice; rename one of them")
        yield from row_batches(rows, header, uri, faults)


def flat(value: Any) -> str | None:
    """Return a field of a catalogue as text: lists and their lists joined by "; ", empty as None."""
    if isinstance(value, list | tuple):
        parts = [flat(part) for part in value]
        return "; ".join(part for part in parts if part) or None
    if isinstance(value, dict):
        parts = [f"{key}: {text}" for key, part in value.items() if (text := flat(part))]
        return "; ".join(part for part in parts if part) or None
    return None if value is None else str(value).strip() or None
