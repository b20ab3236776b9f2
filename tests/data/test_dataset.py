import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray.data.dataset import TABLES, Sequences, load_split, save_split, split_folder
from coldray.data.split import SplitSettings, make_split
from coldray.errors import UserError

TABLE = pa.table(
    {
        "user_id": [f"u{i // 4}" for i in range(40)],
        "item_id": [f"i{i % 7}" for i in range(40)],
        "position": [i % 4 for i in range(40)],
    }
)


def test_a_split_comes_back_as_it_was_saved(tmp_path) -> None:
    split = make_split(TABLE, SplitSettings(protocol="leave_one_out"), "source")
    save_split(split, split_folder(tmp_path, "mine"), {"protocol": "leave_one_out"}, ["a note"])
    back = load_split(tmp_path, "mine")
    assert (back.fingerprint, back.num_warm) == (split.fingerprint, split.num_warm)
    assert back.item_ids.equals(split.item_ids)
    np.testing.assert_array_equal(back.train_counts, split.train_counts)
    for part in ("train", "validation", "test"):
        one, other = getattr(split, part), getattr(back, part)
        assert one.to_table().equals(other.to_table())
        assert one.lengths.tolist() == other.lengths.tolist()


def test_empty_sequences_survive() -> None:
    empty = Sequences(
        pa.array([], pa.string()), np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32)
    )
    back = Sequences.from_table(empty.to_table())
    assert len(back) == 0
    assert back.targets is not None


def test_a_split_that_is_not_there_says_how_to_make_it(tmp_path) -> None:
    with pytest.raises(UserError, match=r"run: coldray data split .* --protocol temporal"):
        load_split(tmp_path, "temporal")


@pytest.fixture
def folder(tmp_path):
    split = make_split(TABLE, SplitSettings(protocol="leave_one_out"), "source")
    save_split(split, split_folder(tmp_path, "mine"), {})
    return tmp_path / "splits" / "mine"


@pytest.mark.parametrize("name", TABLES)
def test_a_file_that_was_altered_by_hand_is_refused(folder, tmp_path, name) -> None:
    path = folder / f"{name}.parquet"
    table = pq.read_table(path)
    pq.write_table(table, path, compression="none", row_group_size=3)  # the same content, stored otherwise
    load_split(tmp_path, "mine")
    pq.write_table(table.take([1, 0, *range(2, table.num_rows)]), path)
    with pytest.raises(
        UserError, match=rf"mine/{name}\.parquet: its content has changed .* make the split again"
    ):
        load_split(tmp_path, "mine")


def test_a_file_that_is_damaged_or_gone_is_told(folder, tmp_path) -> None:
    path = folder / "train.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(UserError, match=r"train\.parquet: cannot be read as Parquet"):
        load_split(tmp_path, "mine")
    path.unlink()
    with pytest.raises(UserError, match=r"train\.parquet: cannot be read as Parquet"):
        load_split(tmp_path, "mine")


def test_a_manifest_that_is_none_is_told(folder, tmp_path) -> None:
    for content in ({"num_warm": 3}, [1]):
        (folder / "manifest.json").write_text(json.dumps(content))
        with pytest.raises(
            UserError, match=r"manifest\.json: fingerprint: is missing; run: coldray data split"
        ):
            load_split(tmp_path, "mine")


def test_ids_of_any_text_come_back(tmp_path) -> None:
    odd = ["a\nb", 'say "x"', "<script>alert(1)</script>", "日本語 🎬", "a\u2028b", " ", "\t"]
    table = TABLE.set_column(1, "item_id", pa.array([odd[i % 7] for i in range(40)]))
    save_split(make_split(table, SplitSettings(protocol="leave_one_out")), split_folder(tmp_path, "odd"), {})
    assert set(load_split(tmp_path, "odd").item_ids.to_pylist()) == set(odd)
