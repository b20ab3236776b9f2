"""Ray nodes that a test can kill: each with an address of its own in a network namespace, where those may be made."""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import httpx
import psutil
import pytest

from coldray.cluster import processes as p
from coldray.cluster.tracking_app import TOKEN_FILE
from coldray.sweep import server as tracking


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


class Network:
    """A bridge with a namespace for each node; without the right to make them all nodes are at 127.0.0.1."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names, self.made = names, []
        self.separate = os.geteuid() == 0 and shutil.which("ip") is not None and self._make()

    def _make(self) -> bool:
        taken = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
        number = next(n for n in range(1, 255) if f"10.77.{n}." not in taken)
        self.subnet, self.bridge = f"10.77.{number}", f"cr{os.getpid() % 10**6}n{number}"
        try:
            ip("link", "add", self.bridge, "type", "bridge")
        except subprocess.CalledProcessError as error:
            if "File exists" in error.stderr:
                raise
            return False  # a container without the right to
        ip("addr", "add", f"{self.subnet}.254/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for place, name in enumerate(self.names, start=1):
            space, outer = f"{self.bridge}-{name}", f"{self.bridge}v{place}"
            ip("netns", "add", space)
            self.made.append(space)
            ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", outer, "master", self.bridge, "up")
            for device in ("lo", "eth0"):
                ip("-n", space, "link", "set", device, "up")
            ip("-n", space, "addr", "add", f"{self.subnet}.{place}/24", "dev", "eth0")
        return True

    def inside(self, name: str) -> list[str]:
        """Return what to put before a command that is to run on a node."""
        return ["ip", "netns", "exec", f"{self.bridge}-{name}"] if self.separate else []

    def address(self, name: str | None = None) -> str:
        """Return a node's address; without a name, that at which nodes find services beside the cluster."""
        if not self.separate:
            return "127.0.0.1"
        return f"{self.subnet}.{254 if name is None else 1 + self.names.index(name)}"

    def close(self) -> None:
        for space in self.made:
            ip("netns", "delete", space)
        if self.separate:
            ip("link", "delete", self.bridge)


def free_port() -> int:
    with contextlib.closing(socket.socket()) as tried:
        tried.bind(("", 0))
        return tried.getsockname()[1]


