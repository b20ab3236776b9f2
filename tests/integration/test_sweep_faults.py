"""A sweep through the command line that is killed in its middle, in every way that can be staged, loses nothing."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow, pytest.mark.chaos]


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from coldray.cli.main import main; main()", "sweep", *words]


def write(settings, path: Path) -> str:
    path.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))
    return str(path)


def start(file: str, runs: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", file, "--runs", str(runs), *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_state(process: subprocess.Popen[str], runs: Path) -> None:
    """Wait until a training has saved its state, so that there is a middle to be killed in."""
    deadline = time.monotonic() + 180
    while not list(runs.glob("backbones/*/state.safetensors")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline, "no training began"
        time.sleep(0.05)


def tables(report: str) -> object:
    """Return a report's tables without the ids of its runs, which differ between any two sweeps."""
    content = json.loads(report)
    rows = [{key: row[key] for key in ("method", "k", "seeds", "metrics")} for row in content["results"]]
    return rows, content["differences"], content["headline"]


def results(runs: Path) -> dict[str, bytes]:
    kept = ("ranks.parquet", "cold-start-evaluation.csv.gz", "transfer.parquet")
    return {f"{p.parent.name}/{p.name}": p.read_bytes() for p in runs.glob("cells/*/*") if p.name in kept}


def left_over(group: int) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if p.pid != group and os.getpgid(p.pid) == group]


def worker(process: subprocess.Popen[str]) -> psutil.Process:
    """Return a process in which trials run. Ray renames it between two calls, so that it is not there at every moment."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "ResourceTrainable" in " ".join(child.cmdline()):  # Tune's name for it
                    return child
        time.sleep(0.05)
    raise AssertionError("no trial runs")


@pytest.fixture
def slow_settings(tiny_settings):
    """Return settings whose trainings last long enough to be killed in their middle."""
    return tiny_settings(name="killed", training={"max_epochs": 20, "patience": 20, "batch_size": 8})


def test_a_killed_driver_resumes_to_the_same_bits(slow_settings, tmp_path) -> None:
    file = write(slow_settings, tmp_path / "sweep.yaml")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # Beside each other, as most of it is starting.
    process, other = start(file, killed), start(file, whole, "--json")
    wait_for_state(process, killed)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = results(killed)
    words = ("resume", "killed", "--runs", str(killed), "--json")
    resumed = subprocess.run(command(*words), capture_output=True, text=True, check=True)
    done, said = other.communicate(timeout=1500)
    assert other.returncode == 0, said
    assert before != results(whole) == results(killed)
    assert tables(resumed.stdout) == tables(done)
    assert tables(done)


def test_ctrl_c_stops_says_how_to_go_on_and_leaves_nothing_behind(slow_settings, tmp_path) -> None:
    file = write(slow_settings, tmp_path / "sweep.yaml")
    signals = (signal.SIGINT, signal.SIGTERM)
    started = [(sent, start(file, tmp_path / sent.name), tmp_path / sent.name) for sent in signals]
    for sent, process, runs in started:
        wait_for_state(process, runs)
        process.send_signal(sent)
    for _, process, _ in started:
        _, said = process.communicate(timeout=600)
        assert process.returncode == 130
        assert "coldray sweep resume killed" in said
        _, alive = psutil.wait_procs(left_over(process.pid), timeout=60)
        assert not alive


def test_a_killed_worker_is_replaced(slow_settings, tmp_path) -> None:
    process = start(write(slow_settings, tmp_path / "sweep.yaml"), tmp_path)
    wait_for_state(process, tmp_path)
    worker(process).kill()
    _, said = process.communicate(timeout=1500)
    assert process.returncode == 0, said
    assert "[8/8]" in said
