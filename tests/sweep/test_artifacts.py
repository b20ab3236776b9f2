"""The checked reading of each file: what is not exactly as it should be is refused with the reason."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray.sweep import artifacts as a
from coldray.sweep.artifacts import InvalidRunError
from coldray.transfer import TransferSettings


@pytest.fixture
def folder(make_sweep, tmp_path):
    sweep = make_sweep(users=50)
    sweep.write(sweep.sweep["cells"][3], "ab" * 16, tmp_path)
    return tmp_path


def test_gains_by_hand():
    ranks = np.array([1, 2, 10, 11, 0], np.int32)
    assert a.user_gains(ranks, "cold_Recall@10").tolist() == [1, 1, 1, 0, 0]
    assert a.user_gains(ranks, "NDCG@10") == pytest.approx([1, 1 / np.log2(3), 1 / np.log2(11), 0, 0])


def test_files_as_they_are_written(folder):
    values = a.read_evaluation(folder / a.EVALUATION)
    test, ranks = a.read_ranks(folder / a.RANKS)
    assert set(values) == set(a.PROTOCOLS)
    assert values[a.HEADLINE]["users"] == len(test) == 50
    assert test.users.to_pylist() == sorted(test.users.to_pylist())
    recall = a.user_gains(ranks["rank_all_kept"], "Recall@10").mean()
    assert recall == pytest.approx(values[a.HEADLINE]["Recall@10"])
    assert a.read_transfer(folder / a.TRANSFER).gates.shape == (40,)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("NDCG@10", "nDCG@10", "has no column NDCG@10"),
        ("True,False,", "True,True,", "two rows for the setting all items"),
        ("True,False,", "yes,False,", "not True or False"),
        (",50,", ",fifty,", "users is 'fifty', not a number"),
    ],
)
def test_a_csv_that_is_not_right(folder, old, new, reason):
    path = folder / a.EVALUATION
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).decode().replace(old, new, 1).encode()))
    with pytest.raises(InvalidRunError, match=reason):
        a.read_evaluation(path)


def test_a_csv_with_a_row_too_few(folder):
    path = folder / a.EVALUATION
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))
    with pytest.raises(InvalidRunError, match="has 3 rows, not one for each of the 4 settings"):
        a.read_evaluation(path)


@pytest.mark.parametrize(
    "data",
    [b"not gzip", gzip.compress(b"x" * 1000)[:-9], gzip.compress(b"\xff\xfe")],
    ids=["no archive", "cut short", "no text"],
)
def test_a_csv_that_is_damaged(tmp_path, data):
    (tmp_path / a.EVALUATION).write_bytes(data)
    with pytest.raises(InvalidRunError, match="cannot be read"):
        a.read_evaluation(tmp_path / a.EVALUATION)


def test_a_small_file_that_unpacks_to_a_large_one_is_read_only_so_far(tmp_path):
    (tmp_path / a.EVALUATION).write_bytes(gzip.compress(b"0" * (64 << 20)))
    with pytest.raises(InvalidRunError):
        a.read_evaluation(tmp_path / a.EVALUATION)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("rank_all_kept", pa.array([-1] * 50), "negative rank"),
        ("rank_all_kept", pa.array([1.5] * 50), "holds no integers"),
        ("target", pa.array([None] * 50, pa.int32()), "has empty places"),
        ("user_id", pa.array(["same"] * 50), "a user has two rows"),
    ],
)
def test_ranks_that_are_not_right(folder, column, values, reason):
    path = folder / a.RANKS
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(column), column, values), path)
    with pytest.raises(InvalidRunError, match=reason):
        a.read_ranks(path)


def test_ranks_without_a_column(folder):
    path = folder / a.RANKS
    pq.write_table(pq.read_table(path).drop(["cold"]), path)
    with pytest.raises(InvalidRunError, match="has no column cold"):
        a.read_ranks(path)


def test_cold_items_are_told_once_with_cosines(tmp_path):
    good = {"item_id": ["x", "y"], "item": [1, 2], "gate": [0.5, 1.0], "max_similarity": [0.5, -0.5]}
    for change, told in (
        ({"item": [1, 1]}, "has an item twice"),
        ({"max_similarity": [0.5, -1.5]}, "a max_similarity is not between -1 and 1"),
        ({"max_similarity": [1, 1]}, "max_similarity holds no floating point numbers"),
    ):
        pq.write_table(pa.table(good | change), tmp_path / a.TRANSFER)
        with pytest.raises(InvalidRunError, match=told):
            a.read_transfer(tmp_path / a.TRANSFER)
    pq.write_table(pa.table(good), tmp_path / a.TRANSFER)
    assert a.read_transfer(tmp_path / a.TRANSFER).similarities.tolist() == [0.5, -0.5]


@pytest.mark.parametrize("gate", [1.5, -0.1, float("nan")])
def test_gates_outside_their_range(tmp_path, gate):
    table = pa.table({"item_id": ["x"], "item": [1], "gate": [gate], "max_similarity": [0.5]})
    pq.write_table(table, tmp_path / a.TRANSFER)
    with pytest.raises(InvalidRunError, match="not between 0 and 1"):
        a.read_transfer(tmp_path / a.TRANSFER)


@pytest.mark.parametrize("data", [b"{", b"[" * 100_000, b"[]", b'{"format": 1}', b"\xff"])
def test_json_that_is_not_right(data):
    with pytest.raises(InvalidRunError, match=r"^sweep\.json: "):
        a.read_spec(data, a.SweepSpec, a.SWEEP)


def test_a_transfer_that_is_none_is_refused_and_one_that_is_gets_whole():
    verdict = {
        "max_delta_norm": 0.5,
        "before": [0.1, 0.2],
        "after": [0.2, 0.2],
        "exposed": 0.1,
        "p": [0, 1, 0],
    }
    verdict |= {"helps": True, "hurts": False}
    for wrong in ({"gate": {"kind": "maxsim_sigmoid", "tau": "high"}}, {"also": ["x"]}, {"space": "a/b"}):
        with pytest.raises(InvalidRunError, match="transfer"):
            a.read_spec(json.dumps(verdict | {"transfer": wrong}).encode(), a.VerdictSpec, "selection.json")
    read = a.read_spec(json.dumps(verdict | {"transfer": {"k": 3}}).encode(), a.VerdictSpec, "selection.json")
    assert read.transfer == TransferSettings(k=3).model_dump(mode="json")


def test_names_that_could_do_harm_are_no_methods(make_sweep):
    sweep = make_sweep().sweep
    sweep["cells"][0]["method"] = "../<script>"
    with pytest.raises(ValueError, match="method"):
        a.SweepSpec.model_validate(sweep)
