"""`coldray cluster` from the command line; what it starts is tested in tests/cluster."""

from click.testing import CliRunner

from coldray.cli.cluster import cluster
from coldray.errors import UserError


def run(*arguments):
    # Named here, so that it is put back: Ray reads it once a process, and other tests' Ray would be started with half of it.
    return CliRunner().invoke(cluster, [*arguments], env={"RAY_AUTH_MODE": "token"})


def test_where_nothing_runs_that_is_said(tmp_path):
    home = ["--home", str(tmp_path / "none")]
    assert run("status", *home).output.startswith("nothing runs")
    assert run("env", *home).output == ""
    for command in (["submit", *home, "--", "sweep", "run", "x.yaml"], ["jobs", *home], ["stop", *home, "j"]):
        error = run(*command).exception
        assert isinstance(error, UserError)
        assert "start one with coldray cluster up" in str(error)


def test_an_address_that_is_no_dashboard_is_refused(tmp_path):
    found = run("jobs", "--address", "127.0.0.1:6379").exception
    assert isinstance(found, UserError)
    assert "give http://HOST:PORT" in str(found)
    found = run("jobs", "--address", "http://127.0.0.1:9").exception
    assert isinstance(found, UserError)
    assert "no Ray dashboard answers there" in str(found)


def test_what_is_no_machine_is_refused(tmp_path):
    refused = {"no.such.machine.invalid": "no machine's address", "0.0.0.0": "all addresses"}  # noqa: S104
    for command in (["up", "--host"], ["join"]):
        for host, reason in refused.items():
            error = run(*command, host, "--home", str(tmp_path)).exception
            assert isinstance(error, UserError)
            assert reason in str(error)


def test_mlflow_alone_is_not_monitored(tmp_path):
    assert run("up", "--no-ray", "--monitoring", "--home", str(tmp_path)).exit_code == 2


def test_ports_are_ports():
    assert run("up", "--port", "0").exit_code == 2
