"""A sweep spread over three nodes, and what becomes of it when one is lost, MLflow is away, or a trial eats all memory."""

import signal
import time

import pytest
from mlflow import MlflowClient

from tests.chaos.conftest import finish
from tests.plugins.nodes import until

pytestmark = pytest.mark.chaos


def disturbed(sweeps, undisturbed, name: str, disturb) -> str:
    """Run the sweep, disturb it in its middle, check that it comes to the same bits; return what that cost."""
    before = time.monotonic()
    process = sweeps.start(name)
    until(lambda: sweeps.training(name), what="a training")
    disturb()
    finish(process)
    cost = time.monotonic() - before - undisturbed["seconds"]
    assert sweeps.results(name) == undisturbed["results"]
    return f"{cost:+.0f} s of {undisturbed['seconds']:.0f} s"


def busy_worker(cluster) -> str:
    """Return the name of a node without the driver in which a trial runs."""
    seen: set[str] = set()
    until(lambda: seen.update(cluster.trials() & {"one", "two"}) or seen, what="a trial on a worker node")
    return min(seen)


def test_a_sweep_spreads_over_nodes(undisturbed) -> None:
    assert len(undisturbed["places"]) > 1
    assert (
        len(undisturbed["results"]) == 2 * 12 + 4
    )  # ranks and metrics of twelve cells, what was transferred of four


def test_a_node_killed_in_training_costs_time_alone(sweeps, undisturbed, tell) -> None:
    cost = disturbed(
        sweeps, undisturbed, "killed-node", lambda: sweeps.cluster.kill(busy_worker(sweeps.cluster))
    )
    tell("a worker node loses its power while it trains", "nothing: the same bits", cost)


def test_a_spot_machine_that_is_taken_back_costs_time_alone(sweeps, undisturbed, tell) -> None:
    def interrupt() -> None:
        name = busy_worker(sweeps.cluster)
        program = sweeps.cluster.programs[name]
        program.process().send_signal(signal.SIGTERM)
        time.sleep(30)  # what clouds give
        if program.family():
            sweeps.cluster.kill(name)

    cost = disturbed(sweeps, undisturbed, "spot", interrupt)
    tell("a spot machine is asked to end (SIGTERM), and is gone 30 s later", "nothing: the same bits", cost)


def test_mlflow_that_is_away_for_a_minute_gets_its_results_later(sweeps, undisturbed, tell) -> None:
    def away() -> None:
        sweeps.cluster.kill("mlflow")
        time.sleep(60)
        sweeps.cluster.start_mlflow()

    cost = disturbed(sweeps, undisturbed, "away", away)
    rows = sweeps.report("away")
    assert sum(len(row["seeds"]) for row in rows) == 12
    tell("MLflow is killed and comes back after a minute", "nothing: every run has its result", cost)


def test_a_clock_that_is_wrong_by_an_hour_changes_nothing(
    sweeps, undisturbed, tell, tmp_path, monkeypatch
) -> None:
    # A library that fakes the clock for all of a process breaks waiting in Ray's core, so Python's alone is wrong.
    ahead = "import time\n\n_now = time.time\ntime.time = lambda: _now() + 3600\n"
    (tmp_path / "ahead").mkdir()
    (tmp_path / "ahead" / "sitecustomize.py").write_text(ahead)
    path = f"{tmp_path / 'ahead'}:{sweeps.cluster.environment['PYTHONPATH']}"
    sweeps.cluster.kill("two")
    sweeps.cluster.start("two", "env", f"PYTHONPATH={path}")

    sweeps.cluster.kill("one")  # so that the other has to take its trials
    until(lambda: "one" not in sweeps.cluster.alive().values(), what="the other node's end")
    cost = disturbed(sweeps, undisturbed, "skew", lambda: None)
    sweeps.cluster.kill("two")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", sweeps.cluster.mlflow_token)
    client = MlflowClient(sweeps.cluster.tracking_uri)
    runs = client.search_runs([client.get_experiment_by_name("skew").experiment_id])
    assert max(run.info.start_time for run in runs) / 1000 > time.time() + 3000  # it was wrong
    tell("the clock of a node's Python programs is an hour ahead", "nothing: the same bits", cost)
