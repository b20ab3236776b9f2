import numpy as np
import pyarrow as pa
import pytest

from coldray.data import buckets
from coldray.data.recipe import Recipe


@pytest.fixture
def job(tmp_path):
    (tmp_path / "t.csv").write_text(
        "user_id,item_id,timestamp\n"
        + "".join(f"u{i % 5},i{i % 3},{50 - i}\n" for i in range(40))
        + "u1,i1,x\n"
    )
    recipe = Recipe(format="table", drop_consecutive_duplicates=True)
    return buckets.Job(recipe, str(tmp_path / "work"), str(tmp_path / "out"), 4, False)


def test_buckets_of_users_are_the_same_on_every_machine() -> None:
    users = pa.array(["alice", "bob", "zoé", "alice"])
    assert buckets.bucket_of(users, 16).tolist() == [7, 0, 8, 7]


def test_a_file_is_divided_sorted_and_numbered(job, tmp_path) -> None:
    report = buckets.spill(job, 0, (str(tmp_path / "t.csv"),))
    assert (report["error"], report["read"], report["kept"], report["faults"]["count"]) == (None, 41, 40, 1)
    counts = [buckets.arrange(job, bucket, None) for bucket in range(4)]
    total = buckets.add_counts(counts[0], pa.concat_tables(counts[1:]))
    assert sum(total["count"].to_pylist()) == 40
    finished = [buckets.finish(job, bucket) for bucket in range(4)]
    assert sum(part["users"] for part in finished) == 5
    parts = sorted((tmp_path / "out" / "interactions").iterdir())
    for path in parts:
        table = pa.parquet.read_table(path)
        for user in set(table["user_id"].to_pylist()):
            rows = [row for row in table.to_pylist() if row["user_id"] == user]
            assert [row["position"] for row in rows] == list(range(8))
            assert [row["timestamp"] for row in rows] == sorted(row["timestamp"] for row in rows)


def test_repeats_in_a_row_are_one_but_targets_stay() -> None:
    table = pa.table(
        {
            "user_id": ["a", "a", "a", "b", "b"],
            "item_id": ["x", "x", "y", "y", "y"],
            "part": ["test", "test", "test", "test", "target"],
        }
    )
    assert buckets._repeated(table).tolist() == [False, True, False, False, False]


def test_ties_keep_the_order_of_the_source() -> None:
    table = pa.table(
        {"user_id": ["b", "a", "b", "a"], "timestamp": [1, 1, 1, 0], "position": [3, 2, 1, 4]},
    )
    assert buckets._order(table).tolist() == [3, 1, 2, 0]


def test_sampling_draws_by_seed(job, tmp_path) -> None:
    buckets.spill(job, 0, (str(tmp_path / "t.csv"),))
    draws = {seed: [buckets._draw(seed, f"u{i}") for i in range(5)] for seed in (1, 2)}
    assert np.argsort(draws[1]).tolist() != np.argsort(draws[2]).tolist()
    assert len({*draws[1], *draws[2]}) == 10
