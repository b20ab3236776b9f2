"""Encoding with the real packaged model on a real Ray: content, resumption after a kill, up to date, errors."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray import storage
from coldray.data import columns as c
from coldray.encode.embeddings import load_embeddings
from coldray.encode.pipeline import encode_items
from coldray.encode.sentence_model import load_model
from coldray.encode.text import TextRecipe
from coldray.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def make(folder: Path, titles: list[str | None], fingerprint: str = "f", row_group: int = 1000) -> str:
    items = pa.table({c.ITEM: [f"i{n}" for n in range(len(titles))], "title": pa.array(titles, pa.string())})
    folder.mkdir(exist_ok=True)
    pq.write_table(items, folder / "items.parquet", row_group_size=row_group)
    storage.write_json(folder / "manifest.json", {"format": 1, "fingerprint": fingerprint})
    return str(folder)


def parts(dataset: str) -> dict[str, int]:
    folder = Path(dataset) / "embeddings" / "m"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}


def test_vectors_are_the_models_whatever_the_chunks(tmp_path: Path) -> None:
    titles = ["Chess", "A much longer title about a garden hose", None, "<b>Red</b> shoes", "  ", "Chess"]
    dataset = make(tmp_path / "d", titles, row_group=4)
    seen: list[tuple[int, int]] = []
    made = encode_items(dataset, "m", chunk_size=3, progress=lambda done, total: seen.append((done, total)))
    assert (made.encoded, made.manifest["count"], made.manifest["dim"]) == (6, 6, 384)
    assert made.manifest["without_text"] == 2
    assert len(parts(dataset)) == 3  # row groups of 4 and 2, chunks of 3
    assert seen[0] == (0, 6)
    assert seen[-1] == (6, 6)
    vectors = load_embeddings(dataset, "m", pa.array([f"i{n}" for n in range(6)]))
    texts = ["Chess", titles[1], "Red shoes", "Chess"]
    expected = np.stack([load_model(None, None, "cpu").encode(text) for text in texts])
    assert np.abs(vectors[[0, 1, 3, 5]] - expected).max() < 1e-5
    assert not vectors[[2, 4]].any()


def test_up_to_date_until_recipe_or_data_change(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d", ["One", "Two", "Three"])
    first = encode_items(dataset, "m", chunk_size=2)
    before = parts(dataset)
    again = encode_items(dataset, "m", chunk_size=2)
    assert again.up_to_date
    assert again.manifest == first.manifest
    make(tmp_path / "d", ["One", "Two", "Four"], "g")
    changed = encode_items(dataset, "m", chunk_size=2)
    assert changed.encoded == 1  # the chunk of One and Two is as it was
    assert changed.manifest["fingerprint"] != first.manifest["fingerprint"]
    assert len(before.keys() & parts(dataset).keys()) == 1
    assert encode_items(dataset, "m", text=TextRecipe(prefix="query: "), chunk_size=2).encoded == 3


def test_only_what_is_missing_is_encoded(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d", [f"Title {n}" for n in range(9)])
    first = encode_items(dataset, "m", chunk_size=3)
    whole = parts(dataset)
    (Path(dataset) / "embeddings" / "m" / "manifest.json").unlink()
    removed = sorted(whole)[1]
    (Path(dataset) / "embeddings" / "m" / removed).unlink()
    again = encode_items(dataset, "m", chunk_size=3)
    assert again.encoded == 3
    assert not again.up_to_date
    assert again.manifest["fingerprint"] == first.manifest["fingerprint"]
    now = parts(dataset)
    assert {name for name in whole if now[name] == whole[name]} == whole.keys() - {removed}


KILLED = """
import sys
from coldray.data.prepare import start_ray
from coldray.encode.pipeline import encode_items
start_ray(sys.argv[2])
encode_items(sys.argv[1], "m", chunk_size=8)
"""


@pytest.mark.slow
def test_a_killed_run_is_taken_up_where_it_stopped(tmp_path: Path) -> None:
    import ray  # started by the fixture

    long = " ".join(["word"] * 120)
    dataset = make(tmp_path / "d", [f"{n} {long}" for n in range(80)])
    address = ray.get_runtime_context().gcs_address
    process = subprocess.Popen([sys.executable, "-c", KILLED, dataset, address], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while len(parts(dataset)) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    time.sleep(3)  # Ray ends the dead driver's actors
    left = parts(dataset)
    assert 2 <= len(left) < 10
    assert not (Path(dataset) / "embeddings" / "m" / "manifest.json").exists()
    made = encode_items(dataset, "m", chunk_size=8)
    assert made.encoded == 80 - 8 * len(left)
    now = parts(dataset)
    assert len(now) == 10
    assert all(now[name] == written for name, written in left.items())


def test_mistakes_are_named_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a data set; make it with: coldray data prepare"):
        encode_items(str(tmp_path), "m")
    dataset = make(tmp_path / "d", ["One"])
    with pytest.raises(
        UserError, match=r"items.parquet: has no column 'brand'; choose --columns from: item_id"
    ):
        encode_items(dataset, "m", text=TextRecipe(columns=("brand",)))
    with pytest.raises(UserError, match="--device cuda: this Ray cluster has no GPU"):
        encode_items(dataset, "m", device="cuda")
    assert not (tmp_path / "d" / "embeddings").exists()
    empty = make(tmp_path / "empty", [])
    with pytest.raises(UserError, match="has no rows; there is nothing to encode"):
        encode_items(empty, "m")
