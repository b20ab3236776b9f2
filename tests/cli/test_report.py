"""`coldray sweep report` and `validate` as they are typed."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from coldray.cli.report import report, validate
from coldray.errors import ServiceError, UserError
from coldray.sweep.server import embedded_server

pytestmark = pytest.mark.mlflow


@pytest.fixture(scope="module")
def sweep(mlflow_uri, make_sweep, tmp_path_factory):
    made = make_sweep("typed", seeds=(1, 2), ks=(10,))
    made.log(mlflow_uri, "typed", tmp_path_factory.mktemp("typed"))
    return made


def call(command, *arguments, **environment):
    result = CliRunner().invoke(command, list(map(str, arguments)), env=environment)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_report_from_another_machine_needs_the_address_only(mlflow_uri, sweep, tmp_path):
    result = call(report, "typed", "--tracking-uri", mlflow_uri, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "delta+knn+gate K=10" in result.stdout
    assert (tmp_path / "out" / "report.html").exists()


def test_the_address_may_come_from_the_environment(mlflow_uri, sweep, tmp_path):
    result = call(report, "typed", "--json", "--out", tmp_path / "out", MLFLOW_TRACKING_URI=mlflow_uri)
    said = json.loads(result.stdout)
    assert said["sweep"] == "typed"
    assert str(tmp_path / "out" / "report.html") in said["files"]


def test_validate_says_that_all_is_well(mlflow_uri, sweep):
    result = call(validate, "typed", "--tracking-uri", mlflow_uri)
    assert result.exit_code == 0
    assert result.stdout == "typed: 6 runs may be counted, 0 may not\n"


def test_without_an_address_a_server_is_started_over_the_folder(make_sweep, tmp_path):
    made = make_sweep("at home", seeds=(1, 2), ks=(10,))
    with embedded_server(tmp_path / "runs" / "mlflow") as uri:
        from coldray.sweep.tracking import Tracker

        tracker = Tracker(uri, "coldray")
        parent = tracker.start_sweep(made.sweep)
        for cell in made.sweep["cells"][1:]:
            made.log_cell(tracker, parent, cell, tmp_path / "files")
    result = call(validate, "--runs", tmp_path / "runs", "--json", MLFLOW_TRACKING_URI="")
    assert result.exit_code == 2
    said = json.loads(result.stdout)
    assert len(said["counted"]) == 5
    assert said["left_out"] == [{"run_id": "", "cell": "delta seed=1", "reason": "has no run"}]


def test_what_is_not_there_is_named(mlflow_uri, tmp_path):
    with pytest.raises(UserError, match=r"holds no sweep; name its folder with --runs"):
        call(report, "--runs", tmp_path / "nothing", MLFLOW_TRACKING_URI="")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(UserError, match="has no sweep absent; it has: "):
        call(report, "absent", "--tracking-uri", mlflow_uri)
    with pytest.raises(ServiceError, match="no MLflow server answers there"):
        call(validate, "--tracking-uri", "http://127.0.0.1:9")


def test_help_imports_nothing_heavy():
    code = "import sys, coldray.cli.report; print([m for m in ('mlflow', 'torch', 'ray', 'matplotlib') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
