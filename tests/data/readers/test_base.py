import pytest

from coldray.data.readers.base import MAX_SAMPLES, Fault, Faults, list_files, to_batch
from coldray.errors import UserError


def test_faults_keep_the_first_samples_and_count_all() -> None:
    faults, more = Faults(), Faults()
    for row in range(7):
        faults.add(Fault("f", row, "x", "y"))
        more.add(Fault("g", row, "x", "y"))
    faults.extend(more)
    assert faults.count == 14
    assert len(faults.samples) == MAX_SAMPLES
    assert faults.samples[7].file == "g"


def test_mixed_types_become_text() -> None:
    batch = to_batch({"id": ["a", "b"], "rating": [1.5, "five"]}, [1, 2], "f", Faults())
    assert batch.table["rating"].to_pylist() == ["1.5", "five"]


def test_lone_surrogates_leave_their_row_out() -> None:
    batch = to_batch({"id": ["a", "b"], "title": ["\ud83d", "fine"]}, [1, 2], "f", Faults())
    assert batch.table.to_pylist() == [{"id": "b", "title": "fine"}]
    assert batch.rows.tolist() == [2]
    assert str(batch.faults.samples[0]).startswith("f: row 1: title: is not UTF-8")


def test_list_files(tmp_path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.csv").touch()
    (tmp_path / "a.csv").touch()
    assert list_files(str(tmp_path)) == (str(tmp_path), ["a.csv", "b/x.csv"])
    assert list_files(str(tmp_path / "a.csv")) == (str(tmp_path), ["a.csv"])
    assert list_files(f"file://{tmp_path}")[1] == ["a.csv", "b/x.csv"]
    with pytest.raises(UserError, match="no such file or folder"):
        list_files(str(tmp_path / "none"))
