"""What chaos tests tell of themselves: a table of what was staged, what was lost, and what it cost."""

import json
import subprocess
import time
from pathlib import Path

import pytest
import yaml

ROWS: list[tuple[str, str, str]] = []


@pytest.fixture
def tell():
    """Return a function that puts a line into the table; a test calls it when all that it claims has been checked."""
    return lambda staged, lost, cost: ROWS.append((staged, lost, cost))


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table of `docs/reliability.md`."""
    if ROWS:
        terminalreporter.write_line("\n| staged | lost | cost |\n| --- | --- | --- |")
        for row in ROWS:
            terminalreporter.write_line(f"| {' | '.join(row)} |")


class Sweeps:
    """Starts a sweep on the cluster and reads what came of it."""

    def __init__(self, cluster, settings, folder: Path) -> None:
        self.cluster, self.settings, self.folder = cluster, settings, folder

    def start(self, name: str, runs: str | None = None, **variables: str) -> subprocess.Popen[str]:
        """Start a sweep whose results are in a folder of its own."""
        file = self.folder / f"{name}.yaml"
        plain = self.settings.model_dump(mode="json", exclude_unset=True) | {"name": name}
        file.write_text(yaml.safe_dump(plain))
        where = runs or str(self.folder / name)
        return self.cluster.popen("sweep", "run", str(file), "--runs", where, "--json", **variables)

    def training(self, name: str) -> bool:
        """Return whether a training has saved its state, so that there is a middle to be killed in."""
        return bool(list((self.folder / name).glob("backbones/*/state.safetensors")))

    def results(self, name: str) -> dict[str, bytes]:
        """Return the bytes of all results but times."""
        kept = ("ranks.parquet", "cold-start-evaluation.csv.gz", "transfer.parquet")
        files = (self.folder / name).glob("cells/*/*")
        return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in files if p.name in kept}

    def report(self, name: str) -> list[dict]:
        """Return the rows of a sweep's report, which is made from MLflow alone."""
        out, _ = finish(self.cluster.popen("sweep", "report", name, "--json"))
        made = json.loads(out)
        assert made["left_out"] == []
        return made["results"]


def finish(process: subprocess.Popen[str], seconds: float = 1500) -> tuple[str, str]:
    """Return what a process said on both streams, once it ended well."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err[-3000:]
    return out, err


@pytest.fixture
def slow_settings(tiny_settings):
    """Return settings of twelve cells whose trainings last long enough to be killed in their middle."""
    training = {"max_epochs": 100, "patience": 100, "batch_size": 8}
    return tiny_settings(training=training, k=(3,), seeds=(1, 2, 3, 4))


@pytest.fixture
def sweeps(cluster, slow_settings, tmp_path):
    """Return what starts sweeps on the cluster."""
    return Sweeps(cluster, slow_settings, tmp_path)


UNDISTURBED: dict[str, object] = {}


@pytest.fixture
def undisturbed(sweeps):
    """Return (results, seconds) of the sweep when nothing happens to it, on all three nodes."""
    if not UNDISTURBED:
        before = time.monotonic()
        finish(sweeps.start("undisturbed"))
        seconds = time.monotonic() - before
        places = {actor["node_id"] for actor in sweeps.cluster.actors("ResourceTrainable")}
        UNDISTURBED.update(results=sweeps.results("undisturbed"), seconds=seconds, places=places)
    return UNDISTURBED
