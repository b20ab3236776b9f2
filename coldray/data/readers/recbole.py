"""RecBole's atomic files: NAME.inter and NAME.item, tab separated, with a header of name:type."""

from collections.abc import Iterator

from coldray.data.readers.base import Batch, Files, Reader, Unit, basename, units
from coldray.data.readers.table import select_interactions, with_item_id
from coldray.data.readers.text import csv_batches
from coldray.data.recipe import Recipe
from coldray.errors import UserError

TYPES = ("token", "token_seq", "float", "float_seq")


def _find(names: list[str]) -> Files:
    interactions = [name for name in names if basename(name).endswith(".inter")]
    if not interactions:
        raise UserError("has no NAME.inter; name a folder of atomic files, or a .inter file")
    return Files(units(interactions), units([name for name in names if basename(name).endswith(".item")]))


def _batches(uri: str) -> Iterator[Batch]:
    """Yield an atomic file with the types taken off its column names."""
    for batch in csv_batches(uri, "\t", quoted=False):
        header = batch.table.column_names
        for name in header:
            if name.rpartition(":")[2] not in TYPES:
                raise UserError(
                    f"{uri}: row 1: {name}: has no type; write name:type, one of {', '.join(TYPES)}"
                )
        table = batch.table.rename_columns([name.rpartition(":")[0] for name in header])
        yield Batch(table, batch.rows, batch.order, batch.faults)


def _interactions(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    for batch in _batches(unit[0]):
        yield select_interactions(batch, unit[0], recipe)


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    for batch in _batches(unit[0]):
        yield with_item_id(batch, unit[0], recipe)


READER = Reader(_find, _interactions, _items)
