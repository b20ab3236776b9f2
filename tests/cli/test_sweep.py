import json
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from coldray.cli.main import coldray
from coldray.errors import UserError


def invoke(*words: str):
    result = CliRunner().invoke(coldray, ["sweep", *words], catch_exceptions=True, standalone_mode=False)
    return result.exception


def test_help_names_every_command() -> None:
    said = CliRunner().invoke(coldray, ["sweep", "--help"]).output
    assert all(name in said for name in ("run", "resume", "report", "validate", "ui"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": "x"}, "dataset: Field required"),
        ({"name": "x", "dataset": "d", "speed": 3}, "speed: no such key"),
        ({"name": "x", "dataset": "nowhere"}, "nowhere/splits/leave_one_out: is not a split"),
    ],
)
def test_a_faulty_sweep_is_told_in_one_line_and_nothing_is_written(tmp_path, content, said) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(content))
    error = invoke("run", str(file), "--runs", str(tmp_path / "runs"))
    assert isinstance(error, UserError)
    assert said in str(error)
    assert "\n" not in str(error)
    assert not (tmp_path / "runs").exists()


def test_the_exit_code_of_a_users_mistake_is_two(tmp_path) -> None:
    words = [sys.executable, "-c", "from coldray.cli.main import main; main()", "sweep", "resume", "none"]
    done = subprocess.run([*words, "--runs", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "has no sweep none" in done.stderr


def test_a_runs_folder_that_cannot_be_used_is_one_line(tiny_settings, tmp_path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(tiny_settings().model_dump(mode="json", exclude_unset=True)))
    words = [sys.executable, "-c", "from coldray.cli.main import main; main()", "sweep", "run", str(file)]
    done = subprocess.run([*words, "--runs", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"coldray: {file}/sweeps/tiny/settings.json: Not a directory; name a folder\n"


@pytest.mark.ray
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_sweep_from_file_to_json(tiny_settings, tmp_path, ray_session, mlflow_uri) -> None:
    file = tmp_path / "x.yaml"
    settings = tiny_settings(name="cli", seeds=(42,), k=(3,), training={"max_epochs": 1})
    file.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))
    words = ["sweep", "run", str(file), "--runs", str(tmp_path), "--tracking-uri", mlflow_uri, "--json"]
    done = CliRunner().invoke(coldray, words, standalone_mode=False)
    assert done.exception is None, done.stderr
    assert [row["method"] for row in json.loads(done.stdout)["results"]] == [
        "delta",
        "delta+knn+gate",
        "history-average",
    ]
    assert "3 of 3 cells to run" in done.stderr
    assert "report:" in done.stderr
