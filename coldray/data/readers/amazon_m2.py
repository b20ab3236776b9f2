"""Amazon-M2 (KDD Cup 2023): products_train.csv, sessions_train.csv, the phase-1 tests of tasks 1 and 2.

A session is a user, named by its file and line. The ground truth of sessions_test_taskN_phase1.csv, row by
row, is `next_item` of gt_taskN_phase1.csv or of ground_truth/phase1/gt_taskN.csv; it becomes the session's
last item. The column `part` says "train" or "test" of every interaction, and "target" of the items from the
ground truth.
"""

import re
from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coldray.data import columns as c
from coldray.data.readers.base import Batch, Fault, Files, Reader, Unit, basename, require_columns
from coldray.data.readers.text import csv_batches
from coldray.data.recipe import Recipe
from coldray.errors import UserError

TEXTS = ("title", "brand", "color", "size", "model", "material", "author", "price", "desc")
TEST = re.compile(r"sessions_test_(task[12])_(phase1)\w*\.csv")
PREVIOUS = re.compile(r"'([^']+)'|\"([^\"]+)\"")
LAYOUT = "name a folder with the published files"


def _find(names: list[str]) -> Files:
    by_name = {basename(name): name for name in names}
    for wanted in ("sessions_train.csv", "products_train.csv"):
        if wanted not in by_name:
            raise UserError(f"has no {wanted}; {LAYOUT}")
    interactions: list[Unit] = [(by_name["sessions_train.csv"],)]
    for name in names:
        if match := TEST.fullmatch(basename(name)):
            interactions.append((name, _truth(names, *match.groups())))
    return Files(interactions, [(by_name["products_train.csv"],)])


def _truth(names: list[str], task: str, phase: str) -> str:
    for name in names:
        nested = f"{phase}/" in name and basename(name) == f"gt_{task}.csv"
        if nested or basename(name) == f"gt_{task}_{phase}.csv":
            return name
    raise UserError(f"has no gt_{task}_{phase}.csv, the ground truth of the {phase} test; {LAYOUT}")


def _interactions(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    wanted = ["prev_items", "locale"] if len(unit) == 2 else ["prev_items", "next_item", "locale"]
    for sessions, truth in _with_truth(unit):
        require_columns(unit[0], wanted, sessions.table.column_names, LAYOUT)
        yield _explode(sessions, truth, len(unit) == 1, unit[0], recipe)


def _with_truth(unit: Unit) -> Iterator[tuple[Batch, pa.Table]]:
    """Yield batches of sessions, each with the table of its `next_item`: its own or the ground truth's."""
    if len(unit) == 1:
        yield from ((batch, batch.table) for batch in csv_batches(unit[0]))
        return
    for sessions, truth in zip_longest(csv_batches(unit[0]), csv_batches(unit[1])):
        for batch, file in ((sessions, unit[0]), (truth, unit[1])):
            if batch is not None and batch.faults.count:
                raise UserError(f"{batch.faults.samples[0]}; a test file and its ground truth go row by row")
            if batch is None or len(sessions.rows) != len(truth.rows):
                raise UserError(f"{file}: has not as many rows as the file it goes with; fetch both again")
        require_columns(unit[1], ["next_item"], truth.table.column_names, LAYOUT)
        yield sessions, truth.table


def _explode(sessions: Batch, truth: pa.Table, train: bool, file: str, recipe: Recipe) -> Batch:
    """Return a batch of sessions as one row an item."""
    table, rows, faults = sessions.table, sessions.rows, sessions.faults
    if recipe.locale is not None:
        mask = pc.equal(table["locale"], recipe.locale)
        table, truth, rows = table.filter(mask), truth.filter(mask), rows[mask.to_numpy()]
    items, parts, counts = list[str](), list[str](), list[int]()
    first, last = ("train", "train") if train else ("test", "target")
    pairs = zip(table["prev_items"].to_pylist(), truth["next_item"].to_pylist(), strict=True)
    for row, (text, target) in zip(rows.tolist(), pairs, strict=True):
        previous = [single or double for single, double in PREVIOUS.findall(text)]
        if not previous or not target:
            name, value = ("next_item", target) if previous else ("prev_items", text)
            faults.add(Fault(file, row, name, f"names no item (is {value!r:.60}); correct or remove the row"))
            counts.append(0)
            continue
        items += [*previous, target]
        parts += [first] * len(previous) + [last]
        counts.append(len(previous) + 1)
    sizes = np.array(counts, dtype=np.int64)
    repeated = np.repeat(rows, sizes)
    name = basename(file).removesuffix(".csv")
    users = pc.binary_join_element_wise(name, pa.array(repeated).cast(pa.string()), ":")
    within = np.arange(len(repeated)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    data = {c.USER: users, c.ITEM: pa.array(items, pa.string()), c.PART: pa.array(parts, pa.string())}
    return Batch(pa.table(data), repeated, (repeated << 20) + within, faults)


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    for batch in csv_batches(unit[0]):
        require_columns(unit[0], ["id", "locale", "title"], batch.table.column_names, LAYOUT)
        table, rows = batch.table, batch.rows
        if recipe.locale is not None:
            mask = pc.equal(table["locale"], recipe.locale)
            table, rows = table.filter(mask), rows[mask.to_numpy()]
        present = [name for name in TEXTS if name in table.column_names]
        yield Batch(
            table.select(["id", *present]).rename_columns([c.ITEM, *present]), rows, rows, batch.faults
        )


READER = Reader(_find, _interactions, _items, repeated_items=True)  # one product is sold in several shops
