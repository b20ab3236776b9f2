"""Given vectors: what is taken over, and what is refused with file and row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.encode.embeddings import load_embeddings
from coldray.encode.vectors import import_vectors
from coldray.errors import UserError

VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    folder = tmp_path / "data"
    storage.write_json(folder / "manifest.json", {"format": 1, "fingerprint": "f"})
    storage.write_table(folder / "items.parquet", pa.table({"item_id": ["a", "b"]}))
    return str(folder)


def parquet(tmp_path: Path, ids: list[str | None], vectors: object, column: str = "embedding") -> str:
    path = tmp_path / "vectors.parquet"
    pq.write_table(pa.table({"item_id": ids, column: vectors}), path)
    return str(path)


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.float64()), pa.list_(pa.float32(), 2), pa.large_list(pa.float16()), pa.list_(pa.int32())],
)
def test_parquet_lists_of_any_kind(tmp_path: Path, dataset: str, kind: pa.DataType) -> None:
    source = parquet(tmp_path, ["b", "other", "a"], pa.array(VECTORS, pa.list_(pa.float64())).cast(kind), "v")
    manifest, done = import_vectors(dataset, "given", source, "v")
    assert done
    assert (manifest["count"], manifest["dim"]) == (2, 2)
    assert load_embeddings(dataset, "given", pa.array(["a", "b"])).tolist() == [[5, 6], [1, 2]]


def test_npy_with_ids(tmp_path: Path, dataset: str) -> None:
    np.save(tmp_path / "v.npy", np.array(VECTORS))
    (tmp_path / "ids.txt").write_text("a\nother\nb\n")
    import_vectors(dataset, "given", str(tmp_path / "v.npy"), ids=str(tmp_path / "ids.txt"))
    assert load_embeddings(dataset, "given", pa.array(["a", "b"])).tolist() == [[1, 2], [5, 6]]


def test_done_once_and_again_when_the_file_changes(tmp_path: Path, dataset: str) -> None:
    source = parquet(tmp_path, ["a", "b"], VECTORS[:2])
    first, done = import_vectors(dataset, "given", source)
    assert done
    assert import_vectors(dataset, "given", source) == (first, False)
    source = parquet(tmp_path, ["a", "b"], VECTORS[1:])
    second, done = import_vectors(dataset, "given", source)
    assert done
    assert second["fingerprint"] != first["fingerprint"]
    assert load_embeddings(dataset, "given", pa.array(["a"])).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("ids", "vectors", "message"),
    [
        (["a", "b", "a"], VECTORS, r"vectors.parquet: row 2, item_id: 'a' occurs twice"),
        (["a", None, "b"], VECTORS, r"vectors.parquet: row 1, item_id: is empty"),
        (["a", "c", "d"], VECTORS, r"vectors.parquet: item 'b' is missing; 1 of 2 items"),
        (["a", "b"], [[1.0, 2.0], [1.0, float("nan")]], "row 1, embedding: holds NaN"),
        (["a", "b"], [[1.0, 2.0], [1.0, None]], "row 1, embedding: holds NaN"),
        (["a", "b"], [[1.0, 2.0], [1e300, 0.0]], "row 1, embedding: holds NaN or infinity"),
        (["a", "b"], [[1.0, 2.0], [1.0]], "row 1, embedding: has 1 numbers"),
        (["a", "b"], [[1.0, 2.0], None], "row 1, embedding: has 0 numbers"),
        (["a", "b"], ["x", "y"], "embedding: is string; a list of numbers is needed"),
        (["a", "b"], [["x"], ["y"]], "embedding: is list.*; a list of numbers is needed"),
    ],
)
def test_bad_rows_are_named(
    tmp_path: Path, dataset: str, ids: list[str | None], vectors: object, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        import_vectors(dataset, "given", parquet(tmp_path, ids, vectors))
    assert not (Path(dataset) / "embeddings" / "given" / "manifest.json").exists()


def test_bad_files_are_named(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(UserError, match=r"none.parquet: no such file"):
        import_vectors(dataset, "given", str(tmp_path / "none.parquet"))
    with pytest.raises(UserError, match="has no column 'v' but item_id, embedding"):
        import_vectors(dataset, "given", parquet(tmp_path, ["a", "b"], VECTORS[:2]), "v")
    text = tmp_path / "text.parquet"
    text.write_text("no")
    with pytest.raises(UserError, match="is not Parquet"):
        import_vectors(dataset, "given", str(text))


def test_bad_npy_files_are_named(tmp_path: Path, dataset: str) -> None:
    path, ids = tmp_path / "v.npy", tmp_path / "ids.txt"
    ids.write_text("a\n")
    np.save(path, np.array(VECTORS))
    with pytest.raises(UserError, match=r"ids.txt: has 1 ids for the 3 vectors"):
        import_vectors(dataset, "given", str(path), ids=str(ids))
    np.save(path, np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"is not a .npy file of numbers"):
        import_vectors(dataset, "given", str(path), ids=str(ids))
    np.save(path, np.ones(3))
    with pytest.raises(UserError, match=r"holds float64 of shape \[3\]"):
        import_vectors(dataset, "given", str(path), ids=str(ids))


def test_ids_of_a_text_file_end_at_line_breaks_only(tmp_path: Path, dataset: str) -> None:
    path, ids = tmp_path / "v.npy", tmp_path / "ids.txt"
    np.save(path, np.array(VECTORS))
    ids.write_bytes("a\r\nx\u2028y\r\nb\r\n".encode())
    assert import_vectors(dataset, "given", str(path), ids=str(ids))[0]["count"] == 2
    ids.write_bytes(b"a\ncaf\xe9\nb\n")
    with pytest.raises(UserError, match=r"ids.txt: is not UTF-8 .* save it as UTF-8"):
        import_vectors(dataset, "given", str(path), ids=str(ids))
