"""A comparison whose methods ask one language model on Ray Serve, which dies in the middle."""

import json
import time

import psutil
import pytest
import yaml

from tests.chaos.conftest import finish
from tests.plugins.nodes import until

pytestmark = pytest.mark.chaos


@pytest.fixture
def compare(cluster, asking_settings, smollm, tmp_path):
    """Return a function that starts a comparison into a folder of its own, once the model is on Serve."""
    words = ("--app", "model", "--max-length", "1024", "--address", cluster.address)
    finish(cluster.popen("llm", "serve", smollm, *words))
    model = {"engine": "serve", "app": "model"}
    settings = asking_settings(methods=("popularity", "llm", "llmrank-recency"), zeroshot={"llm": model})

    def start(name: str):
        plain = settings.model_dump(mode="json", exclude_unset=True) | {"name": name}
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(plain))
        return cluster.popen("evaluate", str(file), "--runs", str(tmp_path / name), "--json")

    yield start
    cluster.end_services()


def died(cluster) -> bool:
    """Kill the engine of the model; return whether there was one."""
    replicas = [a["pid"] for a in cluster.actors("ServeReplica:model") if a["state"] == "ALIVE"]
    engines = [
        child
        for pid in replicas
        for child in psutil.Process(pid).children(recursive=True)
        if "VLLM::EngineCore" in " ".join(child.cmdline())
    ]
    for engine in engines:
        engine.kill()
    return bool(engines)


def test_a_model_killed_in_a_comparison_costs_time_alone(cluster, compare, tell, tmp_path) -> None:
    before = time.monotonic()
    whole = json.loads(finish(compare("whole"))[0])
    seconds = time.monotonic() - before

    before = time.monotonic()
    process = compare("killed")
    until(lambda: list((tmp_path / "killed").rglob("answers/**/*.parquet")), what="an answer")
    assert died(cluster)
    made = json.loads(finish(process)[0])
    cost = time.monotonic() - before - seconds
    assert made["left_out"] == []
    assert {row["method"]: len(row["seeds"]) for row in made["results"]} == {
        row["method"]: len(row["seeds"]) for row in whole["results"]
    }
    tell(
        "the language model that a comparison asks, on Ray Serve, is killed",
        "nothing: every cell has its result",
        f"{cost:+.0f} s of {seconds:.0f} s",
    )
