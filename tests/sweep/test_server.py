"""The embedded server: comes up, keeps to this machine, is shared, and never outlives its user."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from coldray.errors import ServiceError, UserError
from coldray.sweep.server import create_database, embedded_server, tracking_server

pytestmark = pytest.mark.mlflow


def answers(uri: str) -> bool:
    try:
        return urllib.request.urlopen(f"{uri}/health", timeout=5).status == 200  # noqa: S310  (our own server)
    except (urllib.error.URLError, ConnectionError):
        return False


def stops_answering(uri: str, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not answers(uri):
            return True
        time.sleep(0.1)
    return False


def test_two_servers_share_a_folder_and_end_with_their_contexts(tmp_path):
    from mlflow import MlflowClient

    def serve(name):
        with embedded_server(tmp_path) as uri:
            MlflowClient(uri).create_experiment(name)
            return uri, {item.name for item in MlflowClient(uri).search_experiments()}

    with ThreadPoolExecutor(2) as pool:
        (first, _), (second, _) = pool.map(serve, ["one", "two"])
    assert first != second
    assert not answers(first)
    assert not answers(second)
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = {name for (name,) in database.execute("select name from experiments")}
    assert names == {"Default", "one", "two"}
    assert not list(tmp_path.glob("mlflow-*.log"))


def test_a_database_is_made_without_a_word(tmp_path, capfd):
    create_database(tmp_path)
    assert (tmp_path / "mlflow.db").is_file()
    assert capfd.readouterr() == ("", "")


def test_servers_end_with_the_processes_that_started_them(tmp_path):
    code = (
        "import sys, time\n"
        "from coldray.sweep.server import embedded_server\n"
        f"with embedded_server({str(tmp_path)!r}) as uri:\n"
        "    print(uri, flush=True)\n"
        "    time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code]
    starters = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"
    ]
    uris = [starter.stdout.readline().strip() for starter in starters]
    assert all(answers(uri) for uri in uris)
    for starter, sent in zip(starters, (signal.SIGKILL, signal.SIGINT), strict=True):
        os.kill(starter.pid, sent)
        starter.communicate(timeout=30)
    assert all(stops_answering(uri) for uri in uris)
    # Both came to an empty folder at once; one made the database that both served.
    assert not (tmp_path / "mlflow.db.tmp").exists()


def test_another_host_name_is_refused(mlflow_uri):
    request = urllib.request.Request(f"{mlflow_uri}/api/2.0/mlflow/experiments/search?max_results=1")  # noqa: S310  (our own server)
    request.add_header("Host", "rebound.example")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310  (our own server)
    assert refused.value.code == 403


def test_only_this_machine_can_connect(mlflow_uri):
    port = int(mlflow_uri.rsplit(":", 1)[1])
    with socket.socket() as other:
        other.settimeout(5)
        # 127.0.0.2 is this machine too, but not the address that the server is bound to.
        assert other.connect_ex(("127.0.0.2", port)) != 0


def test_a_server_that_does_not_come_up_says_why(tmp_path):
    (tmp_path / "mlflow.db").write_text(
        "this is no database, it is a text that is long enough to look like one"
    )
    with pytest.raises(ServiceError, match=r"mlflow-\d+\.log, which ends: .*"), embedded_server(tmp_path):
        pass


def test_a_given_server_is_used_if_it_answers(mlflow_uri, tmp_path):
    with tracking_server(mlflow_uri, tmp_path) as uri:
        assert uri == mlflow_uri
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServiceError, match=dead), tracking_server(dead, tmp_path):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("uri", ["ftp://host", "file:///etc", "sqlite:////nowhere/mlflow.db"])
def test_an_address_of_another_kind_is_refused(uri, tmp_path):
    with pytest.raises(UserError, match=uri.split(":")[0]), tracking_server(uri, tmp_path):
        pass
