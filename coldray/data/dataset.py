"""A split of a data set as arrays in memory, and as Parquet files with a manifest on disk.

    DATASET/manifest.json, interactions/*.parquet, items.parquet      made by coldray.data.prepare
    DATASET/splits/NAME/manifest.json, items.parquet, train.parquet, validation.parquet, test.parquet
    DATASET/embeddings/NAME/manifest.json, *.parquet                  made by coldray.encode

A manifest is written last: a folder without one is not whole and is never read.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldray import storage
from coldray.data import columns as c
from coldray.data.fingerprint import table_digest
from coldray.errors import UserError

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

MANIFEST = "manifest.json"
PARTS = ("train", "validation", "test")
"""The tables of sequences of a split, by file name and by attribute."""
TABLES = ("items", *PARTS)


@dataclass(frozen=True)
class Sequences:
    """Users' item sequences, concatenated: sequence i is `items[offsets[i]:offsets[i + 1]]`, oldest first."""

    users: pa.Array
    """[n] string"""
    offsets: Int64
    """[n + 1]"""
    items: Int32
    """[offsets[n]] item indices"""
    targets: Int32 | None = None
    """[n] the item to be predicted from sequence i; None for training sequences"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64:
        """[n] number of items of each sequence."""
        return np.diff(self.offsets)

    def take(self, ids: Int64) -> "Sequences":
        """Return the sequences `ids` [m], in that order."""
        lengths = self.lengths[ids]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        places = np.repeat(self.offsets[ids] - offsets[:-1], lengths) + np.arange(offsets[-1])
        targets = None if self.targets is None else self.targets[ids]
        return Sequences(self.users.take(pa.array(ids)), offsets, self.items[places], targets)

    def without_cold(self, num_warm: int) -> "Sequences":
        """Return the sequences with the items above `num_warm` taken out; users and targets stay."""
        warm = self.items <= num_warm
        kept = np.concatenate([[0], np.cumsum(warm)])[self.offsets]
        return Sequences(self.users, kept.astype(np.int64), self.items[warm], self.targets)

    def to_table(self) -> pa.Table:
        """Return the sequences as a table: user_id, history and, where there are targets, target."""
        lists = pa.LargeListArray.from_arrays(self.offsets, self.items)
        data: dict[str, Any] = {c.USER: self.users, c.HISTORY: lists}
        if self.targets is not None:
            data[c.TARGET] = self.targets
        return pa.table(data)

    @classmethod
    def from_table(cls, table: pa.Table) -> "Sequences":
        """Return the sequences that `to_table` made `table` of."""
        table = table.combine_chunks()
        history = pa.array([], pa.large_list(pa.int32()))
        users = pa.array([], pa.string())
        if table.num_rows:
            history = table[c.HISTORY].cast(pa.large_list(pa.int32())).chunk(0)
            users = table[c.USER].cast(pa.string()).chunk(0)
        targets = table[c.TARGET].to_numpy().astype(np.int32) if c.TARGET in table.column_names else None
        offsets = history.offsets.to_numpy().astype(np.int64)
        return cls(users, offsets - offsets[0], history.flatten().to_numpy().astype(np.int32), targets)


@dataclass(frozen=True)
class Split:
    """A data set divided for training, validation and test.

    Items are numbered 1..num_items; 1..num_warm are warm, ordered by item id, and the rest are cold,
    likewise. 0 is padding.
    """

    name: str
    fingerprint: str
    """of the content: the same on every machine for the same input and recipe"""
    item_ids: pa.Array
    """[num_items] string; item of index i is item_ids[i - 1]"""
    num_warm: int
    train_counts: Int64
    """[num_items + 1] interactions of each item in training sequences; [0] is 0"""
    train: Sequences
    validation: Sequences
    """targets are warm items"""
    test: Sequences

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue, warm and cold."""
        return len(self.item_ids)

    @property
    def num_cold(self) -> int:
        """Number of cold items."""
        return self.num_items - self.num_warm

    @property
    def cold(self) -> npt.NDArray[np.bool_]:
        """[num_items + 1] whether the item of that index is cold; False for the padding."""
        return np.arange(self.num_items + 1) > self.num_warm


def split_folder(dataset: str | os.PathLike[str], name: str) -> str:
    """Return where the split `name` of a data set folder is kept."""
    return storage.join(dataset, "splits", name)


def read_manifest(folder: str | os.PathLike[str], what: str, fix: str) -> dict[str, Any]:
    """Return the manifest of `folder`. Raises UserError that says what is missing and how it is made."""
    path = storage.join(folder, MANIFEST)
    if not storage.exists(path):
        raise UserError(f"{os.fspath(folder)}: is not {what}; {fix}")
    manifest = storage.read_json(path)
    if not isinstance(manifest, dict) or "fingerprint" not in manifest:
        raise UserError(f"{path}: fingerprint: is missing; {fix}")
    return manifest


def save_split(
    split: Split, folder: str | os.PathLike[str], recipe: dict[str, Any], notes: Sequence[str] = ()
) -> None:
    """Write `split` to `folder`, its manifest, with `notes` for who uses it, last."""
    index = np.arange(1, split.num_items + 1, dtype=np.int32)
    counts = split.train_counts[1:]
    items = {c.INDEX: index, c.ITEM: split.item_ids, c.TRAIN_COUNT: counts, c.COLD: split.cold[1:]}
    tables = {"items": pa.table(items)} | {part: getattr(split, part).to_table() for part in PARTS}
    for name, table in tables.items():
        storage.write_table(storage.join(folder, f"{name}.parquet"), table)
    manifest = {
        "format": 1,
        "name": split.name,
        "fingerprint": split.fingerprint,
        "contents": {name: table_digest(table) for name, table in tables.items()},
        "recipe": recipe,
        "num_items": split.num_items,
        "num_warm": split.num_warm,
        "num_cold": split.num_cold,
        "train_users": len(split.train),
        "validation_users": len(split.validation),
        "test_users": len(split.test),
        "notes": list(notes),
    }
    storage.write_json(storage.join(folder, MANIFEST), manifest)


def load_split(dataset: str | os.PathLike[str], name: str) -> Split:
    """Return the split `name` of the data set folder `dataset`.

    Raises UserError if the data set has no such split, or a file of it is not as it was made.
    """
    folder = split_folder(dataset, name)
    fix = f"run: coldray data split {os.fspath(dataset)} --protocol {name}"
    manifest = read_manifest(folder, "a split of a data set", fix)
    contents = manifest.get("contents", {})  # splits of before this was kept are taken as they are
    tables = {
        part: _read_part(storage.join(folder, f"{part}.parquet"), contents.get(part)) for part in TABLES
    }
    items = tables["items"].combine_chunks()
    return Split(
        name=manifest["name"],
        fingerprint=manifest["fingerprint"],
        item_ids=items[c.ITEM].cast(pa.string()).chunk(0),
        num_warm=manifest["num_warm"],
        train_counts=np.concatenate([[0], items[c.TRAIN_COUNT].to_numpy()]).astype(np.int64),
        **{part: Sequences.from_table(tables[part]) for part in PARTS},
    )


def _read_part(path: str, digest: str | None) -> pa.Table:
    """Return a table of a split. Raises UserError unless its content is what `digest` says."""
    table = storage.read_table(path)
    if digest is not None and table_digest(table) != digest:
        raise UserError(f"{path}: its content has changed since the split was made; make the split again")
    return table
