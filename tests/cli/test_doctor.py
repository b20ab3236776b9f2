"""`coldray doctor` reports what is there, what is not, and how to get it."""

import json
import platform
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import ray
import torch
import yaml
from click.testing import CliRunner

from coldray.cli import doctor as module
from coldray.cli.doctor import (
    Check,
    doctor,
    experiment,
    installed,
    language_models,
    model_memory,
    search,
    show,
)
from coldray.errors import UserError
from coldray.llm.settings import VLLM, OpenAI


def report(*arguments: str) -> dict[str, dict[str, str]]:
    result = CliRunner().invoke(
        doctor, [*arguments, "--json"], catch_exceptions=False, env={"RAY_ADDRESS": None}
    )
    assert result.exit_code == 0, result.output
    return {check["name"]: check for check in json.loads(result.stdout)["checks"]}


def test_json_reports_what_is_installed() -> None:
    checks = report()
    assert checks["ray"]["found"] == f"ray {version('ray')}"
    assert checks["mlflow"]["found"] == f"mlflow {version('mlflow')}"
    assert checks["torch"]["found"].startswith(torch.__version__)
    assert checks["text encoder"]["state"] == "ok"
    assert checks["cluster"]["state"] == "ok"
    assert {check["state"] for check in checks.values()} <= {"ok", "warn", "missing"}
    assert all(check["found"] for check in checks.values())


def test_table_names_every_check() -> None:
    result = CliRunner().invoke(doctor, catch_exceptions=False, env={"COLUMNS": "200", "RAY_ADDRESS": None})
    assert result.exit_code == 0
    for name in report():
        assert name in result.stdout


def test_table_prints_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    show([Check("faiss", "warn", "[red]odd[/red]", "pip install 'coldray[faiss-gpu]'")])
    printed = capsys.readouterr().out
    assert "[red]odd[/red]" in printed
    assert "coldray[faiss-gpu]" in printed


def test_installed_takes_the_first_that_is_there() -> None:
    assert installed("no-such-package", "click") == f"click {version('click')}"
    assert installed("no-such-package") is None


def test_a_gpu_machine_is_told_of_the_gpu_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "installed", lambda *names: "faiss-cpu 1.15.1" if "faiss-cpu" in names else None
    )
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert search(has_gpu=True).state == "warn"
    assert search(has_gpu=False) == Check("faiss", "ok", "faiss-cpu 1.15.1")
    assert language_models().fix == "make install LOCK=llm"


def test_a_dead_address_is_said_at_once() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    started = time.monotonic()
    check = report("--address", address)["cluster"]
    assert (check["state"], check["found"]) == ("missing", f"{address} does not answer")
    assert "coldray cluster up" in check["fix"]
    assert time.monotonic() - started < 30


def test_an_experiment_without_its_data_says_how_to_make_it(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(f"name: tiny\ndataset: {tmp_path}/absent\nresources: {{cpus: 4096}}\n")
    checks = report(str(file))
    assert checks["data"]["state"] == "missing"
    assert "coldray data split" in checks["data"]["found"]
    assert checks["trial"]["state"] == "warn"
    assert "--address" in checks["trial"]["fix"]


def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text("name: tiny\ndataset: x\nno_such_key: 1\n")
    with pytest.raises(UserError, match="no_such_key"):
        experiment(str(file), [])


def test_the_memory_of_a_language_model_is_told(tmp_path: Path) -> None:
    shape = {"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    (tmp_path / "config.json").write_text(json.dumps(shape | {"num_key_value_heads": 4, "vocab_size": 1000}))
    small, large = (VLLM(model=str(tmp_path), cache_gib=gib) for gib in (0.1, 4096))
    assert model_memory(small).state == "ok"
    assert "GiB of GPU memory at least" in model_memory(small).found
    if not torch.cuda.is_available():
        assert model_memory(large).state == "warn"
        assert "llm.cache_gib" in model_memory(large).fix
    missing = model_memory(VLLM(model=str(tmp_path / "absent" / "model")))
    assert (missing.state, "cannot be read" in missing.found) == ("missing", True)
    assert model_memory(OpenAI(url="http://127.0.0.1:1/v1", model="x")).state == "ok"


@pytest.mark.ray
def test_a_sample_of_users_tells_tokens_and_hours(ray_session, asking_settings, tmp_path: Path) -> None:
    file = tmp_path / "comparison.yaml"
    file.write_text(yaml.safe_dump(asking_settings().model_dump(mode="json", exclude_unset=True)))
    result = CliRunner().invoke(
        doctor, [str(file), "--sample", "3", "--json"], catch_exceptions=False, env={"RAY_ADDRESS": None}
    )
    told = json.loads(result.stdout)["forecast"]
    assert [row["what"] for row in told] == ["llm", "coldrag"]
    assert all(row["prompt_tokens"] > 0 for row in told)
    table = CliRunner().invoke(
        doctor, [str(file), "--sample", "3"], catch_exceptions=False, env={"RAY_ADDRESS": None}
    )
    assert "tokens read" in table.stdout
    assert "all" in table.stdout


def test_a_sample_is_of_an_evaluation() -> None:
    with pytest.raises(UserError, match="name its file"):
        CliRunner().invoke(doctor, ["--sample", "3"], catch_exceptions=False)


@pytest.mark.ray
def test_a_cluster_is_described(ray_session: None) -> None:
    """In a process of its own, as for a person: this one is connected already."""
    address = ray.get_runtime_context().gcs_address
    code = "from coldray.cli.doctor import doctor; doctor()"
    command = [sys.executable, "-c", code, "--address", address, "--json"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (check,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "cluster"]
    assert check["state"] == "ok"
    assert f"{address}: 1 node(s), 4 CPU, 0 GPU" in check["found"]
