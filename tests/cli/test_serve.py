"""`coldray serve`: the whole command, with a Ray of its own, as a user starts and stops it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
import yaml
from click.testing import CliRunner

from coldray import storage
from coldray.cli.serve import read_config, serve
from coldray.encode.sentence_model import TextEncoder
from coldray.errors import UserError
from coldray.graph.store import writing


@pytest.fixture
def config(catalogue, tmp_path):
    """Return a function that writes a configuration for a small graph."""
    graph = str(tmp_path / "graph")
    with writing(graph) as writer:
        writer.apply(
            *catalogue.tables({"1": ["ink"], "2": ["ink"], "3": ["tea"]}), [], TextEncoder(None), 0.95
        )
        writer.commit()
    storage.write_json(f"{graph}/build.json", {"llm": {"engine": "openai", "model": "none"}})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def write(**access):
        args = {"serves": {"engine": "coldrag", "graph": graph}, "access": access}
        application = {
            "name": "coldray",
            "route_prefix": "/",
            "import_path": "coldray.serving.app:build",
            "args": args,
        }
        text = {"http_options": {"port": port}, "proxy_location": "HeadOnly", "applications": [application]}
        path = tmp_path / "serve.yaml"
        path.write_text(yaml.safe_dump(text))
        return str(path)

    return write


@pytest.mark.ray
@pytest.mark.slow
def test_up_brings_it_up_says_how_to_ask_traces_and_leaves_nothing(config, collector, tmp_path):
    tokens = str(tmp_path / "tokens.yaml")
    command = [
        sys.executable,
        "-c",
        "from coldray.cli.main import main; main()",
        "serve",
        "up",
        config(tokens=tokens),
    ]
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "PYTHONUNBUFFERED": "1"}
    environment |= {"OTEL_BSP_SCHEDULE_DELAY": "200"}
    log = (tmp_path / "log.txt").open("w+")
    service = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )

    def said():
        return (tmp_path / "log.txt").read_text()

    try:
        deadline = time.monotonic() + 180
        while "try: " not in said():
            assert service.poll() is None, said()[-3000:]
            assert time.monotonic() < deadline, said()[-3000:]
            time.sleep(0.2)
        (line,) = re.findall(r"^try: +(curl .*)$", said(), re.M)
        answer = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=60)
        assert json.loads(answer.stdout)["items"][0]["item_id"] == "2"
        (page,) = re.findall(r"^page: +(\S+)$", said(), re.M)
        assert re.search(r"^http://127\.0\.0\.1:\d+/#token=\S{40,}$", page)
        document = subprocess.run(
            ["curl", "-s", page], capture_output=True, text=True, check=True, timeout=60
        )
        assert "<title>coldray</title>" in document.stdout
        deadline = time.monotonic() + 60
        while not goes_on(collector.spans):
            assert time.monotonic() < deadline, collector.spans
            time.sleep(0.2)
        assert oct(os.stat(tokens).st_mode)[-3:] == "600"
        ours = psutil.Process(service.pid).children(recursive=True)
    finally:
        service.send_signal(signal.SIGINT)
    assert service.wait(60) == 0, said()[-3000:]
    assert not psutil.wait_procs(ours, timeout=30)[1]
    assert "Traceback" not in said()


def goes_on(spans):
    """Return whether the trace of a request goes through ingress and retriever, which export by themselves."""
    traces = [trace for name, trace in spans if "recommend" in name]
    return len(traces) > len(set(traces))


def test_a_token_is_made_and_shown_once(tmp_path):
    path = str(tmp_path / "tokens.yaml")
    made = CliRunner().invoke(serve, ["token", path, "--name", "shop"])
    token = made.stdout.strip()
    assert len(token) >= 40
    assert token not in open(path).read()  # noqa: SIM115 - read once


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"http_options": {"host": "192.0.2.1"}}, "access.open is for"),
        ({"applications": [{"import_path": "coldray.serving.app:build", "args": {"serves": {}}}]}, "serves"),
        ({"applications": 3}, "applications"),
        ({"application": []}, "applications"),
    ],
)
def test_a_configuration_that_does_not_do_is_refused(config, tmp_path, change, message):
    path = config(open=True)
    text = yaml.safe_load((tmp_path / "serve.yaml").read_text())
    text = {
        name: value
        for name, value in (text | change).items()
        if name != "applications" or "application" not in change
    }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(text))
    with pytest.raises(UserError, match=message):
        read_config(path)


@pytest.mark.parametrize("text", ["[1", "just text", "3"])
def test_what_is_no_configuration_is_refused(tmp_path, text):
    (tmp_path / "serve.yaml").write_text(text)
    with pytest.raises(UserError, match="is no configuration"):
        read_config(str(tmp_path / "serve.yaml"))
    with pytest.raises(UserError, match="cannot be read"):
        read_config(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("command", ["status", "deploy"])
def test_no_dashboard_is_said_so(config, command):
    arguments = [
        command,
        *([config(open=True)] if command == "deploy" else []),
        "--address",
        "http://127.0.0.1:9",
    ]
    made = CliRunner().invoke(serve, arguments)
    assert isinstance(made.exception, UserError)
    assert "no Ray dashboard answers" in str(made.exception)


def test_an_application_that_is_not_ours_is_left_to_ray(config, tmp_path):
    path = config(open=True)
    text = yaml.safe_load((tmp_path / "serve.yaml").read_text())
    text["applications"] = [{"name": "other", "import_path": "os:system", "route_prefix": "/"}]
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(text))
    schema = read_config(path)
    from coldray.cli.serve import _run

    with pytest.raises(UserError, match="is not ours"):
        _run(schema.applications[0])
