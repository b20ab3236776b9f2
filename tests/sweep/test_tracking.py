"""What is written to a real server: runs are taken up again, nothing is doubled, writers do not collide."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow import MlflowClient

from coldray.errors import ServiceError, UserError
from coldray.sweep import artifacts as a
from coldray.sweep.tracking import Tracker

pytestmark = pytest.mark.mlflow


def children(uri, parent):
    client = MlflowClient(uri)
    experiment = client.get_run(parent).info.experiment_id
    return client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")


def test_a_cell_is_written_as_it_is_read(mlflow_uri, make_sweep, tmp_path):
    sweep = make_sweep("written", seeds=(1,), ks=(10,))
    tracker = Tracker(mlflow_uri, "written")
    parent = tracker.start_sweep(sweep.sweep)
    cell = sweep.sweep["cells"][1]
    run_id = sweep.log_cell(tracker, parent, cell, tmp_path)
    run = MlflowClient(mlflow_uri).get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "method": "delta+knn+gate",
        "seed": "1",
        "k": "10",
        "dim": "32",
        "dataset": "data/made-up",
    }
    assert run.data.tags["mlflow.parentRunId"] == parent
    assert run.data.tags["coldray.cell_id"] == cell["cell_id"]
    names = {item.path for item in MlflowClient(mlflow_uri).list_artifacts(run_id)}
    assert names == {a.TASK, a.EVALUATION, a.RANKS, a.TRANSFER}
    history = MlflowClient(mlflow_uri).get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(0, 5), (1, 4), (2, 3)]
    assert tracker.finished_cells(parent) == {cell["cell_id"]: run_id}


def test_one_press_in_a_sweeps_description_shows_k_against_cold_ndcg(
    mlflow_uri, make_sweep, tmp_path, browser
):
    parent, runs = make_sweep("compared", seeds=(1, 2), ks=(3, 10)).log(mlflow_uri, "compared", tmp_path)
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(Tracker(mlflow_uri, "compared").page(parent))
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=f"Compare {len(runs)} cells").click()
    axes = opened.value.locator(".axis-title")
    axes.last.wait_for()
    assert {"k", "seed", "cold_ndcg_at_10"} <= set(axes.all_text_contents())
    page.context.close()


def test_a_sweep_that_is_started_again_keeps_its_run(mlflow_uri, make_sweep):
    sweep = make_sweep("again", seeds=(1,), ks=(10,)).sweep
    tracker = Tracker(mlflow_uri, "again")
    parent = tracker.start_sweep(sweep)
    tracker.finish_sweep(parent, "KILLED")
    assert Tracker(mlflow_uri, "again").start_sweep(sweep) == parent
    assert MlflowClient(mlflow_uri).get_run(parent).info.status == "RUNNING"
    MlflowClient(mlflow_uri).delete_run(parent)
    assert tracker.start_sweep(sweep) != parent


def test_a_killed_trial_takes_up_its_run(mlflow_uri, make_sweep):
    sweep = make_sweep("killed", seeds=(1,), ks=(10,)).sweep
    tracker = Tracker(mlflow_uri, "killed")
    parent, cell = tracker.start_sweep(sweep), sweep["cells"][0]
    run_id = tracker.start_cell(parent, cell, {"dim": 32})
    tracker.log_epochs(run_id, [{"epoch": 0, "train_loss": 2.0}, {"epoch": 1, "train_loss": 1.5}])
    tracker.fail_run(run_id, "the node went away")
    other = Tracker(mlflow_uri, "killed")
    assert other.start_cell(parent, cell, {"dim": 32}) == run_id
    other.log_epochs(run_id, [{"epoch": 1, "train_loss": 1.4}, {"epoch": 2, "train_loss": 1.2}])
    history = MlflowClient(mlflow_uri).get_metric_history(run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(0, 2.0), (1, 1.5), (2, 1.2)]
    assert len(children(mlflow_uri, parent)) == 1


def test_of_several_unfinished_runs_the_newest_goes_on(mlflow_uri, make_sweep):
    sweep = make_sweep("several", seeds=(1,), ks=(10,)).sweep
    tracker = Tracker(mlflow_uri, "several")
    parent, cell = tracker.start_sweep(sweep), sweep["cells"][0]
    old = tracker.start_cell(parent, cell, {})
    client = MlflowClient(mlflow_uri)
    tags = client.get_run(old).data.tags
    new = client.create_run(
        tracker.experiment_id, start_time=client.get_run(old).info.start_time + 5, tags=tags
    )
    assert tracker.start_cell(parent, cell, {}) == new.info.run_id
    assert {run.info.run_id: run.info.status for run in children(mlflow_uri, parent)} == {
        old: "KILLED",
        new.info.run_id: "RUNNING",
    }


def test_two_processes_make_one_experiment(mlflow_uri):
    code = (
        f"from coldray.sweep.tracking import Tracker; print(Tracker({mlflow_uri!r}, 'raced').experiment_id)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0, 0]


def test_many_threads_make_one_experiment(mlflow_uri):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: Tracker(mlflow_uri, "raced by threads").experiment_id, range(16)))
    assert len(found) == 1


def test_nothing_is_printed(mlflow_uri, make_sweep, tmp_path, capfd):
    make_sweep("quiet", seeds=(1,), ks=(10,)).log(mlflow_uri, "quiet", tmp_path)
    assert capfd.readouterr().out == ""


def test_a_deleted_experiment_is_named(mlflow_uri):
    client = MlflowClient(mlflow_uri)
    client.delete_experiment(Tracker(mlflow_uri, "deleted").experiment_id)
    with pytest.raises(UserError, match="deleted: this MLflow experiment has been deleted"):
        Tracker(mlflow_uri, "deleted")


def test_a_sweep_of_another_form_is_refused(mlflow_uri, make_sweep):
    sweep = make_sweep("form").sweep | {"format": 2}
    with pytest.raises(UserError, match=r"sweep\.json"):
        Tracker(mlflow_uri, "form").start_sweep(sweep)


def test_a_server_that_went_away_is_a_service_error(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9"):
        Tracker("http://127.0.0.1:9", "gone")


def test_many_trials_write_at_once(mlflow_uri, make_sweep, tmp_path):
    sweep = make_sweep("crowd", seeds=range(8), ks=(1, 10, 100))
    parent = Tracker(mlflow_uri, "crowd").start_sweep(sweep.sweep)

    def write(numbered):
        number, cell = numbered
        folder = tmp_path / str(number)
        folder.mkdir()
        return sweep.log_cell(Tracker(mlflow_uri, "crowd"), parent, cell, folder)

    cells = sweep.sweep["cells"]
    with ThreadPoolExecutor(len(cells)) as pool:
        written = list(pool.map(write, enumerate(cells)))
    assert len(written) > 30
    assert Tracker(mlflow_uri, "crowd").finished_cells(parent) == {
        cell["cell_id"]: run_id for cell, run_id in zip(cells, written, strict=True)
    }
