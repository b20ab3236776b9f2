"""Rows as published to typed, checked columns; what does not fit is a fault with file, row, field and fix."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coldray.data import columns as c
from coldray.data.readers.base import Batch, Fault, Faults
from coldray.errors import UserError

SCHEMA = pa.schema(
    {
        c.USER: pa.string(),
        c.ITEM: pa.string(),
        c.TIME: pa.int64(),
        c.POSITION: pa.int64(),
        c.RATING: pa.float64(),
        c.PART: pa.string(),
    }
)
Mask = npt.NDArray[np.bool_]


def check_interactions(
    batch: Batch, file: str, first: int, threshold: float | None
) -> tuple[pa.Table, Faults]:
    """Return the sound rows with the columns of SCHEMA, those at or below the rating `threshold` left out.

    A position that the source does not give is the row's rank in the source, `first` being the file's own.
    """
    table, faults = batch.table, batch.faults
    has = table.column_names
    good = np.ones(table.num_rows, dtype=bool)
    check = _Checker(file, batch.rows, good, faults)
    data = {
        c.USER: check.ids(table[c.USER], c.USER),
        c.ITEM: check.ids(table[c.ITEM], c.ITEM),
        c.TIME: _nulls(table, pa.int64()),
        c.POSITION: pa.array(first + batch.order),
        c.RATING: _nulls(table, pa.float64()),
        c.PART: table[c.PART] if c.PART in has else _nulls(table, pa.string()),
    }
    if c.TIME in has:
        data[c.TIME] = check.whole(table[c.TIME], c.TIME)
    if c.POSITION in has:
        data[c.POSITION] = check.whole(table[c.POSITION], c.POSITION)
    if c.RATING in has:
        data[c.RATING] = check.numbers(table[c.RATING], c.RATING)
        if threshold is not None:
            good &= pc.fill_null(pc.greater(data[c.RATING], threshold), False).to_numpy(zero_copy_only=False)
    return pa.table(data).cast(SCHEMA).filter(pa.array(good)), faults


def check_items(batch: Batch, file: str) -> tuple[pa.Table, Faults]:
    """Return the rows of items that have an id, as text, and what else is in the table as it is."""
    good = np.ones(batch.table.num_rows, dtype=bool)
    check = _Checker(file, batch.rows, good, batch.faults)
    ids = check.ids(batch.table[c.ITEM], c.ITEM)
    place = batch.table.column_names.index(c.ITEM)
    table = batch.table.set_column(place, c.ITEM, ids)
    return table.filter(pa.array(good)), batch.faults


def _nulls(table: pa.Table, kind: pa.DataType) -> pa.Array:
    return pa.nulls(table.num_rows, kind)


class _Checker:
    """Checks the columns of one batch; `good` is narrowed to the rows that pass, the rest become faults."""

    def __init__(self, file: str, rows: npt.NDArray[np.int64], good: Mask, faults: Faults) -> None:
        self.file, self.rows, self.good, self.faults = file, rows, good, faults

    def reject(self, bad: Mask, field: str, values: pa.Array, reason: str) -> None:
        """Make a fault of each row of `bad` that has none yet."""
        new = bad & self.good
        self.good &= ~bad
        for i in np.flatnonzero(new)[:10].tolist():
            value = values[i].as_py()
            self.faults.add(Fault(self.file, int(self.rows[i]), field, f"{reason} (is {value!r:.60})"))
        self.faults.count += max(0, int(new.sum()) - 10)

    def ids(self, column: pa.ChunkedArray, field: str) -> pa.Array:
        """Return ids as text; raises UserError if the column cannot hold ids."""
        column = _plain(column)
        if pa.types.is_floating(column.type) or pa.types.is_nested(column.type):
            raise UserError(
                f"{self.file}: row 1: {field}: is of type {column.type}; write ids as text or integers"
            )
        texts = _as_text(column)
        empty = pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True).to_numpy(
            zero_copy_only=False
        )
        self.reject(empty, field, column, "is missing; correct or remove the row")
        return texts

    def numbers(self, column: pa.ChunkedArray, field: str) -> pa.Array:
        """Return float64; what is no finite number is a fault."""
        column = _plain(column)
        values = _to_float(column)
        finite = pc.fill_null(pc.is_finite(values), False).to_numpy(zero_copy_only=False)
        self.reject(~finite, field, column, "is not a number; correct or remove the row")
        return values

    def whole(self, column: pa.ChunkedArray, field: str) -> pa.Array:
        """Return int64, times in their own unit; what is no number from 0 on is a fault."""
        column = _plain(column)
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
        reason = (
            "is not a number from 0 on; give seconds since 1970"
            if field == c.TIME
            else "is not a number from 0 on"
        )
        exact = column if pa.types.is_integer(column.type) else _to_integer(column)
        if exact is None:
            values = _to_float(column)
            sound = pc.fill_null(pc.and_(pc.is_finite(values), pc.less(pc.abs(values), 2.0**62)), False)
            exact = pc.floor(pc.if_else(sound, values, -1.0)).cast(pa.int64())
        bad = pc.fill_null(pc.less(exact, 0), True).to_numpy(zero_copy_only=False)
        self.reject(bad, field, column, reason)
        return exact


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _as_text(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _to_integer(column: pa.Array) -> pa.Array | None:
    """Return text as int64, or None if some of it is no whole number; floats would round the large ones."""
    if not pa.types.is_string(column.type):
        return None
    try:
        return pc.utf8_trim_whitespace(column).cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _to_float(column: pa.Array) -> pa.Array:
    """Return float64, null where the text is no number."""
    if pa.types.is_null(column.type):
        return column.cast(pa.float64())
    if not pa.types.is_string(column.type):
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            column = column.cast(pa.string())
        else:
            return column.cast(pa.float64(), safe=False)
    try:
        return pc.utf8_trim_whitespace(column).cast(pa.float64())
    except pa.ArrowInvalid:
        return pa.array([_float(text) for text in column.to_pylist()], pa.float64())


def _float(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
