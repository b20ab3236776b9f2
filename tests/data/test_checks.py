import numpy as np
import pyarrow as pa
import pytest

from coldray.data.checks import SCHEMA, check_interactions, check_items
from coldray.data.readers.base import Batch, Faults

BIG = 2**60 + 1


def batch(**columns) -> Batch:
    table = pa.table(columns)
    rows = np.arange(10, 10 + table.num_rows)
    return Batch(table, rows, rows, Faults())


@pytest.mark.parametrize(
    ("field", "values", "good"),
    [
        ("user_id", ["a", "", None, " "], [0]),
        ("item_id", [1, None, 3, 4], [0, 2, 3]),
        ("timestamp", ["5", "-1", "nan", "x"], [0]),
        ("timestamp", [5.0, float("nan"), -0.5, float("inf")], [0]),
        ("timestamp", [5, None, -3, BIG], [0, 3]),
        ("rating", ["4.5", "", "inf", " 2 "], [0, 3]),
    ],
)
def test_each_bad_value_is_a_fault_of_its_row(field, values, good) -> None:
    columns = {"user_id": list("abcd"), "item_id": list("wxyz"), field: values}
    table, faults = check_interactions(batch(**columns), "f.csv", 0, None)
    assert table.schema == SCHEMA
    assert table["position"].to_pylist() == [10 + i for i in good]
    assert faults.count == 4 - len(good)
    assert [fault.row for fault in faults.samples] == [10 + i for i in range(4) if i not in good]
    assert {fault.field for fault in faults.samples} == {field}


def test_large_times_stay_exact() -> None:
    for values in ([BIG], [str(BIG)]):
        table, _ = check_interactions(batch(user_id=["a"], item_id=["b"], timestamp=values), "f", 0, None)
        assert table["timestamp"].to_pylist() == [BIG]


def test_a_row_with_two_bad_fields_is_one_fault_and_all_are_counted() -> None:
    columns = {"user_id": [""] * 50, "item_id": ["x"] * 50, "timestamp": [-1] * 50}
    table, faults = check_interactions(batch(**columns), "f", 0, None)
    assert (table.num_rows, faults.count, len(faults.samples)) == (0, 50, 10)
    assert "\n" not in str(faults.samples[0])


def test_the_threshold_is_exceeded_not_reached() -> None:
    table, faults = check_interactions(
        batch(user_id=list("abc"), item_id=list("abc"), rating=[3.0, 3.5, 1.0]), "f", 100, 3.0
    )
    assert table["user_id"].to_pylist() == ["b"]
    assert table["position"].to_pylist() == [111]
    assert faults.count == 0


def test_items_keep_their_columns() -> None:
    table, faults = check_items(batch(title=["t", "u"], item_id=[7, None], tags=[[1], [2]]), "f")
    assert table.to_pylist() == [{"title": "t", "item_id": "7", "tags": [1]}]
    assert faults.count == 1
