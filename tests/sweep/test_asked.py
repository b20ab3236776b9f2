import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.sweep import artifacts as a
from coldray.sweep.asked import check_asked, check_search

TEST = a.TestUsers(
    pa.array(["u1", "u2"]), np.array([7, 8], np.int32), np.array([True, True]), np.array([0, 0], np.int64)
)
RANKS = np.array([2, 0], np.int32)
METRICS = {"hallucination_rate": 0.25}


def table(**changes):
    lists = pa.list_(pa.string())
    columns = {
        "user_id": ["u1", "u2"],
        "target": ["T7", "T8"],
        "history": pa.array([["a"], []], lists),
        "items": pa.array([[3, 7], [5]], pa.list_(pa.int32())),
        "titles": pa.array([["T3", "T7"], ["T5"]], lists),
        "evidence": pa.array([[], []], lists),
        "written": pa.array([["T3", "T7", "x"], ["T5"]], lists),
        "unknown": [1, 0],
        "seconds": [0.5, 0.5],
        "calls": [1, 1],
        "prompt_tokens": [10, 20],
        "completion_tokens": [3, 5],
    }
    return pa.table(columns | changes)


def test_what_a_run_recommended_is_read_and_borne_out(tmp_path):
    pq.write_table(table(), tmp_path / a.RECOMMENDED)
    asked = check_asked(tmp_path, METRICS, TEST, RANKS)
    assert (asked.written, asked.unknown) == (4, 1)
    assert asked.per_user("prompt_tokens") == 15
    assert asked.graph is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"items": pa.array([[7, 3], [5]], pa.list_(pa.int32()))}, "is not the place of the user's target"),
        ({"items": pa.array([[7, 7], [5]], pa.list_(pa.int32()))}, "one twice"),
        ({"user_id": ["u1", "u3"]}, "its users are not those"),
        ({"titles": ["x", "y"]}, "holds no lists"),
        ({"unknown": [2, 0]}, "hallucination_rate is 0.25"),
        ({"unknown": pa.array([None, 0], pa.int64())}, "has empty places"),
    ],
)
def test_what_does_not_bear_out_the_run_is_refused(tmp_path, changes, why):
    pq.write_table(table(**changes), tmp_path / a.RECOMMENDED)
    with pytest.raises(a.InvalidRunError, match=why):
        check_asked(tmp_path, METRICS, TEST, RANKS)


def test_a_graph_and_a_search_that_are_none_are_refused(tmp_path):
    with pytest.raises(a.InvalidRunError, match=r"recommended.parquet is missing"):
        check_asked(tmp_path, METRICS, TEST, RANKS)
    pq.write_table(table(), tmp_path / a.RECOMMENDED)
    storage.write_json(str(tmp_path / a.GRAPH), {"entities": "many"})
    with pytest.raises(a.InvalidRunError, match=r"graph.json"):
        check_asked(tmp_path, METRICS, TEST, RANKS)
    with pytest.raises(a.InvalidRunError, match=r"search.json is missing"):
        check_search(tmp_path)
    storage.write_json(str(tmp_path / a.SEARCH), {"method": "tdro", "users": 1, "chosen": {}, "tried": []})
    with pytest.raises(a.InvalidRunError, match=r"search.json: tried"):
        check_search(tmp_path)
