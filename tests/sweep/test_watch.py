"""A running sweep is followed from MLflow alone."""

import io

import pytest
from mlflow import MlflowClient
from rich.console import Console

from coldray.errors import UserError
from coldray.sweep.tracking import Tracker
from coldray.sweep.watch import MethodProgress, Progress, follow, look, view

pytestmark = pytest.mark.mlflow


def shown(progress):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view(progress))
    return console.export_text()


def test_what_is_done_runs_and_failed_is_told(mlflow_uri, make_sweep, tmp_path):
    made = make_sweep("followed")
    tracker = Tracker(mlflow_uri, "followed")
    parent = tracker.start_sweep(made.sweep, "http://127.0.0.1:1/#/jobs/01000000")
    before = look(mlflow_uri, "followed")
    assert (before.done, before.cells, before.seconds_left) == (0, len(made.sweep["cells"]), None)
    one, two, three = made.sweep["cells"][:3]
    done = made.log_cell(tracker, parent, one, tmp_path)
    running = tracker.start_cell(parent, two, {})
    tracker.log_epochs(running, [{"epoch": 3, "validation_ndcg_at_10": 0.5}])
    tracker.fail_run(tracker.start_cell(parent, three, {}), "no room")
    progress = look(mlflow_uri, "followed")
    methods = {method.method: method for method in progress.methods}
    assert methods[one["method"]].done == 1
    score = MlflowClient(mlflow_uri).get_run(done).data.metrics["cold_ndcg_at_10"]
    assert methods[one["method"]].cold_ndcg == score
    assert sum(method.failed for method in progress.methods) == 1
    assert f"seed {two['seed']} validation NDCG@10 0.5000" in [
        text for method in progress.methods for text in method.running
    ]
    assert progress.seconds_left is not None
    text = shown(progress)
    assert f"followed: 1 of {progress.cells} cells done, about" in text
    assert f"{score:.4f}" in text
    run = MlflowClient(mlflow_uri).get_run(running)
    assert run.data.tags["coldray.ray_job"] == "http://127.0.0.1:1/#/jobs/01000000"
    assert (
        "Ray job](http://127.0.0.1:1"
        in MlflowClient(mlflow_uri).get_run(parent).data.tags["mlflow.note.content"]
    )
    assert tracker.page(running).endswith(f"/runs/{running}")


def test_following_ends_with_the_sweep(mlflow_uri, make_sweep):
    made = make_sweep("ended")
    tracker = Tracker(mlflow_uri, "ended")
    parent = tracker.start_sweep(made.sweep)
    seen = []
    for progress in follow(mlflow_uri, "ended", 0.1):
        seen.append(progress.status)
        if len(seen) == 2:
            tracker.finish_sweep(parent, "FAILED")
    assert seen == ["RUNNING", "RUNNING", "FAILED"]
    with pytest.raises(UserError, match="has no sweep nobody"):
        look(mlflow_uri, "nobody")


@pytest.mark.parametrize(("seconds", "said"), [(5, "5 s"), (300, "5 min"), (7200, "2.0 h")])
def test_what_is_left_is_told_in_the_unit_that_suits_it(seconds, said):
    method = MethodProgress("delta", 2, 1, 0, (), 0.1)
    assert f"about {said} left" in shown(Progress("name", "RUNNING", (method,), seconds))
