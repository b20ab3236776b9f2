"""Parts, manifest, and reading vectors back in the order asked for."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.encode import embeddings
from coldray.encode.embeddings import Part, load_embeddings, publish, write_part
from coldray.errors import UserError


def make(dataset: Path, names: list[str], vectors: np.ndarray, size: int = 2) -> str:  # type: ignore[type-arg] # any
    folder = embeddings.embedding_folder(dataset, "e")
    parts = [
        write_part(folder, f"{i}", pa.array(names[i : i + size]), vectors[i : i + size].astype(np.float32))
        for i in range(0, len(names), size)
    ]
    return str(publish(folder, parts, {"source": "test"})["fingerprint"])


def test_vectors_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    vectors = np.arange(15).reshape(5, 3)
    make(tmp_path, ["a", "b", "c", "d", "e"], vectors)
    loaded = load_embeddings(tmp_path, "e", pa.array(["e", "a", "c", "a"]))
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, vectors[[4, 0, 2, 0]])
    assert load_embeddings(tmp_path, "e", pa.array([], pa.string())).shape == (0, 3)


def test_the_file_is_a_fixed_size_list_of_float32(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"], np.ones((2, 3)))
    table = pq.read_table(tmp_path / "embeddings" / "e" / "part-0.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 3)


def test_missing_items_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"], np.ones((2, 3)))
    with pytest.raises(UserError, match=r"item 'x' has no vector; .* 2 items"):
        load_embeddings(tmp_path, "e", pa.array(["a", "x", "y"]))


def test_no_embedding_says_how_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a finished embedding; run: coldray encode .* --name e"):
        load_embeddings(tmp_path, "e", pa.array(["a"]))


def test_without_manifest_it_is_not_finished(tmp_path: Path) -> None:
    write_part(embeddings.embedding_folder(tmp_path, "e"), "0", pa.array(["a"]), np.ones((1, 2), np.float32))
    with pytest.raises(UserError, match="is not a finished embedding"):
        load_embeddings(tmp_path, "e", pa.array(["a"]))


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    vectors = np.arange(6).reshape(2, 3)
    first = make(tmp_path / "1", ["a", "b"], vectors)
    assert make(tmp_path / "2", ["a", "b"], vectors) == first
    assert make(tmp_path / "3", ["a", "c"], vectors) != first
    assert make(tmp_path / "4", ["a", "b"], vectors + 1) != first


def test_parts_of_an_earlier_recipe_are_removed(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b", "c"], np.ones((3, 2)))
    make(tmp_path, ["a", "b"], np.ones((2, 2)))
    assert sorted(path.name for path in (tmp_path / "embeddings" / "e").iterdir()) == [
        "manifest.json",
        "part-0.parquet",
    ]


def test_a_part_of_other_items_is_refused(tmp_path: Path) -> None:
    folder = embeddings.embedding_folder(tmp_path, "e")
    written = write_part(folder, "0", pa.array(["a"]), np.ones((1, 2), np.float32), 1)
    assert embeddings.finished_part(folder, "0", pa.array(["a"]), 1) == written
    assert embeddings.finished_part(folder, "1", pa.array(["a"]), 1) is None
    with pytest.raises(UserError, match="does not hold the items"):
        embeddings.finished_part(folder, "0", pa.array(["b"]), 1)
    assert isinstance(written, Part)


def test_a_part_with_nan_or_no_vectors_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"], np.ones((2, 2)))
    path = tmp_path / "embeddings" / "e" / "part-0.parquet"
    broken = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 2.0, float("nan"), 1.0], pa.float32()), 2)
    storage.write_table(path, pa.table({"item_id": ["a", "b"], "embedding": broken}))
    with pytest.raises(UserError, match=r"part-0.parquet: row 1, embedding: holds NaN"):
        load_embeddings(tmp_path, "e", pa.array(["a"]))
    storage.write_table(path, pa.table({"item_id": ["a", "b"]}))
    with pytest.raises(UserError, match=r"part-0.parquet: is not a part of an embedding"):
        load_embeddings(tmp_path, "e", pa.array(["a"]))


def test_catalogue_ids_are_there_and_distinct(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "manifest.json", {"format": 1, "fingerprint": "f"})
    storage.write_table(tmp_path / "items.parquet", pa.table({"item_id": ["a", "b", "a"]}))
    with pytest.raises(UserError, match=r"items.parquet: row 2, item_id: 'a' occurs twice"):
        embeddings.catalogue_ids(tmp_path)
    storage.write_table(tmp_path / "items.parquet", pa.table({"item_id": ["a", None]}))
    with pytest.raises(UserError, match=r"items.parquet: row 1, item_id: is empty"):
        embeddings.catalogue_ids(tmp_path)
    with pytest.raises(UserError, match="is not a data set"):
        embeddings.catalogue_ids(tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a/b", "a b"])
def test_a_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="choose another name"):
        embeddings.embedding_folder(tmp_path, name)


def test_a_part_that_was_altered_by_hand_is_refused(tmp_path: Path) -> None:
    make(tmp_path, ["a", "b"], np.ones((2, 3)))
    folder = embeddings.embedding_folder(tmp_path, "e")
    write_part(folder, "0", pa.array(["a", "b"]), np.full((2, 3), 2, np.float32))
    with pytest.raises(UserError, match=r"part-0.parquet: its content has changed .* encode again"):
        load_embeddings(tmp_path, "e", pa.array(["a"]))
