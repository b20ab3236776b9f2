"""Recommendations from what a sweep trained and chose, without training anything. No Ray, no MLflow."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldray import storage
from coldray.data import columns as c
from coldray.data.dataset import Sequences, Split
from coldray.errors import UserError
from coldray.evaluation.ranking import top_items
from coldray.sweep.config import SweepSettings
from coldray.sweep.grid import Cell, make_cells
from coldray.sweep.methods import ASKING, SELECTING
from coldray.sweep.work import Workspace


def pick_cell(
    settings: SweepSettings, method: str | None = None, k: int | None = None, seed: int | None = None
) -> Cell:
    """Return the cell of a sweep to recommend with: `delta+selected` and the first seed, if not said otherwise.

    Raises UserError if the sweep has no such cell.
    """
    if method is None:
        known = [method for method in settings.methods if method not in ASKING]
        method = settings.baseline if settings.baseline in known else next(iter(known), settings.methods[0])
        method = SELECTING if SELECTING in known else method
    if method in ASKING:
        raise UserError(
            f"method: {method} asks a language model; use coldray recommend DATASET, or coldray serve"
        )
    cells = [cell for cell in make_cells(settings) if cell.method == method]
    if not cells:
        raise UserError(f"method: the sweep {settings.name} has {', '.join(settings.methods)}, not {method}")
    for name, wanted in (("k", k), ("seed", seed)):
        found = [cell for cell in cells if wanted is None or getattr(cell, name) == wanted]
        if not found:
            there = sorted({str(getattr(cell, name)) for cell in cells})
            raise UserError(
                f"{name}: {method} of the sweep {settings.name} has {', '.join(there)}, not {wanted}"
            )
        cells = found
    return cells[0]


def recommend(
    workspace: Workspace,
    cell: Cell,
    users: Sequence[str] | None = None,
    history: Sequence[str] | None = None,
    n: int = 10,
) -> pa.Table:
    """Return the n best items for each user: user_id, rank, item_id, score, cold and, where items have one, title.

    `users`: ids of the data set; their histories are all that is known of them, and nothing of it is recommended. None:
    all. `history`: instead, the items of one user, oldest first, whose id is then empty. Raises UserError for a user or an
    item that is not there, and where the cell has not been run.
    """
    scorer, split = workspace.scorer(cell)
    asked = known_histories(split) if history is None else _given(split, history)
    if users is not None and history is None:
        asked = asked.take(_rows(pa.array(users, pa.string()), asked.users, "user", "the data set"))
    items, scores = top_items(scorer, asked, n)
    there = items.ravel() > 0
    ids = split.item_ids.take(pa.array(items.ravel()[there] - 1))
    table = {
        c.USER: asked.users.take(pa.array(np.repeat(np.arange(len(asked)), n)[there])),
        "rank": np.tile(np.arange(1, n + 1, dtype=np.int32), len(asked))[there],
        c.ITEM: ids,
        "score": scores.ravel()[there],
        "cold": items.ravel()[there] > split.num_warm,
    }
    return pa.table(table | titles_of(workspace.dataset, ids))


def known_histories(split: Split) -> Sequences:
    """Return every user of a split with all that is known of them: the longest sequence, and what was to be predicted."""
    tables = [_whole(part).to_table() for part in (split.test, split.validation, split.train)]
    table = pa.concat_tables(tables)
    _, first = np.unique(table[c.USER].to_numpy(zero_copy_only=False), return_index=True)
    return Sequences.from_table(table.take(pa.array(np.sort(first))))


def _whole(part: Sequences) -> Sequences:
    """Return sequences with their targets at the end."""
    if part.targets is None:
        return part
    items = np.insert(part.items, part.offsets[1:], part.targets)
    return Sequences(part.users, part.offsets + np.arange(len(part) + 1), items)


def _given(split: Split, history: Sequence[str]) -> Sequences:
    rows = _rows(pa.array(history, pa.string()), split.item_ids, "item", "the catalogue")
    return Sequences(pa.array([""]), np.array([0, len(rows)]), (rows + 1).astype(np.int32))


def _rows(wanted: pa.Array, known: pa.Array, what: str, where: str) -> npt.NDArray[np.int64]:
    """Return the row of each id. Raises UserError for one that is not there."""
    found = pc.index_in(wanted, value_set=known)
    if found.null_count:
        missing = wanted.filter(pc.is_null(found))[0].as_py()
        raise UserError(f"{what} {missing}: is not in {where}")
    rows: npt.NDArray[np.int64] = found.to_numpy().astype(np.int64)
    return rows


def titles_of(dataset: str, ids: pa.Array) -> dict[str, pa.Array]:
    """Return the column `title` of items [n], in their order; no column where the data set has none."""
    path = storage.join(dataset, "items.parquet")
    if not storage.exists(path):
        return {}
    items = storage.read_table(path)
    if "title" not in items.column_names:
        return {}
    rows = pc.index_in(ids, value_set=items[c.ITEM].combine_chunks())
    return {"title": items["title"].combine_chunks().take(rows)}
