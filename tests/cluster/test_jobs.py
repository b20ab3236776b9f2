"""Commands as jobs: packed without data and secrets, refused where nodes could not see what they name."""

import json
import time

import pytest
import yaml

from coldray.cluster.jobs import check_command, check_paths, packed
from coldray.errors import UserError


@pytest.fixture
def sweep(tmp_path, tiny_dataset):
    """Return the YAML file of a small sweep."""
    file = tmp_path / "sweep.yaml"
    settings = {"name": "job", "dataset": tiny_dataset, "split": "tiny", "embedding": None}
    settings |= {"methods": ["popularity", "item-knn"], "baseline": "popularity", "seeds": [1, 2]}
    file.write_text(yaml.safe_dump(settings))
    return file


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_sweep_runs_as_a_job_and_is_shown_as_it_goes(started, sweep, tmp_path):
    done = started.run("submit", "--", "sweep", "run", str(sweep), "--runs", str(tmp_path / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[4/4]" in done.stdout
    assert f"MLflow http://127.0.0.1:{started.ports['mlflow-port']}" in done.stdout
    listed = json.loads(started.run("jobs", "--json").stdout)
    assert listed[0]["status"] == "SUCCEEDED"
    assert listed[0]["command"].startswith("coldray sweep run")
    assert listed[0]["job"] in done.stderr
    assert "[4/4]" in started.run("logs", listed[0]["job"]).stdout


@pytest.mark.ray
@pytest.mark.slow
def test_a_job_that_fails_says_so_and_one_that_is_detached_can_be_stopped(started, sweep, tmp_path):
    done = started.run("submit", "--", "sweep", "run", str(tmp_path / "none.yaml"))
    assert done.returncode == 2
    assert "name an existing YAML file" in done.stdout
    assert "failed; its output says why" in done.stderr
    made = started.run(
        "submit", "--detach", "--json", "--", "sweep", "run", str(sweep), "--runs", str(tmp_path / "r")
    )
    job = json.loads(made.stdout)["job"]
    assert f"{job}: " in started.run("stop", job).stdout
    deadline = time.monotonic() + 60
    while (status := json.loads(started.run("jobs", "--json").stdout)[0])["status"] not in (
        "STOPPED",
        "SUCCEEDED",
    ):
        assert time.monotonic() < deadline, status
    assert "no job of" in started.run("stop", "raysubmit_none").stderr


@pytest.mark.parametrize("command", [["recommend", "x"], ["sweep", "ui"], ["serve", "up"], ["--help"]])
def test_what_does_not_end_or_needs_a_terminal_is_no_job(command):
    with pytest.raises(UserError, match="is no job; submit one of: sweep run"):
        check_command(command)


def test_passwords_are_not_sent():
    with pytest.raises(UserError, match="a password in an address"):
        check_command(["sweep", "run", "f.yaml", "--tracking-uri=http://me:secret@host:5000"])


def test_paths_that_nodes_do_not_see_are_refused(sweep, tiny_dataset, tmp_path, monkeypatch):
    command = ["sweep", "run", str(sweep)]
    with pytest.raises(UserError, match="--runs: is a folder of this machine"):
        check_paths(command, [])
    command += ["--runs", "s3://bucket/runs"]
    with pytest.raises(UserError, match=r"sweep.yaml: .*: is a path of this machine.*--shared FOLDER"):
        check_paths(command, [])
    check_paths(command, [tiny_dataset])
    with pytest.raises(UserError, match="is a path of this machine"):
        check_paths(command, [tiny_dataset + "-other"])
    with pytest.raises(UserError, match="is a path of this machine"):
        check_paths(["encode", str(tmp_path)], [])
    with pytest.raises(UserError, match="is a path of this machine"):
        check_paths(["graph", "build", f"--graph={tmp_path}"], [])
    check_paths(["encode", "s3://bucket/data", "--columns", "title"], [])
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    check_paths(["data", "prepare", "s3://bucket/raw", "--out", "s3://bucket/data"], [])
    sweep.write_text("a: [")
    with pytest.raises(UserError, match="is no YAML"):
        check_paths(command, [])


def test_code_and_yaml_files_are_packed_and_nothing_else(sweep, tmp_path):
    (tmp_path / "tokens.yaml").write_text("secret")
    with packed(["sweep", "run", str(sweep), f"--config={sweep}"]) as (folder, sent):
        assert sent == ["sweep", "run", "job/2/sweep.yaml", "--config=job/3/sweep.yaml"]
        assert (folder / sent[2]).read_text() == sweep.read_text()
        assert (folder / "coldray" / "graph").is_dir()
        assert sorted(path.name for path in folder.iterdir()) == ["coldray", "job"]
        assert not list(folder.rglob("*.pyc"))
    assert not folder.exists()
