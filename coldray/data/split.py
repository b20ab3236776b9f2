"""Division of interactions for training, validation and test: pure functions over arrays, no Ray.

Rows are interactions sorted by user, then time; U users, I items, n rows. A protocol says of each row whether
it is trained on, part of a validation or test history, or a target; the rest (what is cold, the catalogue,
the numbering of items) follows in one place.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from coldray import storage
from coldray.data import columns as c
from coldray.data.dataset import Int32, Int64, Sequences, Split, read_manifest
from coldray.data.fingerprint import combined, table_digest
from coldray.errors import UserError
from coldray.settings import Settings, digest

Mask = npt.NDArray[np.bool_]
Protocol = Literal["temporal", "leave_one_out", "strict_cold", "amazon_m2"]
SHORTEST = 3
"""Interactions a user needs for a test target, a validation target and something to learn from."""


class SplitSettings(Settings):
    """How a data set is divided."""

    protocol: Protocol = Field("temporal", description="what is held out")
    k_core: int = Field(
        0, ge=0, description="least interactions of users and items; temporal: before the threshold"
    )
    quantile: float = Field(0.9, gt=0, lt=1, description="temporal: of all timestamps, the threshold")
    full_history: bool = Field(
        True, description="temporal: test histories keep what the k-core leaves out; the reference drops it"
    )
    train_fraction: float = Field(
        0.9, gt=0, lt=1, description="temporal, amazon_m2: of users that train; rest validate"
    )
    cold_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="of items that are cold; leave_one_out: the least frequent, strict_cold: drawn",
    )
    cold_max_train: int = Field(
        1, ge=1, description="leave_one_out: items with fewer training interactions are cold"
    )
    seed: int = Field(42, ge=0, description="of what is drawn: users that validate, items that are cold")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_protocol(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        defaults: dict[str, dict[str, Any]] = {
            "temporal": {"k_core": 3},
            "amazon_m2": {"train_fraction": 0.8},
            "strict_cold": {"cold_fraction": 0.10},
        }
        return defaults.get(values.get("protocol", "temporal"), {}) | values

    @model_validator(mode="after")
    def _fraction_where_it_counts(self) -> "SplitSettings":
        if self.cold_fraction is not None and self.protocol in ("temporal", "amazon_m2"):
            raise ValueError(
                f"cold_fraction has no part in {self.protocol}, whose cold items are those never trained"
            )
        return self


@dataclass(frozen=True)
class Interactions:
    """Interactions by user and time, users and items as ranks of their ids."""

    users: pa.Array
    """[U] string, ascending"""
    items: pa.Array
    """[I] string, ascending"""
    user: Int64
    """[n] ascending"""
    item: Int64
    """[n]"""
    time: Int64 | None
    """[n]; None where unknown"""
    part: pa.Array | None
    """[n] string, of data published in parts"""

    @property
    def sizes(self) -> Int64:
        """[U] interactions of each user."""
        return np.bincount(self.user, minlength=len(self.users))

    @property
    def from_end(self) -> Int64:
        """[n] how many interactions of the same user follow."""
        return np.cumsum(self.sizes)[self.user] - 1 - np.arange(len(self.user))


@dataclass(frozen=True)
class _Parts:
    """What becomes of each row, before it is known which items are trained."""

    train: Mask
    """[n] rows that are trained on"""
    validation: Mask
    """[n] rows in validation histories"""
    validation_targets: Int64
    """rows, at most one a user, ascending"""
    test: Mask
    """[n] rows in test histories"""
    test_targets: Int64
    """rows, at most one a user, ascending"""


def read_interactions(dataset: str | os.PathLike[str]) -> tuple[pa.Table, dict[str, Any]]:
    """Return the interactions of a data set folder, one table, and its manifest.

    Raises UserError if the folder holds no data set.
    """
    manifest = read_manifest(
        dataset, "a data set", f"run: coldray data prepare SOURCE --out {os.fspath(dataset)}"
    )
    return storage.read_table(storage.join(dataset, "interactions")), manifest


def make_split(table: pa.Table, settings: SplitSettings, source: str = "", name: str | None = None) -> Split:
    """Return `table` (user_id, item_id, position and, where known, timestamp and part) divided by a protocol.

    `source` is the fingerprint of the data set that the table is of. Cold are the items without a training
    interaction; validation targets are warm. Raises UserError if nothing is left to train on or to test.
    """
    data = _interactions(table)
    parts = PROTOCOLS[settings.protocol](data, settings)
    trained = np.bincount(data.item[parts.train], minlength=len(data.items))
    targets = parts.validation_targets[trained[data.item[parts.validation_targets]] > 0]
    validation = _with_history(data, parts.validation, targets)
    test = _with_history(data, parts.test, parts.test_targets)
    _require(bool(parts.train.any()), "training", settings)
    _require(len(validation[1]) > 0, "validation", settings)
    _require(len(test[1]) > 0, "test", settings)

    seen = np.zeros(len(data.items), dtype=bool)
    for rows in (parts.train, *validation, *test):
        seen[data.item[rows]] = True
    warm, cold = np.flatnonzero(trained > 0), np.flatnonzero(seen & (trained == 0))
    catalogue = np.concatenate([warm, cold])
    index = np.zeros(len(data.items), dtype=np.int32)
    index[catalogue] = np.arange(1, len(catalogue) + 1)
    made = {
        "train": _sequences(data, index, parts.train, None),
        "validation": _sequences(data, index, *validation),
        "test": _sequences(data, index, *test),
    }
    item_ids = data.items.take(pa.array(catalogue))
    contents = [table_digest(made[part].to_table()) for part in ("train", "validation", "test")]
    contents.append(table_digest(pa.table({c.ITEM: item_ids})))
    return Split(
        name=name or settings.protocol,
        fingerprint=combined(contents, source=source, settings=digest(settings), warm=len(warm)),
        item_ids=item_ids,
        num_warm=len(warm),
        train_counts=np.concatenate([[0], trained[catalogue]]).astype(np.int64),
        **made,
    )


def notes(split: Split) -> list[str]:
    """Return what a person should know of a split before using it."""
    if split.num_cold:
        return []
    return ["no item is cold, so cold-start figures will be empty; use strict_cold, or raise --cold-fraction"]


def _interactions(table: pa.Table) -> Interactions:
    user, users = _ranks(table[c.USER])
    item, items = _ranks(table[c.ITEM])
    order = np.lexsort((table[c.POSITION].to_numpy(), user))
    timed = c.TIME in table.column_names and table[c.TIME].null_count == 0
    time = table[c.TIME].to_numpy()[order].astype(np.int64) if timed else None
    part = table[c.PART].take(pa.array(order)).combine_chunks() if c.PART in table.column_names else None
    return Interactions(users, items, user[order], item[order], time, part)


def _ranks(column: pa.ChunkedArray) -> tuple[Int64, pa.Array]:
    """Return [n] the rank of each text among the distinct ones, and those, ascending."""
    values = pc.unique(column)
    values = values.take(pc.sort_indices(values)).cast(pa.string())
    ranks = pc.index_in(column.cast(pa.string()), value_set=values)
    return ranks.to_numpy().astype(np.int64), values


def core(user: Int64, item: Int64, rows: Mask, k: int) -> Mask:
    """Return [n] the rows left when users and items with fewer than `k` of them are dropped until none is."""
    rows = rows.copy()
    while k > 1:
        before = np.count_nonzero(rows)
        for of in (user, item):
            counts = np.bincount(of[rows], minlength=int(of.max(initial=0)) + 1)
            rows &= counts[of] >= k
        if np.count_nonzero(rows) == before:
            break
    return rows


def _temporal(data: Interactions, settings: SplitSettings) -> _Parts:
    if data.time is None:
        raise UserError(
            "temporal: the data set has no timestamps; use --protocol leave_one_out or strict_cold"
        )
    later = data.time > np.quantile(data.time, settings.quantile, method="nearest")
    earlier = core(data.user, data.item, ~later, settings.k_core)
    tested = np.zeros(len(data.users), dtype=bool)
    tested[data.user[later]] = True
    last = data.from_end == 0
    test = tested[data.user] & ~last & (settings.full_history | earlier | later)
    return _held_out_users(data, settings, earlier, test, np.flatnonzero(last & tested[data.user]))


def _amazon_m2(data: Interactions, settings: SplitSettings) -> _Parts:
    if data.part is None:
        raise UserError(
            "amazon_m2: the data set has no published test part; prepare it with --format amazon_m2"
        )
    train, test, target = (
        pc.equal(data.part, value).to_numpy(zero_copy_only=False) for value in ("train", "test", "target")
    )
    return _held_out_users(
        data, settings, core(data.user, data.item, train, settings.k_core), test, np.flatnonzero(target)
    )


def _held_out_users(
    data: Interactions, settings: SplitSettings, rows: Mask, test: Mask, test_targets: Int64
) -> _Parts:
    """Divide the users of `rows`: a seeded fraction trains; of the rest the last warm item is the target."""
    users = np.unique(data.user[rows])
    drawn = np.random.default_rng(settings.seed).permutation(users)[
        : round(settings.train_fraction * len(users))
    ]
    trains = np.zeros(len(data.users), dtype=bool)
    trains[drawn] = True
    train = rows & trains[data.user]
    warm = np.bincount(data.item[train], minlength=len(data.items)) > 0
    validation = rows & ~trains[data.user] & warm[data.item]
    targets = _last_rows(data, validation)
    validation[targets] = False
    return _Parts(train, validation, targets, test, test_targets)


def _leave_one_out(data: Interactions, settings: SplitSettings) -> _Parts:
    rows = core(data.user, data.item, np.ones(len(data.user), dtype=bool), settings.k_core)
    data, back = _only(data, rows)
    long = data.sizes[data.user] >= SHORTEST
    train = ~long | (data.from_end >= 2)
    if settings.cold_fraction is None:
        cold = np.bincount(data.item[train], minlength=len(data.items)) < settings.cold_max_train
    else:
        cold = _least_frequent(data, settings.cold_fraction)
    train &= ~cold[data.item]
    targets = np.flatnonzero(long & (data.from_end == 1) & ~cold[data.item])
    test_targets = np.flatnonzero(long & (data.from_end == 0))
    return _Parts(
        back(train),
        back(train & long),
        np.flatnonzero(rows)[targets],
        back(long & (data.from_end >= 1)),
        np.flatnonzero(rows)[test_targets],
    )


def _strict_cold(data: Interactions, settings: SplitSettings) -> _Parts:
    rows = core(data.user, data.item, np.ones(len(data.user), dtype=bool), settings.k_core)
    data, back = _only(data, rows)
    present = np.unique(data.item)
    count = round((settings.cold_fraction or 0) * len(present))
    if count == 0:
        raise UserError(
            f"strict_cold: {settings.cold_fraction} of {len(present)} items is none; raise --cold-fraction"
        )
    cold = np.zeros(len(data.items), dtype=bool)
    cold[np.random.default_rng(settings.seed).permutation(present)[:count]] = True
    long = data.sizes[data.user] >= SHORTEST
    train = (~long | (data.from_end >= 1)) & ~cold[data.item]
    targets = _last_rows(data, train & long)
    targets = targets[np.bincount(data.user[train], minlength=len(data.users))[data.user[targets]] >= 2]
    train[targets] = False
    test_targets = np.flatnonzero(long & (data.from_end == 0))
    return _Parts(
        back(train),
        back(train & long),
        np.flatnonzero(rows)[targets],
        back(long & (data.from_end >= 1)),
        np.flatnonzero(rows)[test_targets],
    )


PROTOCOLS: dict[str, Callable[[Interactions, SplitSettings], _Parts]] = {
    "temporal": _temporal,
    "leave_one_out": _leave_one_out,
    "strict_cold": _strict_cold,
    "amazon_m2": _amazon_m2,
}


def _only(data: Interactions, rows: Mask) -> tuple[Interactions, Callable[[Mask], Mask]]:
    """Return the interactions of `rows` alone, and what makes a mask of them one of all rows again."""

    def back(mask: Mask) -> Mask:
        whole = np.zeros(len(rows), dtype=bool)
        whole[rows] = mask
        return whole

    return Interactions(data.users, data.items, data.user[rows], data.item[rows], None, None), back


def _least_frequent(data: Interactions, fraction: float) -> Mask:
    """Return [I] whether an item is among the least frequent `fraction`; of equals the smaller ids."""
    counts = np.bincount(data.item, minlength=len(data.items))
    present = np.flatnonzero(counts)
    least = present[np.argsort(counts[present], kind="stable")][: round(fraction * len(present))]
    chosen = np.zeros(len(data.items), dtype=bool)
    chosen[least] = True
    return chosen


def _last_rows(data: Interactions, rows: Mask) -> Int64:
    """Return the last row of each user among `rows`."""
    places = np.flatnonzero(rows)
    last: Int64 = places[np.diff(data.user[places], append=-1) != 0]
    return last


def _with_history(data: Interactions, history: Mask, targets: Int64) -> tuple[Mask, Int64]:
    """Return the history rows and targets of the users who have both."""
    sizes = np.bincount(data.user[history], minlength=len(data.users))
    targets = targets[sizes[data.user[targets]] > 0]
    asked = np.zeros(len(data.users), dtype=bool)
    asked[data.user[targets]] = True
    return history & asked[data.user], targets


def _sequences(data: Interactions, index: Int32, history: Mask, targets: Int64 | None) -> Sequences:
    """Return the rows of `history` as sequences of item indices, with targets where there are any."""
    sizes = np.bincount(data.user[history], minlength=len(data.users))
    users = np.flatnonzero(sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes[users])]).astype(np.int64)
    wanted = None if targets is None else index[data.item[targets]]
    return Sequences(data.users.take(pa.array(users)), offsets, index[data.item[history]], wanted)


def _require(there: bool, what: str, settings: SplitSettings) -> None:
    if not there:
        raise UserError(
            f"{settings.protocol}: no user is left for {what}; lower --k-core, or use another protocol"
        )
