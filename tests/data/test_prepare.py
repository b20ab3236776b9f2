import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldray.data import prepare as stage
from coldray.data.prepare import Recipe, prepare
from coldray.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def write_source(folder: Path, files: int = 1, rows: int = 1200) -> tuple[str, str]:
    """Write the same made-up ratings divided among `files`, and their items."""
    rng = np.random.default_rng(3)
    users, items = rng.integers(0, 60, rows), rng.zipf(1.4, rows) % 80
    table = pa.table(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in items],
            "timestamp": rng.integers(0, 300, rows),
            "rating": rng.integers(1, 6, rows),
        }
    )
    source = folder / f"source{files}"
    source.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, -(-rows // files))):
        pq.write_table(
            table.slice(start, -(-rows // files)), source / f"{number}.parquet", row_group_size=50 * files
        )
    items_path = folder / f"items{files}.jsonl"
    titles = [{"item_id": f"i{item}", "title": f"Item {item}"} for item in range(0, 80, 2)]
    items_path.write_text("\n".join(map(json.dumps, titles)))
    return str(source), str(items_path)


def read(out: Path) -> list[dict]:
    return pq.read_table(out / "interactions").to_pylist()


def test_the_fingerprint_is_that_of_the_content(tmp_path) -> None:
    recipe = Recipe(format="table", min_rating=2, k_core=3)
    made = []
    for files in (1, 5):
        source, items = write_source(tmp_path / str(files), files)
        made.append(prepare(source, str(tmp_path / f"out{files}"), recipe, items)[0])
    assert made[0]["fingerprint"] == made[1]["fingerprint"]
    assert made[0]["counts"] == made[1]["counts"]
    other = recipe.model_copy(update={"min_rating": 3.0})
    assert prepare(source, str(tmp_path / "other"), other, items)[0]["fingerprint"] != made[0]["fingerprint"]
    assert prepare(source, str(tmp_path / "bare"), recipe)[0]["fingerprint"] != made[0]["fingerprint"]


def test_filter_order_and_core_are_those_of_brute_force(tmp_path) -> None:
    source, items = write_source(tmp_path, 3)
    out = tmp_path / "out"
    recipe = Recipe(format="table", min_rating=2, k_core=4, drop_consecutive_duplicates=True, buckets=3)
    manifest, made = prepare(source, str(out), recipe, items)
    assert made

    files = sorted(Path(source).iterdir())
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    sequences = defaultdict(list)
    for order, row in enumerate(rows):
        if row["rating"] > 2:
            sequences[row["user_id"]].append((row["timestamp"], order, row["item_id"]))
    kept = []
    for user, sequence in sequences.items():
        ordered = [entry[2] for entry in sorted(sequence)]
        kept += [(user, item) for i, item in enumerate(ordered) if i == 0 or ordered[i - 1] != item]
    while True:
        users, its = Counter(user for user, _ in kept), Counter(item for _, item in kept)
        left = [pair for pair in kept if users[pair[0]] >= 4 and its[pair[1]] >= 4]
        if len(left) == len(kept):
            break
        kept = left
    expected, got = defaultdict(list), defaultdict(list)
    for user, item in kept:
        expected[user].append(item)
    for row in read(out):
        assert row["position"] == len(got[row["user_id"]])
        got[row["user_id"]].append(row["item_id"])
    assert got == expected
    assert manifest["counts"]["interactions"] == len(kept) < len(rows)
    table = pq.read_table(out / "items.parquet")
    names = table["item_id"].to_pylist()
    assert names == sorted({item for _, item in kept})
    assert table["title"].to_pylist() == [f"Item {n[1:]}" if int(n[1:]) % 2 == 0 else None for n in names]
    assert manifest["counts"]["items_described"] == sum(int(n[1:]) % 2 == 0 for n in names)


def test_up_to_date_other_recipe_and_overwrite(tmp_path) -> None:
    source, _ = write_source(tmp_path)
    out, recipe = str(tmp_path / "out"), Recipe(format="table")
    first, made = prepare(source, out, recipe)
    again, made_again = prepare(source, out, recipe)
    assert (made, made_again) == (True, False)
    assert again == first
    other = Recipe(format="table", k_core=3)
    with pytest.raises(UserError, match=r"was made with another recipe; .* --overwrite"):
        prepare(source, out, other)
    assert prepare(source, out, other, overwrite=True)[1]
    path = next(Path(source).iterdir())
    pq.write_table(pq.read_table(path).slice(1), path)
    with pytest.raises(UserError, match="was made with other files"):
        prepare(source, out, other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(UserError, match="holds no data set; name a new folder"):
        prepare(source, str(tmp_path / "mine"), recipe)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["items1.jsonl", "mine", "out", "source1"]


def test_bad_rows_are_counted_or_refused_and_nothing_is_left_behind(tmp_path) -> None:
    source = tmp_path / "t.csv"
    lines = [
        "user_id,item_id,timestamp",
        *(f"u{i % 4},i{i % 3},{i}" for i in range(30)),
        "u1,i1,never",
        "u1",
        "u1,i1,-4",
    ]
    source.write_text("\n".join(lines))
    items = tmp_path / "items.csv"
    items.write_text("item_id,title\ni0,a\ni1,b\ni0,c\n")
    recipe = Recipe(format="table")
    manifest, _ = prepare(str(source), str(tmp_path / "out"), recipe, str(items))
    assert manifest["skipped"]["count"] == 4
    assert {(Path(s["file"]).name, s["row"], s["field"]) for s in manifest["skipped"]["samples"]} == {
        ("t.csv", 32, "timestamp"), ("t.csv", 33, "line"), ("t.csv", 34, "timestamp"), ("items.csv", 4, "item_id"),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"t\.csv: row 3\d: \w+: .*(correct|give)"):
        prepare(str(source), str(tmp_path / "strict"), recipe, strict=True)
    source.write_text("\n".join(lines[:-3]))
    with pytest.raises(UserError, match=r"items\.csv: row 4: item_id: is there twice"):
        prepare(str(source), str(tmp_path / "strict"), recipe, str(items), strict=True)
    with pytest.raises(UserError, match="no interaction is left"):
        prepare(str(source), str(tmp_path / "strict"), Recipe(format="table", k_core=99))
    (tmp_path / "empty.csv").write_text("user_id,item_id\n")
    with pytest.raises(UserError, match=r"empty\.csv: has no rows"):
        prepare(str(tmp_path / "empty.csv"), str(tmp_path / "strict"), recipe)
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert left == ["empty.csv", "items.csv", "out", "t.csv"]


def test_sampled_users_and_uris(tmp_path) -> None:
    source, _ = write_source(tmp_path)
    whole = tmp_path / "whole"
    prepare(f"file://{source}", f"file://{whole}", Recipe(format="table"))
    users = {row["user_id"] for row in read(whole)}
    drawn = {}
    for seed, buckets in ((1, 4), (1, 7), (2, 4)):
        out = tmp_path / f"out{seed}{buckets}"
        recipe = Recipe(format="table", sample_users=10, seed=seed, buckets=buckets)
        prepare(source, str(out), recipe)
        drawn[seed, buckets] = {row["user_id"] for row in read(out)}
        assert len(drawn[seed, buckets]) == 10
    assert drawn[1, 4] == drawn[1, 7] != drawn[2, 4]
    assert drawn[1, 4] < users


def test_columns_of_items_are_renamed(tmp_path) -> None:
    source, items = write_source(tmp_path)
    recipe = Recipe(format="table", rename={"title": "name"})
    prepare(source, str(tmp_path / "out"), recipe, items)
    assert pq.read_schema(tmp_path / "out" / "items.parquet").names == ["item_id", "name"]
    with pytest.raises(UserError, match="brand: no such column"):
        prepare(source, str(tmp_path / "out2"), Recipe(format="table", rename={"brand": "b"}), items)


def test_what_a_task_says_of_the_users_making_is_one_line(tmp_path) -> None:
    def full(job: str, bucket: int) -> None:
        raise UserError(f"{job}: No space left on device; free some space, then run the same again")

    with pytest.raises(UserError) as error:
        list(stage._each(full, SimpleNamespace(buckets=2)))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("free some space, then run the same again")
    with pytest.raises(ZeroDivisionError):
        list(stage._each(lambda job, bucket: 1 / 0, SimpleNamespace(buckets=1)))


def test_a_program_with_ray_that_is_terminated_ends_as_with_ctrl_c() -> None:
    program = (
        "import time\n"
        "from coldray.data.prepare import start_ray\n"
        "start_ray(num_cpus=1)\n"
        "try:\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('ended in order', flush=True)\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "up\n"
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "ended in order\n", "")


def test_slow_work_is_waited_for_and_a_cluster_that_has_ended_is_not() -> None:
    program = (
        "import time\n"
        "import ray.data\n"
        "from coldray.data.prepare import start_ray\n"
        "start_ray(num_cpus=1)\n"
        "made = ray.data.from_items([{'x': 1}]).map_batches(lambda batch: time.sleep(5) or batch)\n"
        "assert made.take_all() == [{'x': 1}]\n"
    )
    with tempfile.TemporaryDirectory(prefix="coldray-", dir="/tmp") as folder:  # short: sockets are in it
        (Path(folder) / "ray").mkdir()
        (Path(folder) / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
        made_so = {"RAY_TMPDIR": folder, "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | made_so, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
