"""A real cluster, as `coldray cluster up` starts it, with a token and folders of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest


class Started:
    """A cluster and how to run commands for it."""

    def __init__(self, folder: Path) -> None:
        self.home, self.folder = folder / "home", folder
        (folder / "user").mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        # Unix sockets have short paths, so Ray's folder is not below pytest's.
        self.environment = kept | {"HOME": str(folder / "user"), "RAY_TMPDIR": str(folder)}
        self.environment |= {"RAY_agent_register_timeout_ms": "120000", "PYTHONPATH": os.getcwd()}
        names = ("port", "dashboard-port", "client-port", "mlflow-port", "prometheus-port", "grafana-port")
        with ExitStack() as held:
            sockets = [held.enter_context(closing(socket.socket())) for _ in names]
            for taken in sockets:
                taken.bind(("127.0.0.1", 0))
            self.ports = {name: taken.getsockname()[1] for name, taken in zip(names, sockets, strict=True)}

    def run(self, *arguments: str):
        """Run `coldray cluster ARGUMENTS` over this cluster's home; return the finished process."""
        command = [
            sys.executable,
            "-m",
            "coldray",
            "cluster",
            arguments[0],
            "--home",
            str(self.home),
            *arguments[1:],
        ]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )

    def up(self, *more: str):
        """Run `up` with this cluster's ports."""
        ports = [part for name, port in self.ports.items() for part in (f"--{name}", str(port))]
        return self.run("up", "--cpus", "2", *ports, *more)


@pytest.fixture(scope="package")
def started():
    """Return a cluster that runs while the tests of this folder do."""
    folder = Path(tempfile.mkdtemp(prefix="coldray-", dir="/tmp"))
    cluster = Started(folder)
    try:
        done = cluster.up()
        assert done.returncode == 0, done.stderr
        yield cluster
    finally:
        cluster.run("down")
        shutil.rmtree(folder, ignore_errors=True)
