"""Three machines made a cluster by the commands of docs/cluster.md: each has a network address and a home of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tests.plugins.nodes import Network

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]

NAMES = ("first", "second", "third")
TOKENS = (".ray/auth_token", ".coldray/tracking_token")


class Machines:
    """Three machines and a laptop that reaches them; all see one folder, `shared`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cm", dir="/tmp"))  # Unix sockets have short paths
        self.network = Network(NAMES)
        self.shared = self.folder / "shared"
        for name in (*NAMES, "laptop"):
            (self.folder / name / "ray").mkdir(parents=True)
        self.shared.mkdir()
        Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108 - Ray's own choice
        self.head = self.network.address("first") if self.network.separate else ""

    def run(self, machine: str, *words: str):
        """Run `coldray WORDS` on a machine, and return the finished process."""
        home = self.folder / machine
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        mine = {"HOME": str(home), "PYTHONPATH": os.getcwd(), "RAY_agent_register_timeout_ms": "120000"}
        mine |= {"RAY_AUTH_MODE": "token"}
        # Ray's folder is at the same place of each, and not the same: `ip netns exec` gives a machine mounts of its own.
        own = ("sh", "-c", 'mount --bind "$0" /tmp/ray && exec "$@"', str(home / "ray"))
        inside = [] if machine == "laptop" else [*self.network.inside(machine), *own]
        command = [*inside, sys.executable, "-m", "coldray", *words]
        return subprocess.run(
            command, env=kept | mine, cwd=home, capture_output=True, text=True, check=False, timeout=400
        )

    def give_tokens(self, machine: str) -> None:
        """Copy the first machine's tokens to the same place of another."""
        for name in TOKENS:
            to = self.folder / machine / name
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.folder / "first" / name, to)

    def close(self) -> None:
        if self.network.separate:  # otherwise nothing was started, and what is mounted would be mounted here
            for name in reversed(NAMES):
                self.run(name, "cluster", "down")
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module")
def machines():
    """Return three machines without anything on them."""
    made = Machines()
    try:
        if not made.network.separate:
            pytest.skip("needs the right to make network namespaces (root, and the package iproute2)")
        yield made
    finally:
        made.close()


def good(done):
    if done.returncode:
        pytest.fail(f"{done.stdout[-4000:]}\n{done.stderr[-2000:]}")
    return done


def test_three_machines_become_a_cluster_that_runs_a_sweep(machines, tiny_settings, tiny_dataset) -> None:
    good(machines.run("first", "cluster", "up", "--host", machines.head, "--cpus", "1"))
    refused = machines.run("second", "cluster", "join", machines.head)
    assert refused.returncode == 2
    assert f"copy Ray's token from the same place of {machines.head}" in refused.stderr
    for name in NAMES[1:]:
        machines.give_tokens(name)
        good(machines.run(name, "cluster", "join", machines.head, "--cpus", "1"))
    again = good(machines.run("second", "cluster", "join", machines.head, "--json"))
    assert [program["name"] for program in json.loads(again.stdout)["programs"]] == ["node"]
    assert "joining" not in again.stderr

    machines.give_tokens("laptop")
    shutil.copytree(tiny_dataset, machines.shared / "tiny")
    plain = tiny_settings(dataset=str(machines.shared / "tiny"), seeds=(1, 2, 3)).model_dump(
        mode="json", exclude_unset=True
    )
    (machines.folder / "laptop" / "sweep.yaml").write_text(yaml.safe_dump(plain))
    page = f"http://{machines.head}:8265"
    words = ["sweep", "run", "sweep.yaml", "--runs", str(machines.shared / "runs")]
    asked = ["cluster", "submit", "--address", page, "--shared", str(machines.shared), "--", *words]
    done = good(machines.run("laptop", *asked))
    assert f"MLflow http://{machines.head}:5000/" in done.stdout
    assert list((machines.shared / "runs").glob("cells/*/ranks.parquet"))

    # Without MLflow's address a sweep starts one of its own, which the other machines do not reach.
    (machines.folder / "first" / "sweep.yaml").write_text(yaml.safe_dump(plain))
    words = ["sweep", "run", "sweep.yaml", "--runs", str(machines.shared / "alone")]
    refused = machines.run("first", *words, "--address", f"{machines.head}:6379")
    assert refused.returncode == 2
    assert "give --tracking-uri" in refused.stderr


def test_each_machine_leaves_by_itself(machines) -> None:
    assert machines.run("third", "cluster", "down").stdout == "ended 1 program\n"
    assert machines.run("second", "cluster", "down").stdout == "ended 1 program\n"
    assert machines.run("first", "cluster", "down").stdout == "ended 2 programs\n"
