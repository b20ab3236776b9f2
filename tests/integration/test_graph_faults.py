"""A build through the command line that is killed in its middle, and two at once: nothing lost, nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
import yaml

from coldray import storage
from coldray.graph.store import GraphStore, manifests
from coldray.llm.answers import parts

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.chaos]

COUNT = 24


@pytest.fixture
def shop(llm_address, tmp_path):
    """Return a function that starts `coldray graph build` on a catalogue; an answer takes a fifth of a second."""
    titles = [f"Thing {chr(97 + i)}{i} of kind {i % 5}" for i in range(COUNT)]
    items = pa.table({"item_id": [str(i) for i in range(COUNT)], "title": titles})
    storage.write_table(tmp_path / "shop" / "items.parquet", items)
    config = tmp_path / "build.yaml"
    config.write_text(yaml.safe_dump({"llm": llm_address.settings(concurrency=4)}))
    llm_address.fault = lambda number, body: 0.2

    def start():
        code = "from coldray.cli.main import main; main()"
        words = ["graph", "build", str(tmp_path / "shop"), "--config", str(config), "--json"]
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    start.graph = str(tmp_path / "shop" / "graph")
    return start


def finish(process):
    out, err = process.communicate(timeout=1500)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out)


def test_a_killed_driver_costs_one_pass_in_all(shop, llm_address):
    llm_address.fault = lambda number, body: 2 if number > COUNT else None  # time enough to be killed in
    first = shop()
    deadline = time.monotonic() + 120
    while len(llm_address.asked) < COUNT or not parts(f"{shop.graph}/answers"):
        assert first.poll() is None, first.stderr.read()[-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert manifests(shop.graph) == []
    before = len(llm_address.asked)
    llm_address.fault = lambda number, body: None
    built = finish(shop())
    assert built["described"] == COUNT
    assert built["usage"]["calls"] + built["usage"]["remembered"] == 2 * COUNT
    # No more than what was on its way when it was killed is asked twice.
    assert len(llm_address.asked) - before == built["usage"]["calls"]
    assert len(llm_address.asked) <= 2 * COUNT + COUNT
    assert built["usage"]["remembered"] > 0
    assert int(GraphStore.open(shop.graph).is_item.sum()) == COUNT


def test_two_builds_at_once_do_the_work_once(shop, llm_address):
    results = [finish(process) for process in (shop(), shop())]
    assert sorted(result["described"] for result in results) == [0, COUNT]
    assert len(llm_address.asked) == 2 * COUNT
    assert manifests(shop.graph) == [1]
