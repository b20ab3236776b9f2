"""A real Prometheus beside the cluster is told of a sweep as it runs."""

import json
import re
import shutil
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

from coldray.sweep.metrics import CELL_STATES

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

DASHBOARDS = sorted(Path().glob("*/grafana.json"))


@pytest.fixture
def prometheus(started):
    """Return a function that asks a Prometheus that `up` started; it ends with the test."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    done = started.up("--monitoring")
    assert done.returncode == 0, done.stderr
    programs = json.loads(started.run("status", "--json").stdout)["programs"]
    (program,) = [program for program in programs if program["name"] == "prometheus"]
    (connection,) = [
        c for c in psutil.Process(program["pid"]).net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert connection.laddr.ip == "127.0.0.1"

    def ask(expression: str) -> list[tuple[dict[str, str], float]]:
        query = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{program['page']}/api/v1/query?{query}", timeout=10) as answer:  # noqa: S310 - ours
            found = json.load(answer)["data"]["result"]
        return [(row["metric"], float(row["value"][1])) for row in found]

    yield ask
    psutil.Process(program["pid"]).terminate()


def test_it_is_told_of_a_sweep(started, prometheus, tiny_settings, tmp_path) -> None:
    settings = tiny_settings(name="watched", seeds=(1, 2), training={"max_epochs": 60, "patience": 60})
    file = tmp_path / "watched.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))
    runs = str(tmp_path / "runs")
    done = started.run("submit", "--detach", "--", "sweep", "run", str(file), "--runs", runs)
    assert done.returncode == 0, done.stderr
    cells: dict[str, float] = {}
    speed = 0.0
    deadline = time.monotonic() + 240
    while cells.get("done") != 8 or speed == 0:
        assert time.monotonic() < deadline, (cells, speed, started.run("jobs").stdout)
        time.sleep(1)
        told = prometheus('ray_coldray_cells{sweep="watched"}')
        cells = {labels["state"]: value for labels, value in told} or cells
        told = prometheus('max_over_time(ray_coldray_training_sequences_per_second{sweep="watched"}[5m])')
        speed = max((value for _, value in told), default=speed)
    assert set(cells) == set(CELL_STATES)
    assert cells["waiting"] == cells["failed"] == 0


@pytest.mark.parametrize("file", DASHBOARDS, ids=str)
def test_dashboards_show_metrics_that_there_are(file) -> None:
    text = "\n".join(path.read_text() for path in Path("coldray").rglob("metrics.py"))
    shown = json.loads(file.read_text())
    expressions = [target["expr"] for panel in shown["panels"] for target in panel["targets"]]
    ours = {name for expression in expressions for name in re.findall(r"ray_(coldray_\w+)", expression)}
    assert ours
    for name in ours:
        assert re.search(rf'"{re.sub("_(total|bucket|count|sum)$", "", name)}"', text), name
