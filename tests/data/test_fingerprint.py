import pyarrow as pa
import pytest

from coldray.data.fingerprint import combined, table_digest

TABLE = pa.table(
    {
        "id": ["a", "bc", None, "d"],
        "n": [1, 2, 3, None],
        "x": [0.5, None, 1.5, 2.5],
        "tags": [[1], [], None, [2, 3]],
        "s": [{"k": "v"}, None, {"k": "w"}, {"k": None}],
        "none": pa.nulls(4),
    }
)


def test_chunks_and_slices_do_not_count() -> None:
    whole = table_digest(TABLE)
    assert table_digest(pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1)])) == whole
    assert table_digest(pa.concat_tables([TABLE, TABLE]).slice(4)) == whole


def test_large_types_and_garbage_under_nulls_do_not_count() -> None:
    one = pa.table(
        {"x": pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x01"), pa.array([1, 9]).buffers()[1]])}
    )
    assert table_digest(one) == table_digest(pa.table({"x": [1, None]}))
    assert table_digest(pa.table({"s": pa.array(["a"], pa.large_string())})) == table_digest(
        pa.table({"s": ["a"]})
    )


@pytest.mark.parametrize(
    "other",
    [
        TABLE.take([1, 0, 2, 3]),
        TABLE.rename_columns(["id2", "n", "x", "tags", "s", "none"]),
        TABLE.set_column(0, "id", pa.array(["ab", "c", None, "d"])),
        TABLE.set_column(1, "n", pa.array([1, 2, 3, 0])),
        TABLE.set_column(3, "tags", pa.array([[1], [2], None, [3]])),
    ],
)
def test_every_difference_counts(other) -> None:
    assert table_digest(other) != table_digest(TABLE)


def test_combined_is_stable() -> None:
    assert combined(["a"], items="b", recipe={"x": 1}) == combined(["a"], recipe={"x": 1}, items="b")
    assert combined(["a", "b"]) != combined(["b", "a"])


def test_it_is_the_same_everywhere() -> None:
    table = pa.table({"user_id": ["é", "b"], "n": [1, None]})
    assert table_digest(table)[:16] == "aa9059955f36dec1"
