"""How fast the service answers, and what faults cost it.

    python benchmarks/graph.py --items 1000000 --folder /tmp/graphs      # makes the graph
    python benchmarks/serving.py --graph /tmp/graphs/1000000 --rate 50 --seconds 60
    python benchmarks/serving.py --graph /tmp/graphs/10000 --rate 50 --seconds 600 --replicas 2 --faults

Requests go out at fixed times, whether or not earlier ones were answered, and their latency counts from then. Histories are
five random items. `--faults` adds and removes items meanwhile, as versions of the graph that another process writes, and kills
a retriever after a third of the time. The made-up graphs' vectors have 32 numbers, and so has the sentence model that is made
here for them.
"""

import os

# As `coldray serve up` does.
os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
os.environ.setdefault("RAY_SERVE_ENABLE_DIRECT_INGRESS", "0")

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import ray
from ray import serve
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer

from coldray.encode.sentence_model import default_folder
from coldray.graph.store import GraphStore
from coldray.serving.app import build

PORT = 8077


def make_model(folder: Path, dim: int) -> None:
    """Make a sentence model with vectors of `dim` numbers: the packaged one's tokenizer, and random vectors of tokens."""
    tokenizer = Tokenizer.from_file(str(default_folder() / "tokenizer.json"))
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=dim)]).save(str(folder))


def start(args: argparse.Namespace) -> None:
    """Start Ray and the service, in this process."""
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": PORT})
    settings = {
        "serves": {"engine": "coldrag", "graph": str(args.graph)},
        "access": {"open": True},
        "limits": {"timeout_s": 60},
        "replicas": args.replicas,
    }
    serve.run(build(settings), name="coldray", route_prefix="/")


async def load(path: str, bodies: list[bytes] | None, rate: float, seconds: float) -> dict[str, Any]:
    """Ask at a fixed rate; return latencies in ms and how many answers had each status."""
    latencies: list[float] = []
    statuses: dict[str, int] = {}
    began = time.perf_counter() + 1  # all are waiting by then

    async def one(session: aiohttp.ClientSession, number: int) -> None:
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        try:
            if bodies is None:
                asked = session.get(path)
            else:
                headers = {"Content-Type": "application/json"}
                asked = session.post(path, data=bodies[number % len(bodies)], headers=headers)
            async with asked as answer:
                await answer.read()
                status = str(answer.status)
        except aiohttp.ClientError as error:
            status = type(error).__name__
        statuses[status] = statuses.get(status, 0) + 1
        latencies.append(1000 * (time.perf_counter() - due))

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{PORT}", connector=connector) as session:
        await asyncio.gather(*(one(session, number) for number in range(int(rate * seconds))))
    return {"ms": np.percentile(latencies, [50, 95, 99, 100]).round(1).tolist(), "statuses": statuses}


def replicas(deployment: str) -> list[psutil.Process]:
    name = f"ray::ServeReplica:coldray:{deployment}"
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if name in " ".join(process.info["cmdline"] or [])
    ]


def memory() -> dict[str, float]:
    """Return the memory of each deployment's replicas, GB."""
    return {
        name: round(sum(process.memory_info().rss for process in replicas(name)) / 1e9, 2)
        for name in ("ingress", "retriever", "writer")
    }


CHANGE = """
import sys, time
sys.path.insert(0, sys.argv[1])
from graph_data import Graph, embed
from coldray.graph.store import writing
graph, folder, until, number = Graph(1000), sys.argv[2], time.time() + float(sys.argv[3]), 0
while time.time() < until:
    with writing(folder) as writer:
        number += 1
        tables = graph.tables(slice(number % 900, number % 900 + 1), f"new{number}-")
        gone = [f"new{number - 1}-{(number - 1) % 900}"] if number > 1 else []
        writer.apply(*tables, [item for item in gone if item in writer.contents(gone)], embed, 0.95)
        writer.commit()
    time.sleep(float(sys.argv[4]))
print(number)
"""


def kill_one() -> None:
    replicas("retriever")[0].kill()


def faults(args: argparse.Namespace) -> tuple[subprocess.Popen[str], threading.Timer]:
    """Begin to change the graph, and set a time for a retriever to be killed."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", CHANGE, here, str(args.graph), str(args.seconds), str(args.pause)]
    changing = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    killing = threading.Timer(args.seconds / 3, kill_one)
    killing.start()
    return changing, killing


def histories(graph: Path) -> list[bytes]:
    store = GraphStore.open(str(graph))
    random = np.random.default_rng(1)
    positions = random.choice(np.flatnonzero(store.is_item), (500, 5))
    return [json.dumps({"history": store.item_ids(row), "k": 10}).encode() for row in positions]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--graph", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--pause", type=float, default=5, help="seconds between two changes of the graph")
    args = parser.parse_args()
    model = args.graph.with_name(f"{args.graph.name}-model")
    if not model.exists():
        make_model(model, 32)
    llm = {"engine": "openai", "model": "none"}
    (args.graph / "build.json").write_text(json.dumps({"llm": llm, "sentence_model": str(model)}))
    bodies = histories(args.graph)
    began = time.perf_counter()
    start(args)
    print(f"up after {time.perf_counter() - began:.1f} s; memory in GB: {memory()}", flush=True)
    asyncio.run(load("/v1/recommend", bodies, args.rate / 2, 10))  # to warm up
    changing, killing = faults(args) if args.faults else (None, None)
    minutes = max(1, round(args.seconds / 60))
    for part in range(minutes):
        found = asyncio.run(load("/v1/recommend", bodies, args.rate, args.seconds / minutes))
        print(
            f"minute {part + 1}: p50, p95, p99, max {found['ms']} ms; {found['statuses']}; {memory()}",
            flush=True,
        )
    if changing is not None and killing is not None:
        killing.join()
        print(f"versions written meanwhile: {changing.communicate()[0].strip()}")
    overhead = asyncio.run(load("/healthz", None, args.rate, 20))
    print(f"/healthz, Serve and HTTP alone: p50, p95, p99, max {overhead['ms']} ms; {overhead['statuses']}")


if __name__ == "__main__":
    main()
