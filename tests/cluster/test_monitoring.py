"""`coldray cluster up --monitoring`: a real Prometheus is told of a real sweep; a script stands in for Grafana."""

import json
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

from coldray.cluster import local
from coldray.sweep.metrics import CELL_STATES
from tests.cluster.conftest import Started

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

DASHBOARDS = Path(local.__file__).with_name("dashboards")
GRAFANA = """#!{python}
import http.server, json, os, sys
from pathlib import Path
Path({told!r}).write_text(json.dumps([sys.argv, dict(os.environ)]))
class Health(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200), self.end_headers(), self.wfile.write(b"ok")
address = os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"])
http.server.HTTPServer(address, Health).serve_forever()
"""


@pytest.fixture(scope="module")
def watched():
    """Return a cluster that one command started together with Prometheus and a Grafana that only says how it was started."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    folder = Path(tempfile.mkdtemp(prefix="coldray-", dir="/tmp"))
    cluster = Started(folder)
    server = folder / "bin" / "grafana-server"
    server.parent.mkdir()
    server.write_text(GRAFANA.format(python=sys.executable, told=str(folder / "grafana.json")))
    server.chmod(0o700)
    cluster.environment["RAY_metrics_report_interval_ms"] = "1000"
    cluster.environment["PATH"] = f"{server.parent}:{cluster.environment['PATH']}"
    try:
        done = cluster.up("--monitoring")
        assert done.returncode == 0, done.stderr
        yield cluster
    finally:
        cluster.run("down")
        shutil.rmtree(folder, ignore_errors=True)


def asked(cluster: Started, expression: str) -> list[tuple[dict[str, str], float]]:
    query = urllib.parse.urlencode({"query": expression})
    address = f"http://127.0.0.1:{cluster.ports['prometheus-port']}/api/v1/query?{query}"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found = json.load(answer)["data"]["result"]
    return [(row["metric"], float(row["value"][1])) for row in found]


def test_prometheus_is_told_of_a_sweep(watched, tiny_settings, tmp_path) -> None:
    # Half a minute of training, so that a speed is seen: Ray exports every ten seconds.
    training = {"max_epochs": 400, "patience": 400, "batch_size": 8}
    settings = tiny_settings(name="watched", seeds=(1,), training=training)
    file = tmp_path / "watched.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))
    runs = str(tmp_path / "runs")
    done = watched.run("submit", "--detach", "--json", "--", "sweep", "run", str(file), "--runs", runs)
    assert done.returncode == 0, done.stderr
    cells: dict[str, float] = {}
    speed = 0.0
    deadline = time.monotonic() + 240
    while not cells or speed == 0:
        assert time.monotonic() < deadline, (cells, speed, watched.run("jobs").stdout)
        time.sleep(1)
        # Of the last minutes, as what a sweep tells goes with it.
        told = asked(watched, 'last_over_time(ray_coldray_cells{sweep="watched"}[5m])')
        cells = {labels["state"]: value for labels, value in told}
        told = asked(watched, 'max_over_time(ray_coldray_training_sequences_per_second{sweep="watched"}[5m])')
        speed = max((value for _, value in told), default=0)
    watched.run("stop", json.loads(done.stdout)["job"])  # what was to be seen was seen
    assert set(cells) == set(CELL_STATES)
    assert cells["failed"] == 0
    assert sum(cells.values()) == 4


TOKENS = """
import time
import ray
from coldray.llm.metrics import Tokens
ray.init(address="auto")
@ray.remote(num_cpus=0)
def answer():
    Tokens().count(40, 4)
    time.sleep(100)
ray.get(answer.remote())
"""


def test_prometheus_is_told_of_tokens(watched) -> None:
    """From a worker, as an engine tells them; that one does is tested in tests/llm/test_vllm_engine.py."""
    lines = watched.run("env").stdout.splitlines()
    variables = dict(line.removeprefix("export ").split("=", 1) for line in lines)
    job = subprocess.Popen([sys.executable, "-c", TOKENS], env=watched.environment | variables)
    found: dict[str, float] = {}
    try:
        while not found:
            assert job.poll() is None
            time.sleep(1)
            told = asked(watched, "sum by (kind) (ray_coldray_engine_tokens_total)")
            found = {labels["kind"]: value for labels, value in told}
    finally:
        job.terminate()
        job.wait(60)
    assert found == {"read": 40, "written": 4}


def test_everything_listens_on_loopback_and_the_token_stays_in_its_file(watched) -> None:
    token = (watched.folder / "user" / ".ray" / "auth_token").read_text()
    assert token not in (watched.home / "prometheus" / "prometheus.yml").read_text()
    programs = json.loads(watched.run("status", "--json").stdout)["programs"]
    assert [program["name"] for program in programs] == ["mlflow", "ray", "prometheus", "grafana"]
    for program in programs[2:]:
        (listening,) = [
            c for c in psutil.Process(program["pid"]).net_connections() if c.status == psutil.CONN_LISTEN
        ]
        assert listening.laddr.ip == "127.0.0.1"


def test_grafana_is_pointed_at_prometheus_and_at_rays_dashboards_and_ours(watched) -> None:
    """What Grafana itself would make of it was not tried; the folders are those that Ray really writes."""
    arguments, variables = json.loads((watched.folder / "grafana.json").read_text())
    assert variables["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    settings = Path(arguments[arguments.index("--config") + 1]).read_text()
    provisioning = Path(re.search(r"^provisioning = (.+)$", settings, re.M)[1])
    (source,) = yaml.safe_load((provisioning / "datasources" / "default.yml").read_text())["datasources"]
    assert source["url"] == f"http://127.0.0.1:{watched.ports['prometheus-port']}"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "default.yml").read_text())["providers"]
    shown = {file.name for file in Path(provider["options"]["path"]).glob("*.json")}
    assert shown >= {"work.json", "serving.json", "default_grafana_dashboard.json"}


@pytest.mark.parametrize("file", ["serving.json", "work.json"])
def test_dashboards_show_metrics_that_there_are(file) -> None:
    text = "\n".join(path.read_text() for path in Path("coldray").rglob("metrics.py"))
    shown = json.loads((DASHBOARDS / file).read_text())
    expressions = [target["expr"] for panel in shown["panels"] for target in panel["targets"]]
    ours = {name for expression in expressions for name in re.findall(r"ray_(coldray_\w+)", expression)}
    assert ours
    for name in ours:
        assert re.search(rf'"{re.sub("_(total|bucket|count|sum)$", "", name)}"', text), name


def test_a_token_of_the_environment_is_read_from_a_file_of_its_owner(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    monkeypatch.setattr(local, "environment", lambda home: {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"})
    monkeypatch.setattr(local.p, "start", lambda *told: None)
    local._prometheus(tmp_path, local.Places(), local.Store(), None)
    told = json.loads((tmp_path / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    file = Path(told["http_sd_configs"][0]["authorization"]["credentials_file"])
    assert file.read_text() == "given"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_without_grafana_prometheus_alone_is_started_and_that_is_said(monkeypatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(shutil, "which", {"prometheus": "/usr/bin/prometheus"}.get)
    assert list(local._monitors(said.append)) == ["prometheus"]
    assert said == ["grafana-server is not installed: Prometheus alone is started"]
