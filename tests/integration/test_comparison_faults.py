"""The language model of a comparison dies, and every method is there at the end."""

import threading
import time
from pathlib import Path

import psutil
import pytest

from coldray.sweep.run import run_sweep
from coldray.sweep.validate import read_sweep, validate


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_killed_model_costs_no_cell(ray_session, mlflow_uri, asking_settings, smollm, tmp_path):
    llm = {"engine": "vllm", "model": smollm, "max_length": 1024, "concurrency": 4, "cache_gib": 0.5}
    settings = asking_settings(
        name="dying", methods=("popularity", "llm"), seeds=(1, 2), zeroshot={"llm": llm, "list_tokens": 100}
    )
    answers, killed = Path(tmp_path, "runs", "answers"), []

    def kill():
        """Kill the replica once its first answers are there."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not killed:
            time.sleep(0.2)
            if any(answers.glob("part-*")):
                for process in psutil.process_iter(["cmdline"]):
                    if "ServeReplica:coldray-dying-llm" in " ".join(process.info["cmdline"] or []):
                        process.kill()
                        killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    said: list[str] = []
    outcome = run_sweep(settings, str(tmp_path / "runs"), mlflow_uri, say=said.append)
    killer.join()
    assert killed
    assert not outcome.failed
    with read_sweep(mlflow_uri, outcome.run_id) as record:
        results, left_out = validate(record)
    assert [(found.cell.method, found.cell.seed) for found in results] == [
        (method, seed) for method in settings.methods for seed in settings.seeds
    ]
    assert all("model died" in found.reason or "stopped" in found.reason for found in left_out)
