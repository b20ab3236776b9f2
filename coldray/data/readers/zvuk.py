"""Zvuk: zvuk-interactions.parquet, and zvuk-track_artist_embedding.parquet with an audio vector a track.

The rating of an interaction is the play's duration in seconds; its timestamp is in milliseconds since 1970. A
track of several artists has several rows with the same vector.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from coldray.data import columns as c
from coldray.data.readers.base import Batch, Files, Reader, Unit, basename, require_columns, units
from coldray.data.readers.table import parquet_batches
from coldray.data.recipe import Recipe
from coldray.errors import UserError

NAMES = {"user_id": c.USER, "track_id": c.ITEM, "datetime": c.TIME, "play_duration": c.RATING}
FIX = "name the published Parquet files"


def _find(names: list[str]) -> Files:
    parquet = [name for name in names if basename(name).endswith(".parquet")]
    items = [name for name in parquet if "embedding" in basename(name)]
    interactions = [name for name in parquet if "interactions" in basename(name)]
    if not interactions:
        raise UserError("has no zvuk-interactions.parquet; name the folder or file that has it")
    return Files(units(interactions), units(items))


def _interactions(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    for batch in parquet_batches(unit[0], list(NAMES)):
        require_columns(unit[0], list(NAMES), batch.table.column_names, FIX)
        table = batch.table.select(list(NAMES)).rename_columns(list(NAMES.values()))
        yield Batch(table, batch.rows, batch.order, batch.faults)


def _items(unit: Unit, recipe: Recipe) -> Iterator[Batch]:
    for batch in parquet_batches(unit[0]):
        table = batch.table
        require_columns(unit[0], ["track_id", "vector"], table.column_names, FIX)
        lengths = pc.unique(pc.list_value_length(table["vector"])).to_pylist()
        if len(lengths) != 1 or lengths[0] is None:
            row = batch.rows[0]
            raise UserError(
                f"{unit[0]}: row {row}: vector: is not of one length from there on; fetch the file again"
            )
        vectors = table["vector"].cast(pa.list_(pa.float32(), lengths[0]))
        others = [name for name in table.column_names if name not in ("track_id", "vector")]
        data = {c.ITEM: table["track_id"], **{name: table[name] for name in others}, c.EMBEDDING: vectors}
        yield Batch(pa.table(data), batch.rows, batch.order, batch.faults)


READER = Reader(_find, _interactions, _items, repeated_items=True)
