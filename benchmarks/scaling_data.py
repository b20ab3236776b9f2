"""Interactions and catalogues of any size for scaling.py, the same on every run and never whole in memory.

Items are drawn as 1 / rank, the rarer half of them first seen as time goes on; a user is active during a fifth of the
time. There are 20 interactions a user and 100 an item on average. What users do means nothing: only cost is measured on it.
"""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

FILES = 4
"""whatever the size, so that as many tasks read at a time"""
GROUP = 500_000
"""rows made, and written, at a time"""
COLOURS = ("red", "blue", "green", "black", "white", "silver", "amber", "ivory")
KINDS = (
    "desk lamp",
    "office chair",
    "fountain pen",
    "paper shredder",
    "label printer",
    "desk organizer",
    "stapler",
)
QUALITIES = (
    "foldable",
    "ergonomic",
    "compact",
    "rechargeable",
    "heavy-duty",
    "wooden",
    "magnetic",
    "wireless",
    "slim",
)


def population(count: int) -> tuple[int, int]:
    """Return how many users and items `count` interactions are of."""
    return max(100, count // 20), max(1000, count // 100)


def rows(start: int, length: int, count: int) -> pa.Table:
    """Return `length` of `count` interactions from number `start` on, in the order of time."""
    users, items = population(count)
    random = np.random.default_rng([count, start])
    number = np.arange(start, start + length)
    when = number / count
    user = ((0.8 * when + 0.2 * random.random(length)) * users).astype(np.int64)
    known = items * (0.5 + 0.5 * when)
    item = (known ** random.random(length)).astype(np.int64)  # P(rank r) falls as 1 / r
    columns = {"user_id": _ids("u", user), "item_id": _ids("i", item), "timestamp": pa.array(number)}
    return pa.table(columns)


def _ids(letter: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(letter, pa.array(numbers).cast(pa.string()), "")


def write_interactions(folder: Path, count: int) -> None:
    """Write `count` interactions to `folder` as Parquet; what is there is left as it is."""
    if folder.exists():
        return
    making = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    bounds = [count * part // FILES for part in range(FILES + 1)]
    schema = rows(0, 1, count).schema
    for file in range(FILES):
        with pq.ParquetWriter(making / f"interactions-{file}.parquet", schema) as writer:
            for start in range(bounds[file], bounds[file + 1], GROUP):
                writer.write_table(rows(start, min(GROUP, bounds[file + 1] - start), count))
    making.rename(folder)


def write_catalogue(file: Path, count: int) -> None:
    """Write a catalogue of `count` items with titles such as "red compact stapler 7"."""
    number = range(count)
    titles = [
        f"{COLOURS[i % 8]} {QUALITIES[i // 8 % 9]} {KINDS[i // 72 % 7]} {1 + i // 504}".capitalize()
        for i in number
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"item_id": [f"i{i}" for i in number], "title": titles}), file)
