"""The files of a cell's result: metrics, ranks, and what else its method leaves; `done.json`, the last, says that it is whole."""

import csv
import gzip
import io
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coldray import storage
from coldray.data.dataset import Split
from coldray.errors import UserError
from coldray.evaluation import Evaluation, settings_table
from coldray.sweep import artifacts as a
from coldray.transfer import Transfer

DONE = "done.json"
_DRAW = 42
"""seed of the test users that are drawn"""


def with_test_users(split: Split, cold_users: int | None) -> Split:
    """Return the split with the test users that a sweep evaluates: all, or at most `cold_users` whose target is cold.

    They are drawn once, the same for every method and seed. Raises UserError where no target is cold.
    """
    if cold_users is None:
        return split
    cold = np.flatnonzero(np.asarray(split.test.targets) > split.num_warm)
    if not len(cold):
        raise UserError(f"split {split.name}: no test user has a cold target; make more items cold")
    if len(cold) > cold_users:
        cold = np.sort(np.random.default_rng(_DRAW).choice(cold, cold_users, replace=False))
    return Split(**{**vars(split), "test": split.test.take(cold)})


def write_result(
    folder: str,
    evaluation: Evaluation,
    train_counts: npt.NDArray[np.int64],
    files: Mapping[str, pa.Table | bytes],
    metrics: Mapping[str, float],
    settings: int,
) -> None:
    """Write the result's files to `folder`; the first `settings` of the four are those in which it was evaluated."""
    rows = settings_table(evaluation)[:settings]
    storage.write_bytes(storage.join(folder, a.EVALUATION), _csv_gz(rows))
    storage.write_table(storage.join(folder, a.RANKS), evaluation.to_table(train_counts))
    for name, content in files.items():
        write = storage.write_bytes if isinstance(content, bytes) else storage.write_table
        write(storage.join(folder, name), content)
    headline = {key.replace("@", "_at_").lower(): value for key, value in rows[0].items() if "@" in key}
    known = {key: value for key, value in (headline | dict(metrics)).items() if not math.isnan(value)}
    storage.write_json(storage.join(folder, DONE), {"metrics": known})


def transfer_table(split: Split, transfer: Transfer[npt.NDArray[Any]]) -> pa.Table:
    """Return transfer.parquet: what was transferred to each cold item."""
    items = {
        "item_id": split.item_ids[split.num_warm :],
        "item": np.arange(split.num_warm + 1, split.num_items + 1, dtype=np.int32),
        "gate": transfer.gate.astype(np.float32),
        "max_similarity": transfer.similarities[:, 0].astype(np.float32),
    }
    return pa.table(items)


def as_json(value: Any) -> bytes:
    """Return `value` as the bytes of a JSON file."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _csv_gz(rows: list[dict[str, Any]]) -> bytes:
    """Return `rows` as compressed CSV, the same bytes for the same rows."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)
