"""`coldray cluster up` starts Ray and MLflow behind tokens, once, and `down` leaves nothing."""

import json
import os
import stat
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from coldray.cluster.local import ray_token

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]


def status_of(url, token=None):
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def programs(cluster):
    found = json.loads(cluster.run("status", "--json").stdout)["programs"]
    return {program["name"]: program for program in found}


def test_what_runs_asks_for_a_token_and_listens_on_loopback_alone(started):
    running = programs(started)
    assert [program["running"] for program in running.values()] == [True, True]
    ray = (started.folder / "user" / ".ray" / "auth_token").read_text()
    mlflow = (started.home / "tracking_token").read_text()
    for page, token in (
        (running["ray"]["page"] + "/api/version", ray),
        (running["mlflow"]["page"] + "/", mlflow),
    ):
        assert status_of(page) == 401
        assert status_of(page, "0" * 64) in (401, 403)
        assert status_of(page, token) == 200
    for program in running.values():
        process = psutil.Process(program["pid"])
        for member in [process, *process.children(recursive=True)]:
            for connection in member.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    assert connection.laddr.ip.removeprefix("::ffff:") in ("127.0.0.1", "::1"), (
                        member.cmdline(),
                        connection,
                    )


def test_status_shows_addresses_and_paths_whole(started):
    shown = started.run("status").stdout.splitlines()
    for program in programs(started).values():
        line = next(line for line in shown if line.startswith(program["name"]))
        assert line.split() == [program["name"], "up", program["address"], program["page"], program["log"]]


def test_up_again_changes_nothing(started):
    before = programs(started)
    again = started.up()
    assert (again.returncode, again.stderr) == (0, "")
    assert programs(started) == before


def test_a_taken_port_is_named_and_not_fought_over(started, tmp_path):
    done = started.run(
        "up", "--home", str(tmp_path / "other"), "--mlflow-port", str(started.ports["mlflow-port"])
    )
    assert done.returncode == 2
    assert f"mlflow: port {started.ports['mlflow-port']} is taken by process" in done.stderr
    assert not (tmp_path / "other" / "cluster.json").exists()


def test_secrets_are_where_they_belong_and_nowhere_else(started):
    ray = (started.folder / "user" / ".ray" / "auth_token").read_text()
    mlflow = (started.home / "tracking_token").read_text()
    own = {started.folder / "user" / ".ray" / "auth_token", started.home / "tracking_token"}
    for path in own:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    seen = {
        path
        for path in started.folder.rglob("*")
        if path.is_file() and any(token.encode() in path.read_bytes() for token in (ray, mlflow))
    }
    assert seen == own
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        assert ray not in words
        assert mlflow not in words


def test_the_environment_is_what_commands_need(started):
    printed = started.run("env").stdout
    lines = dict(line.removeprefix("export ").split("=", 1) for line in printed.splitlines())
    assert lines["RAY_AUTH_MODE"] == "token"
    assert lines["RAY_ADDRESS"] == f"127.0.0.1:{started.ports['port']}"
    assert lines["RAY_API_SERVER_ADDRESS"] == f"http://127.0.0.1:{started.ports['dashboard-port']}"
    assert status_of(lines["MLFLOW_TRACKING_URI"], lines["MLFLOW_TRACKING_TOKEN"]) == 200


def test_what_has_died_is_started_again_and_the_rest_left(started):
    before = programs(started)
    psutil.Process(before["mlflow"]["pid"]).kill()
    psutil.Process(before["mlflow"]["pid"]).wait(20)
    assert not programs(started)["mlflow"]["running"]
    done = started.up()
    assert done.returncode == 0, done.stderr
    after = programs(started)
    assert after["mlflow"]["running"]
    assert after["ray"] == before["ray"]


def test_a_program_that_is_not_installed_is_named(started):
    started.environment["PATH"], kept = "/nowhere", started.environment["PATH"]
    try:
        done = started.up("--monitoring")
    finally:
        started.environment["PATH"] = kept
    assert done.returncode == 2
    assert "install the package prometheus" in done.stderr


def test_down_ends_what_up_started_and_nothing_else(started):
    before = programs(started)
    family = []
    for program in before.values():
        process = psutil.Process(program["pid"])
        family += [process, *process.children(recursive=True)]
    note = started.folder / "ray" / "ray_current_cluster"
    assert note.read_text() == before["ray"]["address"]
    done = started.run("down")
    assert (done.returncode, done.stdout) == (0, "ended 2 programs\n")
    assert not note.exists()
    assert not [
        process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]
    assert started.run("down").stdout == "nothing ran\n"
    assert started.run("status").stdout.startswith("nothing runs")
    assert started.up().returncode == 0


def test_the_token_of_ray_is_made_once_and_closed_to_others(tmp_path, monkeypatch):
    file = tmp_path / "folder" / "token"
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    made = ray_token()
    assert len(made) == 64
    os.chmod(file, 0o644)
    assert ray_token() == made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert ray_token() == "given"
    assert Path(file).read_text() == made
