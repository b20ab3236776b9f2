"""A preparation whose objects do not fit the object store: Ray puts them on disk, and the data set is the same."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from coldray import storage
from coldray.data.prepare import prepare
from coldray.data.recipe import Recipe
from tests.plugins.nodes import Nodes

pytestmark = pytest.mark.chaos

ROWS = 2_000_000


@pytest.fixture
def source(tmp_path):
    """Return a file of interactions whose items have names of 100 letters."""
    random = np.random.default_rng(5)
    users, items = (
        pc.utf8_lpad(pa.array(random.integers(0, count, ROWS)).cast(pa.string()), width, "0")
        for count, width in ((ROWS // 5, 12), (ROWS // 2, 100))
    )
    storage.write_table(tmp_path / "raw" / "a.parquet", pa.table({"user_id": users, "item_id": items}))
    return str(tmp_path / "raw")


@pytest.fixture
def small_node():
    """Return a node with two CPUs and about the least object store that Ray allows."""
    made = Nodes()
    made.cpus, made.store = 2, 80 * 2**20
    try:
        made.start("head")
        yield made
    finally:
        made.close()


def test_what_does_not_fit_the_object_store_goes_to_disk(
    source, small_node, ray_session, tell, tmp_path
) -> None:
    words = f"data prepare {source} --format table --k-core 2 --out {tmp_path / 'small'}".split()
    process = small_node.popen(*words, "--address", small_node.address)
    _, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err[-3000:]
    ray = str(Path(sys.executable).with_name("ray"))
    asked = subprocess.run(
        [*small_node.network.inside("head"), ray, "memory", "--stats-only", "--address", small_node.address],
        env=small_node.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    spilled = re.search(r"Spilled (\d+) MiB", asked.stdout)
    assert spilled, asked.stdout
    manifest, made = prepare(source, str(tmp_path / "large"), Recipe(format="table", k_core=2))
    assert made
    assert storage.read_json(tmp_path / "small" / "manifest.json") == manifest
    tell(
        "a preparation's objects do not fit the object store of its only node (80 MiB)",
        "nothing: the same data set",
        f"{spilled[1]} MiB went to disk and came back",
    )
