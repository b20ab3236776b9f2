import os

import pytest
from mlflow import MlflowClient
from ray import tune

from coldray import storage
from coldray.sweep.config import Resources
from coldray.sweep.grid import make_cells, sweep_record
from coldray.sweep.tracking import Tracker
from coldray.sweep.trial import FAILURE, CellTrial, SweepContext

pytestmark = [pytest.mark.ray, pytest.mark.mlflow]


@pytest.fixture
def context(tiny_settings, ray_session, mlflow_uri, tmp_path, request):
    settings = tiny_settings(name=request.node.name[:60].replace("[", "-").replace("]", ""))
    cells = make_cells(settings)
    record = sweep_record(settings, cells)
    parent = Tracker(mlflow_uri, settings.name).start_sweep(record)
    runs = str(tmp_path)
    return cells, SweepContext(
        record["sweep_id"], settings.name, mlflow_uri, parent, settings.dataset, runs, True, Resources()
    )


def started(cell, context):
    """Return a trial as Tune makes it."""
    return tune.with_parameters(CellTrial, context=context)({"cell": cell})


def finish(trial):
    results = []
    while not results or not results[-1].get("done"):
        results.append(trial.step())
    return results


def test_one_actor_runs_cell_after_cell_and_tells_mlflow(context) -> None:
    cells, shared = context
    trial = started(cells[0], shared)
    assert len(finish(trial)) == 4 + 1
    transferring = next(cell for cell in cells if cell.k and cell.seed == cells[0].seed)
    trial.reset_config({"cell": transferring})
    assert len(finish(trial)) == 1
    client = MlflowClient(shared.tracking_uri)
    run = client.get_run(trial.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["k"] == "3"
    assert run.data.metrics["mean_gate"] > 0
    names = {item.path for item in client.list_artifacts(trial.run_id)}
    assert names == {"task.json", "cold-start-evaluation.csv.gz", "ranks.parquet", "transfer.parquet"}


def test_a_trial_that_dies_and_starts_again_keeps_its_run_and_misses_no_epoch(context) -> None:
    cells, shared = context
    first = started(cells[0], shared)
    first.step()
    first.step()
    second = started(cells[0], shared)
    assert [result.get("epoch") for result in finish(second)] == [1, 2, 3, 4, None]
    assert second.run_id == first.run_id
    history = MlflowClient(shared.tracking_uri).get_metric_history(second.run_id, "train_loss")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4]


def test_what_trying_again_cannot_mend_is_a_result(context) -> None:
    cells, shared = context
    folder = storage.join(shared.runs, "backbones", str(cells[0].backbone_id))
    storage.write_bytes(storage.join(folder, "state.safetensors"), b"broken")
    trial = started(cells[0], shared)
    result = trial.step()
    assert result["done"]
    assert "delete it to start anew" in result[FAILURE]
    run = MlflowClient(shared.tracking_uri).get_run(trial.run_id)
    assert run.info.status == "FAILED"


def test_a_full_disk_is_said_and_the_cell_can_be_run_again(context, monkeypatch) -> None:
    cells, shared = context

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    trial = started(cells[0], shared)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = trial.step()
    assert result["done"]
    assert result[FAILURE].startswith(shared.runs)
    assert result[FAILURE].endswith("No space left on device; free some space, then run the same again")
    run = MlflowClient(shared.tracking_uri).get_run(trial.run_id)
    assert (run.info.status, run.data.tags["coldray.error"]) == ("FAILED", result[FAILURE])
    again = started(cells[0], shared)
    assert finish(again)[-1]["done"]
    assert again.run_id == trial.run_id
    assert MlflowClient(shared.tracking_uri).get_run(trial.run_id).info.status == "FINISHED"
