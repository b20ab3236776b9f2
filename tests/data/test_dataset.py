import numpy as np
import pyarrow as pa
import pytest

from coldray.data.dataset import Sequences, load_split, save_split, split_folder
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
