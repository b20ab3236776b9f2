"""A backbone that two workers of Ray Train train together."""

import os
import signal
import threading
import time

import psutil
import pytest

from coldray.sweep.run import run_sweep
from coldray.sweep.validate import read_sweep, validate

pytestmark = [pytest.mark.ray, pytest.mark.mlflow, pytest.mark.slow]


def swept(settings, uri, runs, workers):
    settings = settings.model_copy(
        update={
            "name": f"spread-{workers}",
            "resources": settings.resources.model_copy(update={"workers": workers}),
        }
    )
    outcome = run_sweep(settings, str(runs), uri, say=lambda line: None)
    assert not outcome.failed
    with read_sweep(uri, outcome.run_id) as record:
        results, left_out = validate(record)
    assert not left_out
    return {(found.cell.variant, found.cell.seed): found for found in results}


def test_two_workers_train_as_well_as_one(tiny_settings, ray_session, mlflow_uri, tmp_path):
    settings = tiny_settings(methods=("delta", "delta+knn+gate"), seeds=(42,), training={"max_epochs": 8})
    one = swept(settings, mlflow_uri, tmp_path / "one", 1)
    two = swept(settings, mlflow_uri, tmp_path / "two", 2)
    assert one.keys() == two.keys()
    for key in one:
        ours, theirs = (next(iter(found[key].values.values()))["NDCG@10"] for found in (one, two))
        assert ours == pytest.approx(theirs, abs=0.1)


def test_training_goes_on_where_a_worker_was_killed(tiny_settings, ray_session, mlflow_uri, tmp_path):
    settings = tiny_settings(methods=("delta",), seeds=(42,), training={"max_epochs": 40, "patience": 40})
    killed = []

    def kill():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            time.sleep(0.1)
            if list((tmp_path / "runs" / "backbones").glob("*/state.safetensors")):
                for process in psutil.process_iter(["cmdline"]):
                    if "ray::RayTrainWorker" in " ".join(process.info["cmdline"] or []) and not killed:
                        os.kill(process.pid, signal.SIGKILL)
                        killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    swept(settings, mlflow_uri, tmp_path / "runs", 2)
    killer.join()
    assert killed