class Nodes:
    """A head and workers with a CPU each, behind a token, and an MLflow behind another."""

    NAMES = ("head", "one", "two")

    def __init__(self, **environment: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cn", dir="/tmp"))  # Unix sockets have short paths
        self.network = Network(self.NAMES)
        self.token, self.mlflow_token = secrets.token_hex(32), secrets.token_hex(32)
        p.write_private(self.folder / ".ray" / "auth_token", self.token)
        p.write_private(self.folder / "tracking_token", self.mlflow_token)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        self.ports = {name: free_port() for name in ("ray", "dashboard", "mlflow")}
        self.tracking_uri = f"http://{self.network.address()}:{self.ports['mlflow']}"
        self.address = f"{self.network.address('head')}:{self.ports['ray']}"
        self.page = f"http://{self.network.address('head')}:{self.ports['dashboard']}"
        self.environment = kept | {
            "HOME": str(self.folder),
            "PYTHONPATH": os.getcwd(),
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_agent_register_timeout_ms": "120000",
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_TRACKING_TOKEN": self.mlflow_token,
        }
        self.environment |= environment
        self.programs: dict[str, p.Program] = {}
        self.commands: list[subprocess.Popen[str]] = []
        self.cpus = 1
        """of each node"""
        self.store = 150 * 2**20
        """bytes of each node's object store"""
        self.of_head: list[str] = []
        """further options of the head's `ray start`"""

    def start_mlflow(self, backend: str | None = None) -> None:
        """Start MLflow over the same records as before."""
        folder = self.folder / "mlflow"
        if backend is None:
            tracking.create_database(folder)
        hosts = f"{tracking.ALLOWED_HOSTS},{self.network.address()}:*"
        secret = {"MLFLOW_BACKEND_STORE_URI": backend or tracking.database_uri(folder)}
        variables = {name: self.environment[name] for name in self.environment if name not in tracking.UNSET}
        variables |= tracking.ENVIRONMENT | secret | {TOKEN_FILE: str(self.folder / "tracking_token")}
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "coldray", "--workers", "1"]
        command += ["--host", self.network.address(), "--port", str(self.ports["mlflow"])]
        command += [
            "--serve-artifacts",
            "--artifacts-destination",
            str(folder / "artifacts"),
            "--allowed-hosts",
            hosts,
        ]
        self._start("mlflow", command, variables, lambda: self._answers(f"{self.tracking_uri}/health"))

    def start(self, name: str, *before: str) -> None:
        """Start a node, or start it again; `before` stands before its command."""
        head = name == "head"
        variables = self.environment | {"RAY_TMPDIR": str(self.folder / name)}
        command = [*self.network.inside(name), *before, str(Path(sys.executable).with_name("ray")), "start"]
        command += ["--block", "--num-cpus", str(self.cpus), "--object-store-memory", str(self.store)]
        command += ["--node-ip-address", self.network.address(name), "--disable-usage-stats"]
        command += ["--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0"]
        command += ["--resources", json.dumps({name: 1})]
        if head:
            command += ["--head", "--port", str(self.ports["ray"])]
            command += ["--ray-client-server-port", str(free_port())]
            command += ["--include-dashboard", "true", "--dashboard-host", self.network.address("head")]
            command += ["--dashboard-port", str(self.ports["dashboard"]), *self.of_head]
        else:
            command += ["--address", self.address]
        before_ids = set() if head else set(self.alive())
        self._start(name, command, variables, lambda: bool(set(self.alive()) - before_ids))

    def _start(self, name, command, variables, answers) -> None:
        log = self.folder / "logs" / f"{name}.log"
        self.programs[name] = p.start(name, command, variables, ("", ""), log)
        p.wait_until(self.programs[name], answers, 180)

    def ask(self, path: str) -> dict:
        """Return what the dashboard answers, {} if it does not."""
        known = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.page}{path}", headers=known)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - ours
                return json.load(answer)
        except OSError:
            return {}

    def end_services(self) -> None:
        """End what Serve serves."""
        known = {"Authorization": f"Bearer {self.token}"}
        httpx.delete(f"{self.page}/api/serve/applications/", headers=known, timeout=60).raise_for_status()

    def alive(self) -> dict[str, str]:
        """Return the name of each node that is alive, by its id."""
        found = self.ask("/api/v0/nodes?filter_keys=state&filter_predicates=%3D&filter_values=ALIVE")
        rows = found.get("data", {}).get("result", {}).get("result", [])
        return {row["node_id"]: next(n for n in self.NAMES if n in row["resources_total"]) for row in rows}

    def actors(self, kind: str) -> list[dict]:
        """Return the actors of classes whose name has `kind`, dead ones too."""
        rows = self.ask("/api/v0/actors?limit=1000").get("data", {}).get("result", {}).get("result", [])
        return [row for row in rows if kind in row["class_name"]]

    def trials(self) -> set[str]:
        """Return the names of the nodes on which trials run."""
        alive = self.alive()
        running = [a["node_id"] for a in self.actors("ResourceTrainable") if a["state"] == "ALIVE"]
        return {alive[node] for node in running if node in alive}

    def _answers(self, url: str) -> bool:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - ours
        except OSError:
            return False
        return True

    def kill(self, name: str) -> None:
        """End a node or MLflow at once, as a machine that loses its power."""
        family = self.programs.pop(name).family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=30)

    def command(self, *words: str) -> list[str]:
        """Return the command line of `coldray WORDS` on the head."""
        return [*self.network.inside("head"), sys.executable, "-m", "coldray", *words]

    def popen(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Start `coldray WORDS` on the head."""
        settings = self.environment | {"RAY_ADDRESS": self.address, "RAY_TMPDIR": str(self.folder / "head")}
        process = subprocess.Popen(
            self.command(*words), env=settings | variables, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.commands.append(process)
        return process

    def end_commands(self) -> None:
        """End commands that a test has left, as one that fails does, so that they disturb no other."""
        for process in self.commands:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.commands.clear()

    def heal(self) -> None:
        """Start what does not run."""
        if "mlflow" not in self.programs:
            self.start_mlflow()
        for name in self.NAMES:
            if name not in self.programs or self.programs[name].process() is None:
                self.start(name)

    def close(self) -> None:
        self.end_commands()
        for program in reversed(list(self.programs.values())):
            p.stop(program)
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def until(holds, what: str) -> None:
    """Wait up to five minutes until something holds. Raises AssertionError if it never does."""
    end = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < end, f"did not come: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="package")
def nodes():
    """Return three nodes and MLflow; those that a test has killed are there again for the next."""
    made = Nodes()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def cluster(nodes):
    """Return the three nodes, all alive."""
    nodes.heal()
    yield nodes
    nodes.end_commands()
