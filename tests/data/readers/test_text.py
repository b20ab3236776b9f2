import gzip

import pytest

from coldray.data.readers import text
from coldray.data.readers.base import BATCH_ROWS
from coldray.errors import UserError


def test_quoted_line_breaks_keep_row_numbers(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('a,b\n"one\ntwo",2\n3\n4,5\n')
    (batch,) = text.csv_batches(str(path))
    assert batch.table.to_pylist() == [{"a": "one\ntwo", "b": "2"}, {"a": "4", "b": "5"}]
    assert batch.rows.tolist() == [2, 5]
    assert [str(fault) for fault in batch.faults.samples] == [
        f"{path}: row 4: line: has 1 fields where 2 belong; correct or remove it"
    ]


def test_bytes_that_are_not_utf8_are_a_fault(tmp_path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,x\n2,caf\xe9\n3,y\n"))
    (batch,) = text.csv_batches(str(path))
    assert batch.table["a"].to_pylist() == ["1", "3"]
    assert (batch.faults.count, batch.faults.samples[0].row, batch.faults.samples[0].field) == (1, 3, "b")


def test_large_files_come_in_batches_with_a_fault_counted_once(tmp_path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("a\tb\n" + "1\t2\n" * (BATCH_ROWS + 5) + "1\n")
    batches = list(text.csv_batches(str(path), "\t"))
    assert [len(batch.rows) for batch in batches] == [BATCH_ROWS, 5]
    assert [batch.faults.count for batch in batches] == [0, 1]
    assert batches[1].rows[0] == BATCH_ROWS + 2


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(text.csv_batches(str(tmp_path / "none.csv")))


def test_flat() -> None:
    assert text.flat([["a", "b"], [], "c", None, " "]) == "a; b; c"
    assert text.flat({"k": 1, "none": None}) == "k: 1"
    assert text.flat([]) is None
    assert text.flat(2.5) == "2.5"
