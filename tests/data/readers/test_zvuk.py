import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray.errors import UserError


def write(folder, seconds=(61.0, 60.0), dim=128) -> np.ndarray:
    start = datetime.datetime(2023, 3, 18, 11, 43, 57, 856000)
    table = {
        "user_id": pa.array([7, 7], pa.int32()),
        "session_id": pa.array([1, 1], pa.int32()),
        "datetime": pa.array([start, start], pa.timestamp("ms")),
        "track_id": pa.array([11, 12], pa.int32()),
        "play_duration": pa.array(seconds, pa.float32()),
    }
    pq.write_table(pa.table(table), folder / "zvuk-interactions.parquet")
    vectors = np.random.default_rng(0).normal(size=(2, dim)).astype(np.float32)
    rows = [vectors[0], vectors[0], vectors[1]]
    items = {"track_id": pa.array([11, 11, 12], pa.int32()), "artist_id": [1, 2, 3], "cluster_id": [0, 0, 1]}
    items["vector"] = pa.array([row.tolist() for row in rows], pa.list_(pa.float32()))
    pq.write_table(pa.table(items), folder / "zvuk-track_artist_embedding.parquet")
    return vectors


def test_plays_longer_than_a_minute_and_audio_vectors(tmp_path, read_source) -> None:
    vectors = write(tmp_path)
    got = read_source(tmp_path, "zvuk")
    assert [(r["user_id"], r["item_id"], r["timestamp"]) for r in got.interactions] == [
        ("7", "11", 1679139837856)
    ]
    assert got.faults.count == 0
    np.testing.assert_array_equal(got.items[0]["embedding"], vectors[0])
    assert len(got.items[2]["embedding"]) == 128


def test_a_play_without_duration_is_a_fault(tmp_path, read_source) -> None:
    write(tmp_path, (float("nan"), 90.0))
    got = read_source(tmp_path, "zvuk")
    assert got.faults.count == 1
    assert "rating: is not a number" in str(got.faults.samples[0])
    assert len(got.interactions) == 1


def test_without_interactions(tmp_path, read_source) -> None:
    (tmp_path / "other.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"zvuk-interactions\.parquet"):
        read_source(tmp_path, "zvuk")
