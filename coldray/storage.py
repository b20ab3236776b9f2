"""Files by path or URI, through pyarrow's file systems: whole-or-nothing writes, plain reads.

A local path and a bucket (`s3://`, `gs://`, `hdfs://`) are said the same way everywhere.
"""

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from coldray.errors import UserError, mendable, mended


def resolve(uri: str | os.PathLike[str]) -> tuple[fs.FileSystem, str]:
    """Return the file system of `uri` and the path inside it; a relative path is taken from here.

    Raises UserError for a scheme that pyarrow does not know.
    """
    text = os.fspath(uri)
    if "://" not in text:
        return fs.LocalFileSystem(), absolute(text)
    try:
        file_system, path = fs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise UserError(
            f"{text}: cannot be opened ({error}); use a path, or a URI such as s3://bucket/folder"
        ) from error
    return file_system, path


def absolute(uri: str | os.PathLike[str]) -> str:
    """Return `uri` so that it names the same place from any folder."""
    text = os.fspath(uri)
    return text if "://" in text else os.path.abspath(os.path.expanduser(text))


def join(uri: str | os.PathLike[str], *parts: str) -> str:
    """Return `uri` with `parts` below it."""
    return "/".join([os.fspath(uri).rstrip("/"), *parts])


def exists(uri: str | os.PathLike[str]) -> bool:
    """Return whether a file or folder is at `uri`."""
    file_system, path = resolve(uri)
    return bool(file_system.get_file_info(path).type != fs.FileType.NotFound)


def write_bytes(uri: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `uri` so that a reader sees either all of it or what was there before.

    Raises UserError if a person has to do something first: where the disk is full, or it may not be written.
    """
    file_system, path = resolve(uri)
    if not isinstance(file_system, fs.LocalFileSystem):
        # object stores publish a file when it is closed; left to itself Arrow would pack a .gz again
        with file_system.open_output_stream(path, compression=None) as stream:
            stream.write(data)
        return
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        told = mendable(error, path)
        if told is None:
            raise
        raise told from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def read_bytes(uri: str | os.PathLike[str]) -> bytes:
    """Return the content of the file at `uri`. Raises UserError if it is not there."""
    file_system, path = resolve(uri)
    try:
        with file_system.open_input_stream(path, compression=None) as stream:
            data: bytes = stream.read()
    except FileNotFoundError as error:
        raise UserError(f"{os.fspath(uri)}: no such file") from error
    return data


def write_json(uri: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as JSON, whole or not at all."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(uri, text.encode() + b"\n")


def read_json(uri: str | os.PathLike[str]) -> Any:
    """Return the JSON at `uri`. Raises UserError if it is not there or is no JSON."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise UserError(f"{os.fspath(uri)}: is not JSON ({error}); make it anew") from error


def write_table(uri: str | os.PathLike[str], table: pa.Table) -> None:
    """Write `table` as one Parquet file, whole or not at all."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    write_bytes(uri, sink.getvalue())


def read_table(uri: str | os.PathLike[str], columns: list[str] | None = None) -> pa.Table:
    """Return the Parquet file or folder at `uri` as one table. Raises UserError if it cannot be read."""
    file_system, path = resolve(uri)
    with reading_parquet(uri):
        return pq.read_table(path, filesystem=file_system, columns=columns)


@contextmanager
def reading_parquet(uri: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what pyarrow raises for a Parquet file that is missing or damaged into a UserError.

    Damage shows as an OSError, too: that is what pyarrow makes of pages that do not decompress.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{os.fspath(uri)}: cannot be read as Parquet ({reason:.300}); make it anew"
        ) from error


def delete(uri: str | os.PathLike[str]) -> None:
    """Delete the file at `uri`, if it is there; whoever deletes it at the same time does no harm."""
    file_system, path = resolve(uri)
    try:
        if file_system.get_file_info(path).type == fs.FileType.File:
            file_system.delete_file(path)
    except FileNotFoundError:
        return


@contextmanager
def exclusive(folder: str | os.PathLike[str], doing: str, waiting: Callable[[str], None]) -> Iterator[None]:
    """Let one process at a time do something in `folder`, made if it is not there; others wait, and hear why by `waiting`.

    The lock is the file DOING.lock, for processes that see the same local folder. In a bucket nobody holds it.
    """
    file_system, path = resolve(folder)
    if not isinstance(file_system, fs.LocalFileSystem):
        yield
        return
    with mended(os.fspath(folder)):
        file_system.create_dir(path)
        lock = filelock.FileLock(join(path, f"{doing}.lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            waiting(f"{os.fspath(folder)}: another process is {doing} it; waiting until that is done")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()
