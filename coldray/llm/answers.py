"""Answers that were paid for, kept in Parquet: what was asked before is not asked again.

    FOLDER/part-*.parquet    key, prompt, model, text, prompt_tokens, completion_tokens, whole, score

A key is the hash of model, prompt, input and sampling. Parts are written whole or not at all, each by the process that
asked, so that a killed one loses no more than its last few answers.
"""

import asyncio
import time
import uuid
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from coldray import storage
from coldray.llm.engine import Answer, Engine, Request
from coldray.settings import digest

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("prompt", pa.string()),
        ("model", pa.string()),
        ("text", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("whole", pa.bool_()),
        ("score", pa.float64()),
    ]
)
_BUFFER, _SECONDS = 64, 5.0
"""answers, and seconds, after which a part is written"""
_ROWS = 4096
"""of a row group after `compact`"""
_LOADED = 8
"""row groups kept in memory"""


def key_of(identity: str, request: Request) -> str:
    """Return the key of what a model is asked, 16 hex digits."""
    return digest([identity, asdict(request)])


@dataclass
class Usage:
    """What was asked, and what it took."""

    calls: int = 0
    remembered: int = 0
    """answers that were there already; they cost nothing"""
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, other: "Usage") -> None:
        """Count `other` in."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)


class Answers:
    """The folder of answers, as one process sees it: what was there when it opened it, and what it adds.

    In memory it holds 16 bytes an answer and a few row groups.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._parts = parts(folder)
        keys, places = [np.zeros(0, np.uint64)], [np.zeros((0, 2), np.int32)]
        for number, path in enumerate(self._parts):
            file_system, inside = storage.resolve(path)
            with storage.reading_parquet(path), pq.ParquetFile(inside, filesystem=file_system) as file:
                for group in range(file.num_row_groups):
                    found = file.read_row_group(group, columns=["key"])["key"].to_pylist()
                    keys.append(np.array([int(key, 16) for key in found], np.uint64))
                    places.append(np.tile(np.array([number, group], np.int32), (len(found), 1)))
        self._keys: npt.NDArray[np.uint64] = np.concatenate(keys)
        order = np.argsort(self._keys, kind="stable")
        self._keys, self._places = self._keys[order], np.concatenate(places)[order]
        self._loaded: dict[tuple[int, int], dict[str, Answer]] = {}
        self._new: dict[str, Answer] = {}
        self._rows: list[dict[str, object]] = []
        self._written = time.monotonic()

    def __len__(self) -> int:
        return len(self._keys) + len(self._new)

    def get(self, key: str) -> Answer | None:
        """Return the answer that is kept under `key`, or None."""
        if key in self._new:
            return self._new[key]
        number = np.uint64(int(key, 16))
        place = int(np.searchsorted(self._keys, number))
        if place == len(self._keys) or self._keys[place] != number:
            return None
        return self._group(int(self._places[place, 0]), int(self._places[place, 1])).get(key)

    def _group(self, part: int, group: int) -> dict[str, Answer]:
        if (part, group) not in self._loaded:
            path = self._parts[part]
            file_system, inside = storage.resolve(path)
            with storage.reading_parquet(path), pq.ParquetFile(inside, filesystem=file_system) as file:
                rows = file.read_row_group(
                    group, columns=[n for n in SCHEMA.names if n not in ("prompt", "model")]
                )
            while len(self._loaded) >= _LOADED:
                self._loaded.pop(next(iter(self._loaded)))
            self._loaded[part, group] = {row.pop("key"): Answer(**row) for row in rows.to_pylist()}
        return self._loaded[part, group]

    def put(self, key: str, model: str, request: Request, answer: Answer) -> None:
        """Keep an answer; it is on disk after `flush`, or soon."""
        self._new[key] = answer
        self._rows.append({"key": key, "prompt": request.prompt, "model": model, **asdict(answer)})
        if len(self._rows) >= _BUFFER or time.monotonic() - self._written > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is new. Raises UserError where the disk is full."""
        if self._rows:
            table = pa.Table.from_pylist(self._rows, SCHEMA)
            storage.write_table(storage.join(self.folder, f"part-{uuid.uuid4().hex}.parquet"), table)
        self._rows, self._written = [], time.monotonic()


def parts(folder: str) -> list[str]:
    """Return the paths of the parts in `folder`, sorted."""
    file_system, path = storage.resolve(folder)
    found = file_system.get_file_info(fs.FileSelector(path, allow_not_found=True))
    names = sorted(info.base_name for info in found if info.extension == "parquet")
    return [storage.join(folder, name) for name in names]


def compact(folder: str) -> None:
    """Make one part of those in `folder`. Nobody else may be using it."""
    there = parts(folder)
    if len(there) > 1:
        table = pa.concat_tables(storage.read_table(path).cast(SCHEMA) for path in there)
        _, first = np.unique(table["key"].to_numpy(), return_index=True)
        sink = pa.BufferOutputStream()
        pq.write_table(table.take(np.sort(first)), sink, compression="zstd", row_group_size=_ROWS)
        storage.write_bytes(storage.join(folder, f"part-{uuid.uuid4().hex}.parquet"), sink.getvalue())
        for path in there:
            storage.delete(path)


class Asks(Protocol):
    """An engine that says what an answer took: `Remembering`, or `coldray.llm.cached.Cached`."""

    async def ask(self, request: Request) -> tuple[Answer, Usage]:
        """Return the answer and what it took."""
        ...

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return each text, or its beginning of about `tokens` tokens."""
        ...


@dataclass
class Remembering:
    """An engine that looks among the answers first; who asks the same at the same time waits for one answer."""

    engine: Engine
    answers: Answers
    usage: Usage = field(default_factory=Usage)
    """of all requests so far"""
    _asked: dict[str, asyncio.Task[Answer]] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Identity of the engine."""
        return self.engine.identity

    async def generate(self, request: Request) -> Answer:
        """Return the answer, remembered or the engine's; raises what the engine raises."""
        return (await self.ask(request))[0]

    async def ask(self, request: Request) -> tuple[Answer, Usage]:
        """Return the answer and what it took."""
        key = key_of(self.identity, request)
        known = self.answers.get(key)
        if known is not None:
            return known, self._count(Usage(remembered=1))
        if key in self._asked:
            return await self._asked[key], self._count(Usage(remembered=1))
        self._asked[key] = asyncio.ensure_future(self._fresh(key, request))
        try:
            answer = await self._asked[key]
        finally:
            del self._asked[key]
        return answer, self._count(Usage(1, 0, answer.prompt_tokens, answer.completion_tokens))

    async def _fresh(self, key: str, request: Request) -> Answer:
        answer = await self.engine.generate(request)
        self.answers.put(key, self.identity, request, answer)
        return answer

    def _count(self, usage: Usage) -> Usage:
        self.usage.add(usage)
        return usage

    async def cut(self, texts: list[str], tokens: int) -> list[str]:
        """Return what the engine cuts."""
        return await self.engine.cut(texts, tokens)

    async def close(self) -> None:
        """Write what is new and close the engine."""
        self.answers.flush()
        await self.engine.close()
