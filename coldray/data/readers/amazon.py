"""What the Amazon Reviews collections have in common: a file of reviews and one of metadata a category."""

import operator
from collections.abc import Callable, Iterator
from typing import Any

from coldray.data import columns as c
from coldray.data.readers.base import Batch, Files, Unit, basename, units
from coldray.data.readers.text import flat, record_batches
from coldray.data.recipe import Recipe
from coldray.errors import UserError

Take = Callable[[dict[str, Any]], Any]


def find(names: list[str]) -> Files:
    """Return the review files, and the metadata files: those named meta_*."""
    lines = [name for name in names if basename(name).endswith((".json", ".jsonl"))]
    items = [name for name in lines if basename(name).startswith("meta_")]
    reviews = [name for name in lines if name not in items]
    if not reviews:
        raise UserError(
            "has no review files (*.json, *.jsonl, .gz or not); name the folder or file that has them"
        )
    return Files(units(reviews), units(items))


def reviews(user: str, item: str, rating: str, time: str) -> Callable[[Unit, Recipe], Iterator[Batch]]:
    """Return a reader of review lines, given the published names of the four fields."""
    names = {c.USER: user, c.ITEM: item, c.RATING: rating, c.TIME: time}
    fields: dict[str, Take] = {column: _get(name) for column, name in names.items()}

    def read(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
        return record_batches(unit[0], fields)

    return read


def _get(name: str) -> Take:
    return operator.methodcaller("get", name)


def text_fields(item: str, names: tuple[str, ...]) -> dict[str, Take]:
    """Return the fields of metadata lines: the item's id, and text by its published name."""
    return {c.ITEM: _get(item)} | {name: _get_flat(name) for name in names}


def _get_flat(name: str) -> Take:
    return lambda record: flat(record.get(name))
