import numpy as np
import pyarrow as pa
import pytest

from coldray import storage
from coldray.data.dataset import save_split, split_folder
from coldray.data.describe import Description
from coldray.data.split import SplitSettings, make_split
from coldray.errors import UserError


@pytest.fixture
def dataset(tmp_path):
    rows = [
        (f"u{u}", f"i{(u + p * p) % 9}", p, 1_600_000_000 + 86_400 * (u + p))
        for u in range(30)
        for p in range(5)
    ]
    users, items, positions, times = map(list, zip(*rows, strict=True))
    table = pa.table({"user_id": users, "item_id": items, "timestamp": times, "position": positions})
    storage.write_table(storage.join(tmp_path, "interactions", "part-00000.parquet"), table.slice(0, 75))
    storage.write_table(storage.join(tmp_path, "interactions", "part-00001.parquet"), table.slice(75))
    counts = {"users": 30, "items": 9, "interactions": 150, "items_described": 9, "density": 150 / 270}
    manifest = {"fingerprint": "f" * 64, "source": "table", "counts": counts, "skipped": {"count": 0}}
    storage.write_json(storage.join(tmp_path, "manifest.json"), manifest)
    split = make_split(table, SplitSettings(protocol="strict_cold", cold_fraction=0.2))
    save_split(split, split_folder(tmp_path, "cold"), {"protocol": "strict_cold"})
    return tmp_path, split


def test_figures(dataset) -> None:
    folder, split = dataset
    figures = Description(folder, "cold").figures()
    lengths, popularity = figures["sequence_length"], figures["item_popularity"]
    assert lengths["mean"] == 5
    assert lengths["histogram"] == {"1": 0, "2": 0, "3-4": 0, "5-8": 30}
    assert sum(popularity["histogram"].values()) == 9
    assert popularity["mean"] == pytest.approx(150 / 9)
    assert figures["time"] == {"first": 1_600_000_000, "last": 1_600_000_000 + 86_400 * 33}
    share = figures["split"]["cold_share"]
    assert share["items"] == pytest.approx(2 / 9)
    assert share["test_targets"] == pytest.approx(float(np.mean(split.test.targets > 7)))


@pytest.mark.parametrize("split", [None, "cold"])
def test_picture(dataset, tmp_path, split) -> None:
    path = tmp_path / "figure.png"
    Description(dataset[0], split).draw(str(path))
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_folder_without_a_data_set(tmp_path) -> None:
    with pytest.raises(UserError, match="is not a data set; run: coldray data prepare"):
        Description(tmp_path)


def test_what_is_no_data_set_or_is_damaged_is_told(dataset) -> None:
    folder, _ = dataset
    with pytest.raises(UserError, match=r"is not a data set; run: coldray data prepare"):
        Description(folder / "splits")
    (folder / "interactions" / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"part-00001\.parquet: cannot be read as Parquet"):
        Description(folder)
